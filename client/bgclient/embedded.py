"""The tritonserver of this process (``engine="triton"``): started when first needed, once, and stopped at exit."""

from __future__ import annotations

import atexit
import os
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from bgclient._begun import begun, done
from bgclient.errors import BgError, NoServer

if TYPE_CHECKING:
    from bgserver import Server

_lock = threading.Lock()
_start: Future[str] | None = None
"""Of the server, under way or over; its gRPC address."""
_beginner: Server | None = None
"""The one that is starting."""
_server: Server | None = None
_owner: int | None = None
_replaced: Server | None = None
"""The one that gave up before ``_server``."""
_stops = 0
"""How often ``stop`` was called."""


def starting() -> Future[str]:
    """gRPC address of the embedded server, once it is ready; starts it the first time. Safe from any thread.

    Its watchdog restarts it on the same address. When that gives up, one other server is started; should that give up
    too, it is the machine's fault or the models', and another start would change nothing.

    A forked child uses its parent's server and leaves it running.

    Raises:
        NoServer: two servers gave up. The future's: it was stopped while it started.
        BgError: of the future: what ``bgserver`` says when it cannot start.
    """
    global _start, _owner
    with _lock:
        gave_up = _server is not None and _server.state == "failed"
        if _start is None or (_start.done() and (gave_up or _start.exception() is not None)):
            if _server is not None and _replaced is not None and gave_up:
                raise NoServer(
                    f"two servers that this process started gave up ({_reason(_replaced)}; {_reason(_server)}); "
                    'see with "bgclient serve" what is wrong, or set BGCLIENT_URL to where one runs'
                )
            _owner = os.getpid()
            atexit.register(stop)
            # A daemon: its keeper notices the end of the process.
            _start = begun(partial(_started, _stops), daemon=True)
        return _start


def url() -> str:
    """gRPC address of the embedded server; see ``starting``."""
    return starting().result()


def admin_headers() -> dict[str, str]:
    """What opens the administrative interfaces of the server that ``url`` gave."""
    return {} if _server is None else _server.admin_headers


def engines() -> list[str]:
    """What runs the networks of the server that ``url`` gave, and why."""
    return [] if _server is None else list(dict.fromkeys(_server.facts.get("engines", ())))


def _started(stops: int) -> str:
    """Its address, unless ``stop`` is called meanwhile."""
    global _beginner, _server, _replaced
    from bgserver import Server

    with _lock:
        wanted, former, server = stops == _stops, _server, Server()
        if wanted:
            _beginner = server
    if wanted:
        if former is not None:
            former.stop()
        server.start()
        with _lock:
            wanted = stops == _stops
            if wanted:
                _beginner, _server, _replaced = None, server, former
    if not wanted:
        server.stop()
        raise NoServer("the embedded server was stopped while it started")
    return str(server.grpc_url)


def _reason(server: Server) -> str:
    try:
        server.wait(0)
    except BgError as error:
        return str(error)
    return "it ended"


def wait() -> None:
    """Until the server that ``url`` gave has ended. ``BgError``: it gave up, and why."""
    if _server is not None:
        _server.wait()


def answers_at(address: str) -> bool:
    """False when the server that ``url`` once named so has given up or was stopped."""
    server = _server
    return server is not None and server.state != "failed" and server.grpc_url == address


def stop() -> None:
    """Stop the embedded server, if this process started one. The next ``url()`` starts another."""
    global _start, _beginner, _server, _owner, _replaced, _stops
    with _lock:
        servers, owner = (_beginner, _server), _owner
        _start, _beginner, _server, _owner, _replaced = None, None, None, None, None
        _stops += 1
    for server in servers:
        if server is not None and owner == os.getpid():
            server.stop()


def _after_fork() -> None:
    global _lock, _start, _beginner
    _lock = threading.Lock()  # another thread of the parent may have held it
    _start = _beginner = None  # the parent's, whose thread is not here
    if _server is not None and _server.state != "failed":
        _start = done(str(_server.grpc_url))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
