"""Connections while no request is under way: they are bounded in number, time and bytes like requests are.

Without this a client that connects and says nothing, says half a request, or does not read its answer keeps a file
descriptor, and the answer's memory, for as long as it likes.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from typing import Any, ClassVar

# not httptools', which loses a body that follows "Upgrade: h2c" (Java's client, curl --http2)
from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol

HEAD_S = 10.0
"""Seconds for the head of a request to arrive, from the connection or from the answer before it."""

HEAD_BYTES = 64 * 1024
"""Of a request's head."""

LEAST_BYTES_S = 10_000
"""Bytes a second that must be taken of an answer."""

LOOK_S = 5.0
"""Between two looks at a connection."""

MAX_SLOW = 2
"""Looks in a row at which too little was taken."""

BACKLOG = 256
"""Connections that may wait to be accepted. asyncio accepts all of them at once, twice before the first that is too
many is closed."""

_OTHER_FILES = 64


def room_for(connections: int) -> tuple[int, int]:
    """How many connections this process can hold, at most ``connections``, and how many may wait to be accepted.

    Raises the soft limit of open files to the hard one. Without a free descriptor a process cannot accept connections,
    and asyncio writes a line to the log for each failed try.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        soft = hard if hard != resource.RLIM_INFINITY else max(soft, 65_536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    backlog = min(BACKLOG, soft // 8)
    return min(connections, max(8, soft - 4 * backlog - _OTHER_FILES)), backlog


class Connection(Protocol):
    """uvicorn's, that ends what only costs.

    With as many connections as ``limit_concurrency``, the one that has been without a request for the longest time
    makes room for the new one.
    """

    _idle: ClassVar[dict[Connection, None]] = {}
    """Without a request, the longest first."""
    _look_again: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio's."""
        super().connection_made(transport)
        self._unsent = self._slow = 0
        self._rests()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            next(iter(self._idle))._end()
        self._look_again = self.loop.call_later(LOOK_S, self._look)

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        super().data_received(data)
        if self._busy:
            self._idle.pop(self, None)
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._end()

    def on_response_complete(self) -> None:
        """uvicorn's."""
        super().on_response_complete()
        self._rests()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self._look_again.cancel()
        self._idle.pop(self, None)
        super().connection_lost(exc)

    @property
    def _busy(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _end(self) -> None:
        """At once: the kernel forgets, too, what it could not send."""
        self._idle.pop(self, None)
        own = self.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _rests(self) -> None:
        self._idle.pop(self, None)
        self._idle[self] = None
        self._since = self.loop.time()
        self._head_bytes = 0

    def _look(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        slow = 0 < self._unsent < unsent + LOOK_S * LEAST_BYTES_S and unsent > 0
        self._slow = self._slow + 1 if slow else 0
        silent = not (self._busy or unsent) and self.loop.time() - self._since > HEAD_S
        self._unsent = unsent
        if silent or self._slow >= MAX_SLOW:
            self._end()
        else:
            self._look_again = self.loop.call_later(LOOK_S, self._look)
