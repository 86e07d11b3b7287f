"""Can this app listen there? Asked before anything starts: uvicorn finds out late, and says it in several log lines."""

from __future__ import annotations

import errno
import socket

from bgclient.web.errors import CannotListen, WebPortBusy


def check_free(host: str, port: int) -> None:
    """Return where ``serve`` could listen.

    Raises:
        CannotListen: it could not; ``WebPortBusy`` where another program does.
    """
    place = f"port {port} on {host}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn's
            trial.bind(address)
    except PermissionError as error:
        raise CannotListen(f"{place}: this user may not; choose one from 1024 with --port") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise WebPortBusy(
                f"{place} is taken; stop the program that listens there, or choose another with --port"
            ) from error
        raise CannotListen(
            f"{place}: {error.strerror or error}; choose an address of this machine with --host"
        ) from error
