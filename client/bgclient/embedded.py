"""The server of this process: started when first needed, once, and stopped at exit."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from bgclient.errors import NoServer

if TYPE_CHECKING:
    from bgserver import Server

_lock = threading.Lock()
_server: Server | None = None
_owner: int | None = None


def url() -> str:
    """gRPC address of the embedded server; starts it the first time. Safe from any thread.

    A forked child uses its parent's server and leaves it running.

    Raises:
        NoServer: the extra ``server`` is not installed.
        BgError: what ``bgserver`` says when it cannot start.
    """
    global _server, _owner
    with _lock:
        if _server is None:
            try:
                from bgserver import Server
            except ImportError as error:
                raise NoServer(
                    f"BGCLIENT_URL is not set, and no server can be started here ({error}); "
                    "set BGCLIENT_URL=host:8001, or pip install 'bgclient[server]'"
                ) from error
            _server, _owner = Server().start(), os.getpid()
            atexit.register(stop)
        return str(_server.grpc_url)


def stop() -> None:
    """Stop the embedded server, if this process started one. The next ``url()`` starts another."""
    global _server, _owner
    with _lock:
        server, owner = _server, _owner
        _server, _owner = None, None
    if server is not None and owner == os.getpid():
        server.stop()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
