"""Is everything well? A small photo through the client and the server says so; "ready" alone does not."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from bgclient.client import AsyncClient
from bgclient.errors import BgError
from bgclient.options import Side
from bgclient.web.metrics import Metrics
from bgserver import canary

FRESH_S = 5.0
"""Seconds for which an answer stands."""
TIMEOUT_S = 10.0

_log = logging.getLogger("bgclient.web")


@dataclass(frozen=True)
class Health:
    """How the last canary went."""

    well: bool
    canary_ms: float
    error: str | None = None
    """The error's code; the log has its sentence."""

    def json(self) -> dict[str, Any]:
        """Body of /healthz."""
        said = {"status": "ok" if self.well else "unavailable", "canary_ms": round(self.canary_ms, 1)}
        return said | ({"error": self.error} if self.error else {})


class Canary:
    """Sends a photo the way of all photos, at most once in ``FRESH_S`` however often it is asked."""

    def __init__(self, client: AsyncClient, metrics: Metrics, *, where: Side) -> None:
        self._client = client
        self._where: Side = where
        self._metrics = metrics
        self._one_at_a_time = asyncio.Lock()
        self._last: Health | None = None
        self._at = 0.0

    async def check(self) -> Health:
        """How it is now, or was a moment ago. Does not raise."""
        async with self._one_at_a_time:
            if self._last is None or time.monotonic() - self._at > FRESH_S:
                self._last = await self._asked()
                self._at = time.monotonic()
                self._metrics.canary.set(self._last.well)
            return self._last

    async def _asked(self) -> Health:
        began = time.perf_counter()
        error = None
        try:
            await self._client.cut(canary.fresh_photo(), where=self._where, timeout_s=TIMEOUT_S, edges="none")
        except BgError as raised:
            _log.warning("canary failed: %s", raised, extra={"fields": {"code": raised.code}})
            error = raised.code
        return Health(error is None, (time.perf_counter() - began) * 1e3, error)
