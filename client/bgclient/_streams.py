"""Connections of httpcore that end with a whole call, however slowly the other side drips."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import httpcore

_WAKE_S = 0.25
"""How often a thread that waits for bytes looks whether its call is over."""
_PIECE = 64 * 1024
"""Bytes that are written before it looks again."""


class BoundedStream(httpcore.NetworkStream):
    """httpcore's stream; each read and write asks ``left_s`` first.

    Args:
        stream: the connection.
        left_s: seconds that remain for the call; raises once it is over.
    """

    def __init__(self, stream: httpcore.NetworkStream, left_s: Callable[[], float]) -> None:
        self._stream, self._left_s = stream, left_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """At most ``max_bytes``; ``b""`` at the end."""
        while True:
            try:
                return self._stream.read(max_bytes, min(_WAKE_S, self._left_s()))
            except httpcore.ReadTimeout:
                continue

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of ``buffer``."""
        for start in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[start : start + _PIECE], self._left_s())

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> BoundedStream:
        """The same connection, encrypted."""
        return BoundedStream(
            self._stream.start_tls(ssl_context, server_hostname, self._left_s()), self._left_s
        )

    def get_extra_info(self, info: str) -> Any:
        """What httpcore knows of the connection."""
        return self._stream.get_extra_info(info)
