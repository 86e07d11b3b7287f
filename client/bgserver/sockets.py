"""A server's connections as the kernel knows them: bytes on their way to a client, clients that wait for an answer."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

_DUMP = struct.Struct("=IHHIIBBBBI48x")
"""A netlink header, and which sockets to tell of (linux/netlink.h, inet_diag_req_v2 of linux/inet_diag.h)."""
_SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, _DONE, _ERROR = 20, 0x301, 3, 2
_INFO = 2
"""The attribute with the socket's tcp_info."""
_OPEN = 1 << 1 | 1 << 8
"""Established, and closed by the other side alone."""


def unsent(ports: set[int]) -> bool:
    """True while bytes that were written to a connection of these local ports have not arrived."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):  # no IPv6
            for _, local, _, _, queues, *_ in map(str.split, Path(table).read_text().splitlines()[1:]):
                if int(local.rpartition(":")[2], 16) in ports and int(queues.partition(":")[0], 16):
                    return True
    return False


def answered(port: int) -> list[bool]:
    """For each open connection to this local port, whether the last bytes on it went to the client.

    In HTTP/1.1 such a connection has no request: it was answered, and is kept alive. Where bytes came and went in the
    same tick of the kernel's clock (some milliseconds), the order is unknown, and the answer is False.

    Raises:
        OSError: the kernel does not tell.
    """
    return [one for family in (socket.AF_INET, socket.AF_INET6) for one in _answered(family, port)]


def _answered(family: int, port: int) -> Iterator[bool]:
    request = _DUMP.pack(
        *(_DUMP.size, _SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, 0, 0),
        *(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, _OPEN),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as asked:  # NETLINK_SOCK_DIAG
        asked.settimeout(1.0)
        asked.send(request)
        while True:
            reply = asked.recv(1 << 16)
            while reply:
                length, kind = struct.unpack_from("=IH", reply)
                if kind in (_DONE, _ERROR):
                    if kind == _ERROR:
                        raise OSError("the kernel does not tell of sockets")
                    return
                message, reply = reply[16:length], reply[(length + 3) & ~3 :]
                if struct.unpack_from("!H", message, 4)[0] == port:  # of inet_diag_msg
                    yield _sent_last(message[72:])


def _sent_last(attributes: bytes) -> bool:
    while attributes:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == _INFO:  # linux/tcp.h, tcp_info: tcpi_last_data_sent, tcpi_last_data_recv
            sent_ago_ms, received_ago_ms = struct.unpack_from("=I4xI", attributes, 4 + 44)
            return bool(sent_ago_ms < received_ago_ms)
        attributes = attributes[(length + 3) & ~3 :]
    return False
