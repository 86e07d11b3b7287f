"""How much at a time, and how often: a gate for concurrency and a token bucket for each caller."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bgclient.web.errors import Refusal, busy


class Gate:
    """Lets ``size`` through at a time; others wait ``wait_s`` for their turn, then are refused.

    No caller gets all places: a caller gets another one while at least as many are free as it has already. Each waiting
    caller gets its first turn before any gets a second.

    ``waited`` is called with the seconds that each of them waited, whether its turn came or not.
    """

    def __init__(
        self, size: int, *, wait_s: float = 0.0, waited: Callable[[float], object] | None = None
    ) -> None:
        self._size = size
        self._wait_s = wait_s
        self._waited = waited or (lambda seconds: None)
        self._held: Counter[str] = Counter()
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0
        self.inside = 0

    @asynccontextmanager
    async def passed(self, caller: str = "") -> AsyncIterator[None]:
        """Inside.

        Raises:
            Refusal: 503, or 429 where only this caller has too many places, with Retry-After.
        """
        began = time.perf_counter()
        self.waiting += 1
        try:
            await self._enter(caller)
        finally:
            self.waiting -= 1
            self._waited(time.perf_counter() - began)
        try:
            yield
        finally:
            self._leave(caller)

    def _admits(self, caller: str) -> bool:
        free = self._size - self.inside
        return free > 0 and (self._wait_s > 0 or self._held[caller] <= free)

    def _take(self, caller: str) -> None:
        self.inside += 1
        self._held[caller] += 1

    def _leave(self, caller: str) -> None:
        self.inside -= 1
        self._held -= Counter({caller: 1})  # forgets callers without a place
        self._call_next()

    def _call_next(self) -> None:
        while self._lines and self.inside < self._size:
            caller, line = self._lines.popitem(last=False)
            turn = line.popleft()
            if line:
                self._lines[caller] = line  # behind the others
            if not turn.done():
                self._take(caller)
                turn.set_result(None)

    async def _enter(self, caller: str) -> None:
        if not self._lines and self._admits(caller):
            self._take(caller)
            return
        if self._wait_s <= 0:
            if self.inside < self._size:
                raise Refusal(
                    429,
                    "rate_limit_exceeded",
                    "Too many requests at a time",
                    "The free places are kept for other callers; try again",
                    {"Retry-After": "2"},
                )
            raise busy("Too many requests at a time; try again")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came at the same moment
                self._leave(caller)
            turn.cancel()
            if isinstance(error, TimeoutError):
                raise busy("Too many requests at a time; try again", retry_after_s=self._wait_s) from None
            raise


@dataclass(frozen=True)
class Allowance:
    """What a caller may still do."""

    limit: int
    """Requests a minute."""
    remaining: int
    """Requests at once, now."""
    reset_s: float
    """Seconds until the bucket is full again."""

    def headers(self) -> dict[str, str]:
        """As remove.bg names them; the reset is a Unix time."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(math.ceil(time.time() + self.reset_s)),
        }


class RateLimit:
    """A token bucket for each caller: ``burst`` at once, ``per_minute`` in the long run.

    Of the ``max_callers`` that are remembered the longest silent is forgotten first: its bucket is the fullest.
    """

    def __init__(
        self,
        per_minute: int,
        burst: int,
        *,
        max_callers: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_minute = per_minute
        self._burst = float(burst)
        self._max_callers = max_callers
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> Allowance:
        """One request of ``caller``.

        Raises:
            Refusal: 429 with Retry-After.
        """
        now, rate = self._clock(), self._per_minute / 60
        tokens, at = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * rate)
        taken = tokens >= 1
        tokens -= taken
        self._buckets[caller] = tokens, now
        if len(self._buckets) > self._max_callers:
            self._buckets.popitem(last=False)
        allowance = Allowance(self._per_minute, int(tokens), (self._burst - tokens) / rate)
        if not taken:
            wait_s = (1 - tokens) / rate
            raise Refusal(
                429,
                "rate_limit_exceeded",
                "Rate limit exceeded",
                f"{self._per_minute} requests a minute are allowed",
                allowance.headers() | {"Retry-After": str(max(1, math.ceil(wait_s)))},
            )
        return allowance


def network_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, or an IPv6 /64, which one customer has whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)
