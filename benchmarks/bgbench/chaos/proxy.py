"""A relay whose connections can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator


class Proxy:
    """A TCP relay on loopback that can cut every connection with a reset, as a failing load balancer does."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its address."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()

    def cut(self) -> int:
        """Reset what is open; the number of connections."""
        cut = list(self._open)
        for writer in cut:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return len(cut)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            beyond_reader, beyond = await asyncio.open_connection(self._host, self._port)
        except (OSError, asyncio.CancelledError):  # Python 3.11 prints a traceback for a cancelled handler
            writer.transport.abort()  # no server behind: as if this were not one
            return
        self._open.add(writer)
        try:
            await asyncio.gather(self._copy(reader, beyond), self._copy(beyond_reader, writer))
        finally:
            self._open.discard(writer)

    @staticmethod
    async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass  # cut: the other direction notices by itself
        finally:
            sink.close()
