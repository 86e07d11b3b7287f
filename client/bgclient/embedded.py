"""The tritonserver of this process (``engine="triton"``): started when first needed, once, and stopped at exit."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from bgclient.errors import BgError, NoServer

if TYPE_CHECKING:
    from bgserver import Server

_lock = threading.Lock()
_server: Server | None = None
_owner: int | None = None
_replaced: Server | None = None
"""The one that gave up before ``_server``."""


def url() -> str:
    """gRPC address of the embedded server; starts it the first time. Safe from any thread.

    Its watchdog restarts it on the same address. When that gives up, one other server is started; should that give up
    too, it is the machine's fault or the models', and another start would change nothing.

    A forked child uses its parent's server and leaves it running.

    Raises:
        NoServer: the extra ``server`` is not installed, or two servers gave up.
        BgError: what ``bgserver`` says when it cannot start.
    """
    global _server, _owner, _replaced
    with _lock:
        if _server is not None and _server.state == "failed":
            if _replaced is not None:
                raise NoServer(
                    f"two servers that this process started gave up ({_reason(_replaced)}; {_reason(_server)}); "
                    'see with "bgclient serve" what is wrong, or set BGCLIENT_URL to where one runs'
                )
            _server.stop()
            _server, _replaced = _started(), _server
        if _server is None:
            _server, _owner = _started(), os.getpid()
            atexit.register(stop)
        return str(_server.grpc_url)


def admin_headers() -> dict[str, str]:
    """What opens the administrative interfaces of the server that ``url`` gave."""
    return {} if _server is None else _server.admin_headers


def _started() -> Server:
    try:
        from bgserver import Server
    except ImportError as error:
        raise NoServer(
            f"no server can be started here ({error}); "
            "set BGCLIENT_URL=host:8001, or pip install 'bgclient[server]', or run the network in this process: "
            "pip install 'bgclient[local]', engine='onnxruntime'"
        ) from error
    return Server().start()


def _reason(server: Server) -> str:
    try:
        server.wait(0)
    except BgError as error:
        return str(error)
    return "it ended"


def answers_at(address: str) -> bool:
    """False when the server that ``url`` once named so has given up or was stopped."""
    server = _server
    return server is not None and server.state != "failed" and server.grpc_url == address


def stop() -> None:
    """Stop the embedded server, if this process started one. The next ``url()`` starts another."""
    global _server, _owner, _replaced
    with _lock:
        server, owner = _server, _owner
        _server, _owner, _replaced = None, None, None
    if server is not None and owner == os.getpid():
        server.stop()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
