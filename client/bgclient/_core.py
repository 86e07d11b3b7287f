"""What ``Client`` and ``AsyncClient`` do alike: settings, connections, and a call from its photo to its cut-out."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bgclient import _served, _wire
from bgclient._begun import waited
from bgclient._call import Call
from bgclient._cancel import CLOSED, Cancel
from bgclient._endpoints import Endpoint, parse_endpoints
from bgclient._link import Link
from bgclient._retry import Deadline
from bgclient._served import Seen, Served, ServerInfo
from bgclient.errors import CallCancelled, DeadlineExceeded, ModelMissing, TransportError
from bgclient.fetch import Fetcher
from bgclient.sources import PhotoLike, load
from bgclient.telemetry import Hooks, NoHooks
from bgclient.transports import TLS, Connector, Network, Transport, Wiring
from bgimage.once import cached_property

if TYPE_CHECKING:
    from bgclient.local import LocalNetwork
    from bgclient.options import Where
    from bgclient.results import Cutout
    from bgimage.codec import Limits, Photo
    from bgimage.contract import Contract
    from bgimage.options import Options

T = TypeVar("T")


class BaseClient:
    """Everything but the public calls; see ``Client``. A call waits in its thread, and ends early by its ``Cancel``."""

    _transient = ("_lock", "_opening", "_link", "_calls")
    """Attributes that belong to this process and are not pickled."""

    def __init__(
        self,
        url: str | Iterable[str] | None = None,
        *,
        engine: str | None = None,
        model: str | None = None,
        timeout_s: float = 30.0,
        retry: bool = True,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        tls: TLS | None = None,
        limits: Limits | None = None,
        fetcher: Fetcher | None = None,
        hooks: Hooks | None = None,
        connector: Connector | None = None,
    ) -> None:
        Deadline(timeout_s)  # refuses what is no timeout
        self._endpoints = None if url is None else parse_endpoints(url)
        self._engine = None if engine is None else _known_engine(engine)
        self._matte, self._cutout = (
            name if model is None else f"{name}_{model}" for name in ("matte", "cutout")
        )
        self._timeout_s = timeout_s
        self._retry = retry
        bearer = {} if token is None else {"authorization": f"Bearer {token}"}
        self._wiring = Wiring({**(headers or {}), **bearer}, tls)
        self._given_limits = limits
        self._fetcher = fetcher
        self._hooks = hooks or NoHooks()
        self._connector = connector or Network()
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """Fresh state, without connections: after making, unpickling, and in a forked child."""
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._link: Link | None = None
        self._calls: set[Cancel] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()
        _clients.add(self)

    @cached_property
    def _limits(self) -> Limits:
        from bgimage.codec import Limits

        return self._given_limits or Limits()

    def _named(self) -> Link | None:
        """To the servers that were given, else to BGCLIENT_URL; None: to the engine of this process."""
        if self._endpoints is not None:
            return Link(self._endpoints, self._wiring)
        named = os.environ.get("BGCLIENT_URL", "").strip()
        return Link(parse_endpoints(named), self._wiring) if named and self._engine is None else None

    def _starting(self) -> Future[Any]:
        """The engine of this process, once it is loaded; or the address of the embedded server, once it is ready."""
        engine = self._engine or _known_engine(os.environ.get("BGCLIENT_ENGINE", "").strip() or "onnxruntime")
        if engine == "triton":
            from bgclient import embedded

            return embedded.starting()
        from bgclient import local

        return local.loading(engine)

    def _to(self, started: LocalNetwork | str) -> Link:
        """To what ``_starting`` gave."""
        if not isinstance(started, str):
            return Link((), self._wiring, local=started)
        from bgclient import embedded

        wiring = replace(self._wiring, headers={**embedded.admin_headers(), **self._wiring.headers})
        return Link(parse_endpoints(started), wiring, embedded=started)

    def _deadline(self, timeout_s: float | None = None, most_s: float | None = None) -> Deadline:
        wanted_s = self._timeout_s if timeout_s is None else timeout_s
        return Deadline(wanted_s if most_s is None else min(wanted_s, most_s))

    def _open(self, deadline: Deadline, cancel: Cancel) -> Link:
        """The open connections; loading the network or starting the embedded server if that is where they lead."""
        link = self._link
        if link is not None and not link.outdated:
            return link
        link = self._named() or self._to(waited(self._starting(), deadline, cancel))
        with self._opening:
            if self._link is None or self._link.outdated:
                link.transport = link.local or self._connector.connect(link.endpoints, link.wiring)
                self._link = link
            return self._link

    @contextmanager
    def _calling(self, cancel: Cancel) -> Iterator[None]:
        """Around a call, which ``close`` then cancels."""
        with self._lock:
            self._calls.add(cancel)
        try:
            yield
        finally:
            with self._lock:
                self._calls.discard(cancel)

    def _cut(
        self, photo: PhotoLike, options: Options, where: Where, timeout_s: float | None, cancel: Cancel
    ) -> Cutout:
        with self._calling(cancel):
            deadline = self._deadline(timeout_s)
            call = Call(where, deadline, options, limits=self._limits, hooks=self._hooks)
            link = self._open(deadline, cancel)
            call.lap("ask")
            with self._hooks.span("bgclient.cut", where=where, request_id=call.request_id) as span:
                source = load(photo, self._limits, self._fetcher)
                call.lap("load")
                if where == "server" and link.local is None:
                    cutout = self._tried(link, call, cancel, self._cut_there, source)
                else:
                    decoding = call.decoding(source)
                    try:
                        seen = self._tried(link, call, cancel, self._seen, source)
                    except TransportError:
                        decoding.result()  # a broken photo is the more useful thing to hear of
                        raise
                    call.lap("ask")
                    whole = decoding.result()
                    if closer := call.closer(whole, seen):
                        again = self._tried(link, call, cancel, self._seen, closer.photo)
                        seen = call.surer(whole, seen, closer, again)
                    cutout = call.finished_here(source, whole, seen, link.server)
                span.set(server=link.server, tries=call.tries, sent_bytes=call.sent_bytes)
                return cutout

    def _tried(
        self, link: Link, call: Call, cancel: Cancel, once: Callable[..., T], source: bytes | Photo
    ) -> T:
        """``once``, until it succeeds, the deadline is over, or it makes no sense any more."""
        while True:
            call.tries += 1
            try:
                with self._hooks.span("bgclient.ask", server=link.server, attempt=call.tries):
                    result = once(link, call, cancel, source)
                link.reached = True
                return result
            except TransportError as error:
                if isinstance(error, ModelMissing):
                    needed = (self._matte, self._cutout)
                    error = _served.why_missing(error, link.transport, link.server, needed, call.deadline)
                pause_s = link.pause_after(error, call.tries, call.deadline, retry=self._retry)
            cancel.sleep(pause_s)

    def _seen(self, link: Link, call: Call, cancel: Cancel, source: bytes | Photo) -> Seen:
        """What the network makes of a photo."""
        served = self._served(link, call.deadline, cancel)
        request = call.for_network(source, served)
        answer = self._way(link, cancel).infer(request, call.deadline.left(), cancel)
        return _served.seen(answer, served.contract, link.server)

    def _cut_there(self, link: Link, call: Call, cancel: Cancel, source: bytes | Photo) -> Cutout:
        """What the server makes of a photo."""
        request = call.for_server(source, self._cutout)
        answer = self._way(link, cancel).infer(request, call.deadline.left(), cancel)
        return call.finished_by_server(answer, link.server)

    @staticmethod
    def _way(link: Link, cancel: Cancel) -> Transport:
        """The transport. ``CallCancelled`` once the client was closed."""
        cancel.check()
        if link.closed:
            raise CallCancelled(CLOSED)
        transport: Transport = link.transport
        return transport

    def _served(self, link: Link, deadline: Deadline, cancel: Cancel) -> Served:
        """What is served, asked for once and kept while it answers."""
        if link.served is None:
            said = self._way(link, cancel).query(_wire.config_query(self._matte), deadline.left(), cancel)
            link.served = _served.served(said, self._matte, link.server)
        return link.served

    def _info(self, cancel: Cancel) -> list[ServerInfo]:
        link = self._open(self._deadline(), cancel)
        if link.local is not None:
            return [link.local.info()]
        deadline = self._deadline(most_s=10.0)

        def described(endpoint: Endpoint) -> ServerInfo:
            connect = partial(self._connector.connect, (endpoint,), link.wiring)
            found = _served.described(connect, str(endpoint), self._matte, deadline, cancel)
            return replace(found, backend=link.engines() or found.backend)

        return list(map(described, link.endpoints))

    def _ready(self, cancel: Cancel) -> bool:
        try:
            link = self._open(self._deadline(), cancel)
        except DeadlineExceeded:
            return False  # it still starts
        if link.local is not None:
            return True
        timeout_s = self._deadline(most_s=5.0).left()
        try:
            said = self._way(link, cancel).query(_wire.ready_query(), timeout_s, cancel)
        except TransportError:
            said = {}  # the answer, not an error
        return bool(said.get("ready", False))

    def _contract(self, cancel: Cancel) -> Contract:
        deadline = self._deadline()
        return self._served(self._open(deadline, cancel), deadline, cancel).contract

    def _close(self) -> None:
        with self._lock:
            link, self._link = self._link, None
            calls = list(self._calls)
        for call in calls:
            call.order()
        if link is not None:
            link.closed = True
            link.transport.close()


def _known_engine(name: str) -> str:
    from bgclient.local import ENGINES

    if name not in (*ENGINES, "triton"):
        raise ValueError(f"engine={name!r}: use one of {', '.join(ENGINES)}, triton")
    return name


_clients: weakref.WeakSet[BaseClient] = weakref.WeakSet()
_of_the_parent: list[object] = []
"""Connections that a forked child inherited. They are the parent's; collected here, they would be closed."""


def _after_fork() -> None:
    for client in _clients:
        _of_the_parent.append({name: vars(client).get(name) for name in client._transient})
        client._begin()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
