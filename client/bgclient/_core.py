"""What ``Client`` and ``AsyncClient`` do alike: settings, connections, and a call from its photo to its cut-out."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bgclient import _served, _wire
from bgclient._begun import waited
from bgclient._call import Call
from bgclient._cancel import Cancel
from bgclient._endpoints import Endpoint, parse_endpoints
from bgclient._retry import Deadline
from bgclient._served import Seen, Served, ServerInfo
from bgclient._session import Session
from bgclient.errors import DeadlineExceeded, ModelMissing, TransportError
from bgclient.fetch import Fetcher
from bgclient.sources import PhotoLike, load
from bgclient.telemetry import Hooks
from bgclient.transports import TLS, Connector, Credentials, Network
from bgimage.once import cached_property

if TYPE_CHECKING:
    from bgclient.options import Where
    from bgclient.results import Cutout
    from bgimage.codec import Limits, Photo
    from bgimage.contract import Contract
    from bgimage.options import Options

T = TypeVar("T")


class BaseClient:
    """Everything but the public calls; see ``Client``. A call waits in its thread, and ends early by its ``Cancel``."""

    _transient = ("_lock", "_opening", "_session", "_calls")
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
        Deadline(timeout_s)  # refuses what is not a timeout
        self._endpoints = None if url is None else parse_endpoints(url)
        self._engine = None if engine is None else _known_engine(engine)
        self._matte, self._cutout = (
            name if model is None else f"{name}_{model}" for name in ("matte", "cutout")
        )
        self._timeout_s = timeout_s
        self._retry = retry
        bearer = {} if token is None else {"authorization": f"Bearer {token}"}
        self._credentials = Credentials({**(headers or {}), **bearer}, tls)
        self._given_limits = limits
        self._fetcher = fetcher
        self._hooks = hooks or Hooks()
        self._connector = connector or Network()
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """Fresh state, without connections: after making, unpickling, and in a forked child."""
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._session: Session | None = None
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

    def _named(self) -> Session | None:
        """To the servers that were given, else to BGCLIENT_URL; None: to the engine of this process."""
        if self._endpoints is not None:
            return Session(self._endpoints, self._credentials)
        named = os.environ.get("BGCLIENT_URL", "").strip()
        return Session(parse_endpoints(named), self._credentials) if named and self._engine is None else None

    @property
    def _engine_here(self) -> str:
        """What runs the network where no server is named."""
        return self._engine or _known_engine(os.environ.get("BGCLIENT_ENGINE", "").strip() or "onnxruntime")

    @property
    def starts_server(self) -> bool:
        """True where the first call starts a tritonserver of this process, which takes some seconds."""
        return self._named() is None and self._engine_here == "triton"

    def _started(self, deadline: Deadline, cancel: Cancel) -> Session:
        """To the engine of this process, once it is loaded; or to its tritonserver, once that is ready."""
        engine = self._engine_here
        if engine != "triton":
            from bgclient import local

            return Session((), self._credentials, local=waited(local.loading(engine), deadline, cancel))
        from bgclient import embedded

        address = waited(embedded.starting(), deadline, cancel)
        headers = {**embedded.admin_headers(), **self._credentials.headers}
        credentials = replace(self._credentials, headers=headers)
        return Session(parse_endpoints(address), credentials, embedded=address)

    def _deadline(self, timeout_s: float | None = None, most_s: float | None = None) -> Deadline:
        wanted_s = self._timeout_s if timeout_s is None else timeout_s
        return Deadline(wanted_s if most_s is None else min(wanted_s, most_s))

    def _open(self, deadline: Deadline, cancel: Cancel) -> Session:
        """The open connections; loading the network or starting the embedded server if that is where they lead."""
        session = self._session
        if session is not None and not session.outdated:
            return session
        session = self._named() or self._started(deadline, cancel)
        with self._opening:
            if self._session is None or self._session.outdated:
                session.transport = session.local or self._connector.connect(
                    session.endpoints, session.credentials
                )
                self._session = session
            return self._session

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
            session = self._open(deadline, cancel)
            call.lap("ask")
            with self._hooks.span("bgclient.cut", where=where, request_id=call.request_id) as span:
                source = load(photo, self._limits, self._fetcher)
                call.lap("load")
                if where == "auto" and session.local is None:
                    served = session.served or self._tried(session, call, cancel, self._known, source)
                    where = call.shorter(source, served.contract)
                if where == "server" and session.local is None:
                    cutout = self._tried(session, call, cancel, self._cut_there, source)
                else:
                    decoding = call.decoding(source)
                    try:
                        seen = self._tried(session, call, cancel, self._seen, source)
                    except TransportError:
                        decoding.result()  # a broken photo is the more useful thing to hear of
                        raise
                    call.lap("ask")
                    whole = decoding.result()
                    if closer := call.closer(whole, seen):
                        again = self._tried(session, call, cancel, self._seen, closer.photo)
                        seen = call.surer(whole, seen, closer, again)
                    cutout = call.finished_here(source, whole, seen, session.server)
                span.set(server=session.server, tries=call.tries, sent_bytes=call.sent_bytes)
                return cutout

    def _tried(
        self, session: Session, call: Call, cancel: Cancel, once: Callable[..., T], source: bytes | Photo
    ) -> T:
        """``once``, until it succeeds, time is over (why it was tried again is then the error), or no try can help."""
        before, needed = None, (self._matte, self._cutout)
        while True:
            call.tries += 1
            try:
                with self._hooks.span("bgclient.ask", server=session.server, attempt=call.tries):
                    result = once(session, call, cancel, source)
                session.reached = True
                return result
            except TransportError as error:
                error = before if before and isinstance(error, DeadlineExceeded) else error
                if isinstance(error, ModelMissing):
                    error = _served.why_missing(error, session, needed, call.deadline)
                before = type(error)(str(error))  # a traceback would keep the photo
                pause_s = session.pause_after(error, call.tries, call.deadline, retry=self._retry)
            cancel.sleep(pause_s)

    def _known(self, session: Session, call: Call, cancel: Cancel, _: object) -> Served:
        return self._served(session, call.deadline, cancel)

    def _seen(self, session: Session, call: Call, cancel: Cancel, source: bytes | Photo) -> Seen:
        """What the network makes of a photo."""
        served = self._served(session, call.deadline, cancel)
        request = call.for_network(source, served)
        answer = session.way(cancel).infer(request, call.deadline.left(), cancel)
        return _served.seen(answer, served.contract, session.server)

    def _cut_there(self, session: Session, call: Call, cancel: Cancel, source: bytes | Photo) -> Cutout:
        """What the server makes of a photo."""
        request = call.for_server(source, self._cutout)
        answer = session.way(cancel).infer(request, call.deadline.left(), cancel)
        return call.finished_by_server(answer, session.server)

    def _served(self, session: Session, deadline: Deadline, cancel: Cancel) -> Served:
        """What is served, asked for once and kept while it answers."""
        if session.served is None:
            said = session.way(cancel).query(_wire.config_query(self._matte), deadline.left(), cancel)
            session.served = _served.served(said, self._matte, session.server)
        return session.served

    def _info(self, cancel: Cancel) -> list[ServerInfo]:
        session = self._open(self._deadline(), cancel)
        if session.local is not None:
            return [session.local.info()]
        deadline = self._deadline(most_s=10.0)

        def described(endpoint: Endpoint) -> ServerInfo:
            connect = partial(self._connector.connect, (endpoint,), session.credentials)
            found = _served.described(connect, str(endpoint), self._matte, deadline, cancel)
            return replace(found, backend=session.engines() or found.backend)

        return list(map(described, session.endpoints))

    def _ready(self, cancel: Cancel) -> bool:
        try:
            session = self._open(self._deadline(), cancel)
        except DeadlineExceeded:
            return False  # it still starts
        if session.local is not None:
            return True
        timeout_s = self._deadline(most_s=5.0).left()
        try:
            said = session.way(cancel).query(_wire.ready_query(), timeout_s, cancel)
        except TransportError:
            said = {}  # the answer, not an error
        return bool(said.get("ready", False))

    def _contract(self, cancel: Cancel) -> Contract:
        deadline = self._deadline()
        return self._served(self._open(deadline, cancel), deadline, cancel).contract

    def _close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
            calls = list(self._calls)
        for call in calls:
            call.order()
        if session is not None:
            session.closed = True
            session.transport.close()


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
