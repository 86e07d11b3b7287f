"""``Client`` and ``AsyncClient``: the same calls, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from bgclient import _served, _wire
from bgclient._begun import awaited, waited
from bgclient._cancel import CLOSED, Cancel
from bgclient._core import BaseClient, Call, wanted
from bgclient._endpoints import Endpoint
from bgclient._link import Link
from bgclient._many import Source, ordered
from bgclient._retry import Deadline
from bgclient._served import Seen, Served, ServerInfo
from bgclient.errors import (
    AccessDenied,
    BgError,
    CallCancelled,
    DeadlineExceeded,
    InternalError,
    ModelMissing,
    ServerUnavailable,
    TransportError,
)
from bgclient.options import CutOptions, Where
from bgclient.results import Cutout, Outcome, Progress, known_length
from bgclient.sources import PhotoLike, load
from bgclient.transports import AsyncTransport, Transport

if TYPE_CHECKING:
    from bgimage.codec import Photo
    from bgimage.contract import Contract
    from bgimage.options import Options

T = TypeVar("T")
P = TypeVar("P", bound="PhotoLike")
F = TypeVar("F", bound=Callable[..., Any])


def _twin(original: Callable[..., Any]) -> Callable[[F], F]:
    """Gives the asyncio twin the docstring of the original."""

    def documented(function: F) -> F:
        function.__doc__ = original.__doc__
        return function

    return documented


class Client(BaseClient):
    """Cuts people out of photos, by the network in this process or by a Triton server that holds our models.

    One client is meant to live long and to be shared: between threads (its connections are pooled), across
    ``fork`` (a child opens its own connections) and by ``pickle`` (settings travel, connections do not; a
    token does).

    Args:
        url: "host:8001" (gRPC) or "grpc://", "grpcs://", "http://", "https://"; several as a list or
            separated by commas, of one protocol, are balanced. None: BGCLIENT_URL, else ``engine``.
        engine: what runs the network where no server is named. In this process: "onnxruntime" (extra ``local``),
            "openvino", "openvino-bf16", "cuda", "coreml" or "directml"; one that is missing is an error. "triton": a
            tritonserver that this process starts for itself, once, and ends with itself (extra ``server``; Linux).
            None: BGCLIENT_ENGINE, else "onnxruntime". Given, it goes before BGCLIENT_URL.
        model: another network of the same server, whose ensembles are called ``matte_MODEL`` and
            ``cutout_MODEL``.
        timeout_s: seconds for a whole call, retries included, and for the first ones of a process loading the network
            or starting the embedded server, which goes on for later calls.
        retry: try again on errors whose class is ``retryable``, until the deadline: a busy server, one that restarts. A
            server that has never answered is waited for ten seconds at most. False: every error at once.
        headers: sent with every request.
        token: sent as "authorization: Bearer TOKEN".
        tls: certificates for "grpcs://" and "https://"; the system's authorities by default.
        limits: what a photo may cost here, ``bgimage.codec.Limits``.
        fetcher: who gets photos from URLs, ``bgclient.fetch.Fetcher``; None: URLs are refused.
        hooks: told of every call, ``bgclient.telemetry``.
        connector: another way to reach servers, such as ``bgclient.testing.FakeServer``.

    Raises:
        ValueError: an address or a timeout that is none.
    """

    _transient = ("_lock", "_opening", "_link", "_calls")

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._link: Link | None = None
        self._calls: set[Cancel] = set()

    def _open(self, deadline: Deadline) -> Link:
        """The open connections; loading the network or starting the embedded server if that is where they lead."""
        link = self._link
        if link is not None and not link.outdated:
            return link
        link = self._named() or self._to(waited(self._starting(), deadline))
        with self._opening:
            if self._link is None or self._link.outdated:
                local = link.local
                link.transport = local or self._connector.connect(link.endpoints, link.wiring)
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

    def cut(
        self,
        photo: PhotoLike,
        options: Options | None = None,
        *,
        where: Where = "client",
        timeout_s: float | None = None,
        **changes: Unpack[CutOptions],
    ) -> Cutout:
        """The people of a photo.

        Args:
            photo: a path, bytes, a binary file object, a PIL image, a numpy array (uint8 or uint16, grey, RGB
                or RGBA), or a URL where ``fetcher`` allows it.
            options: what to make of it, ``bgimage.options.Options``; None: the defaults.
            where: "client" sends only what the network sees, and finishes here at full resolution; "server"
                sends the whole photo and gets the finished picture. The pixels are the same.
            timeout_s: seconds for this call; None: the client's.
            changes: fields of ``Options``, such as ``background="white"`` or ``crop=True``.

        Raises:
            PhotoError: the photo cannot be read, decoded, or is too large.
            OptionError: an option that does not exist or does not fit.
            NoPersonFound: with ``require_person=True``.
            Doubtful: the expected IoU is below ``at_least``.
            TransportError: the server cannot be reached, is busy, too slow, or broken.
        """
        return self._cut(photo, wanted(options, changes), where, timeout_s, Cancel())

    def _cut(
        self, photo: PhotoLike, options: Options, where: Where, timeout_s: float | None, cancel: Cancel
    ) -> Cutout:
        with self._calling(cancel):
            call = self._call(where, timeout_s, options)
            link = self._open(call.deadline)
            call.lap("ask")
            with self._hooks.span("bgclient.cut", where=where, request_id=call.request_id) as span:
                source = load(photo, self._limits, self._fetcher)
                call.lap("load")
                if where == "server" and link.local is None:
                    cutout = self._tried(link, call, cancel, self._cut_there, source)
                else:
                    decoding = self._decoding(call, source)
                    try:
                        seen = self._tried(link, call, cancel, self._seen, source)
                    except TransportError:
                        decoding.result()  # a broken photo is the more useful thing to hear of
                        raise
                    call.lap("ask")
                    cutout = self._finished_here(call, source, decoding.result(), seen, link.server)
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
                    error = self._why_missing(link, error, call.deadline)
                pause_s = link.pause_after(error, call.tries, call.deadline, retry=self._retry)
            cancel.sleep(pause_s)

    def _seen(self, link: Link, call: Call, cancel: Cancel, source: bytes | Photo) -> Seen:
        """What the network makes of a photo."""
        served = self._served(link, call.deadline, cancel)
        request = self._for_network(call, source, served)
        answer = self._way(link, cancel).infer(request, call.deadline.left(), cancel)
        return _served.seen(answer, served.contract, link.server)

    def _cut_there(self, link: Link, call: Call, cancel: Cancel, source: bytes | Photo) -> Cutout:
        """What the server makes of a photo."""
        request = self._for_server(call, source)
        answer = self._way(link, cancel).infer(request, call.deadline.left(), cancel)
        return self._finished_by_server(call, answer, link.server)

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

    def _why_missing(self, link: Link, error: ModelMissing, deadline: Deadline) -> TransportError:
        """The error with what the server has and lacks; another one where it only starts or ends."""
        soon, cancel = Deadline(min(max(deadline.left_s, 0.1), 5.0)), Cancel()
        try:
            models = self._models(link.transport, link.server, soon)
            ready = link.transport.query(_wire.ready_query(), soon.left(), cancel).get("ready", False)
        except TransportError as other:
            return other if isinstance(other, ServerUnavailable) else error
        return _served.lacking(error, models, ready=ready, needed=(self._matte, self._cutout))

    @staticmethod
    def _models(transport: Transport, server: str, deadline: Deadline) -> dict[str, str]:
        try:
            return _served.states(transport.query(_wire.models_query(), deadline.left(), Cancel()), server)
        except AccessDenied:  # a server open to others keeps its repository to itself
            return {}

    def cut_many(
        self,
        photos: Iterable[P],
        options: Options | None = None,
        *,
        in_flight: int = 8,
        on_progress: Callable[[Progress], object] | None = None,
        where: Where = "client",
        timeout_s: float | None = None,
        **changes: Unpack[CutOptions],
    ) -> Iterator[Outcome[P]]:
        """Every photo's outcome, in the order of the input; one photo's error does not touch the others.

        Args:
            photos: as for ``cut``; taken one by one, no faster than results are fetched.
            options: as for ``cut``.
            in_flight: photos at a time, between being taken from ``photos`` and being given back.
            on_progress: called after each photo, in this thread and in the order in which they get ready.
            where: as for ``cut``.
            timeout_s: as for ``cut``, for each photo.
            changes: as for ``cut``.

        Leaving the loop early (``break``, an exception, Ctrl-C) cancels what is in flight. What ``photos`` itself
        raises comes after the outcomes of all that were taken before.
        """
        asked = _of_many(in_flight, options, changes)
        cancel = Cancel()
        tally = _Tally(known_length(photos), on_progress)

        def one(numbered: tuple[int, P]) -> Outcome[P]:
            index, photo = numbered
            try:
                return Outcome(index, photo, self._cut(photo, asked, where, timeout_s, cancel))
            except BgError as error:
                return Outcome(index, photo, error=_without_frames(error))
            except Exception as error:  # one photo loses no other
                return Outcome(index, photo, error=InternalError.of(error))

        return ordered(one, enumerate(photos), in_flight=in_flight, on_done=tally.count, on_stop=cancel.order)

    def info(self) -> list[ServerInfo]:
        """What each server says of itself: versions, models, what runs the network and where. Never raises
        for one that does not answer; ``ServerInfo.error`` says why.
        """
        link = self._open(self._deadline())
        if link.local is not None:
            return [link.local.info()]
        return [self._described(link, endpoint) for endpoint in link.endpoints]

    def _described(self, link: Link, endpoint: Endpoint) -> ServerInfo:
        said: dict[str, Any] = {"server": str(endpoint), "ready": False}
        deadline, transport = self._deadline(most_s=10.0), None

        def ask(query: _wire.Query) -> dict[str, Any]:
            assert transport is not None
            return transport.query(query, deadline.left(), Cancel())

        try:
            transport = self._connector.connect((endpoint,), link.wiring)
            said["ready"] = ask(_wire.ready_query()).get("ready", False)
            said["version"] = ask(_wire.server_query()).get("version")
            said["models"] = self._models(transport, str(endpoint), deadline)
            served = _served.served(ask(_wire.config_query(self._matte)), self._matte, str(endpoint))
            said["contract"] = served.contract
            said |= _served.network_of(ask(_wire.config_query(served.network)), str(endpoint))
        except BgError as error:
            said["error"] = error
        finally:
            if transport is not None:
                transport.close()
        return ServerInfo(**said | link.engine())

    def ready(self) -> bool:
        """True when a server takes requests."""
        cancel = Cancel()
        try:
            link = self._open(self._deadline())
        except DeadlineExceeded:
            return False  # it still starts
        if link.local is not None:
            return True
        try:
            timeout_s = self._deadline(most_s=5.0).left()
            said = self._way(link, cancel).query(_wire.ready_query(), timeout_s, cancel)
        except TransportError:
            return False  # the answer, not an error
        return bool(said.get("ready", False))

    def contract(self) -> Contract:
        """The network's input and output, as the server states it; asked once per connection.

        Raises:
            TransportError: as for ``cut``.
        """
        deadline = self._deadline()
        return self._served(self._open(deadline), deadline, Cancel()).contract

    def close(self) -> None:
        """Cancel calls in flight and give connections back. A later call opens them again."""
        with self._lock:
            link, self._link = self._link, None
            calls = list(self._calls)
        for call in calls:
            call.order()
        if link is not None:
            link.closed = True
            link.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(BaseClient):
    """The asyncio twin of ``Client``: same arguments, same calls, awaited. Usable from one loop after
    another.
    """

    _transient = ("_link", "_loop", "_calls")

    def _begin(self) -> None:
        self._link: Link | None = None
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._calls: set[asyncio.Future[Any]] = set()

    def _at_home(self) -> bool:
        """True when the connections belong to the running loop."""
        return self._loop is not None and self._loop() is asyncio.get_running_loop()

    async def _open(self, deadline: Deadline) -> Link:
        """The open connections of the running loop; see ``Client._open``."""
        if not self._at_home():
            self._begin()  # connections of an earlier loop ended with it
            self._loop = weakref.ref(asyncio.get_running_loop())
        if self._link is not None and not self._link.outdated:
            return self._link
        link = self._named() or self._to(await awaited(self._starting(), deadline))
        if self._link is None or self._link.outdated:  # nobody was faster
            if link.local is not None:
                link.transport = link.local.asynchronous
            else:
                link.transport = self._connector.aconnect(link.endpoints, link.wiring)
            self._link = link
        return self._link

    async def _closable(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work`` so that ``close`` can cancel it without cancelling the task that waits."""
        task = asyncio.ensure_future(work)
        self._calls.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if waiting is not None and waiting.cancelling():
                raise
            raise CallCancelled(CLOSED) from None
        finally:
            self._calls.discard(task)
            del task  # a task that failed holds its error, whose traceback holds this frame

    @_twin(Client.cut)
    async def cut(  # noqa: D102
        self,
        photo: PhotoLike,
        options: Options | None = None,
        *,
        where: Where = "client",
        timeout_s: float | None = None,
        **changes: Unpack[CutOptions],
    ) -> Cutout:
        return await self._cut(photo, wanted(options, changes), where, timeout_s)

    async def _cut(self, photo: PhotoLike, options: Options, where: Where, timeout_s: float | None) -> Cutout:
        call = self._call(where, timeout_s, options)
        link = await self._open(call.deadline)
        call.lap("ask")
        with self._hooks.span("bgclient.cut", where=where, request_id=call.request_id) as span:
            source = await asyncio.to_thread(load, photo, self._limits, self._fetcher)
            call.lap("load")
            if where == "server" and link.local is None:
                cutout = await self._tried(link, call, self._cut_there, source)
            else:
                decoding = self._decoding(call, source)
                try:
                    seen = await self._tried(link, call, self._seen, source)
                except TransportError:
                    await asyncio.to_thread(
                        decoding.result
                    )  # a broken photo is the more useful thing to hear of
                    raise
                call.lap("ask")
                whole = await asyncio.to_thread(decoding.result)
                cutout = await asyncio.to_thread(self._finished_here, call, source, whole, seen, link.server)
            span.set(server=link.server, tries=call.tries, sent_bytes=call.sent_bytes)
            return cutout

    async def _tried(
        self,
        link: Link,
        call: Call,
        once: Callable[..., Coroutine[Any, Any, T]],
        source: bytes | Photo,
    ) -> T:
        """``once``, until it succeeds, the deadline is over, or it makes no sense any more."""
        while True:
            call.tries += 1
            try:
                with self._hooks.span("bgclient.ask", server=link.server, attempt=call.tries):
                    result = await self._closable(once(link, call, source))
                link.reached = True
                return result
            except TransportError as error:
                if isinstance(error, ModelMissing):
                    error = await self._why_missing(link, error, call.deadline)
                pause_s = link.pause_after(error, call.tries, call.deadline, retry=self._retry)
            await self._closable(asyncio.sleep(pause_s))

    async def _seen(self, link: Link, call: Call, source: bytes | Photo) -> Seen:
        """What the network makes of a photo."""
        served = await self._served(link, call.deadline)
        request = await asyncio.to_thread(self._for_network, call, source, served)
        answer = await self._way(link).infer(request, call.deadline.left())
        return _served.seen(answer, served.contract, link.server)

    async def _cut_there(self, link: Link, call: Call, source: bytes | Photo) -> Cutout:
        """What the server makes of a photo."""
        request = await asyncio.to_thread(self._for_server, call, source)
        answer = await self._way(link).infer(request, call.deadline.left())
        return self._finished_by_server(call, answer, link.server)

    @staticmethod
    def _way(link: Link) -> AsyncTransport:
        """The transport. ``CallCancelled`` once the client was closed."""
        if link.closed:
            raise CallCancelled(CLOSED)
        transport: AsyncTransport = link.transport
        return transport

    async def _served(self, link: Link, deadline: Deadline) -> Served:
        """What is served, asked for once and kept while it answers."""
        if link.served is None:
            said = await self._way(link).query(_wire.config_query(self._matte), deadline.left())
            link.served = _served.served(said, self._matte, link.server)
        return link.served

    async def _why_missing(self, link: Link, error: ModelMissing, deadline: Deadline) -> TransportError:
        """The error with what the server has and lacks; another one where it only starts or ends."""
        soon = Deadline(min(max(deadline.left_s, 0.1), 5.0))
        try:
            models = await self._models(link.transport, link.server, soon)
            ready = (await link.transport.query(_wire.ready_query(), soon.left())).get("ready", False)
        except TransportError as other:
            return other if isinstance(other, ServerUnavailable) else error
        return _served.lacking(error, models, ready=ready, needed=(self._matte, self._cutout))

    @staticmethod
    async def _models(transport: AsyncTransport, server: str, deadline: Deadline) -> dict[str, str]:
        try:
            return _served.states(await transport.query(_wire.models_query(), deadline.left()), server)
        except AccessDenied:  # a server open to others keeps its repository to itself
            return {}

    @_twin(Client.cut_many)
    def cut_many(  # noqa: D102
        self,
        photos: Iterable[P],
        options: Options | None = None,
        *,
        in_flight: int = 8,
        on_progress: Callable[[Progress], object] | None = None,
        where: Where = "client",
        timeout_s: float | None = None,
        **changes: Unpack[CutOptions],
    ) -> AsyncIterator[Outcome[P]]:
        asked = _of_many(in_flight, options, changes)
        return self._cut_many(photos, asked, in_flight, on_progress, where, timeout_s)

    async def _cut_many(
        self,
        photos: Iterable[P],
        options: Options,
        in_flight: int,
        on_progress: Callable[[Progress], object] | None,
        where: Where,
        timeout_s: float | None,
    ) -> AsyncIterator[Outcome[P]]:
        tally = _Tally(known_length(photos), on_progress)

        async def one(index: int, photo: P) -> Outcome[P]:
            try:
                outcome = Outcome(index, photo, await self._cut(photo, options, where, timeout_s))
            except BgError as error:
                outcome = Outcome(index, photo, error=_without_frames(error))
            except Exception as error:  # one photo loses no other
                outcome = Outcome(index, photo, error=InternalError.of(error))
            tally.count(outcome)
            return outcome

        queue: deque[asyncio.Task[Outcome[P]]] = deque()
        source = Source(enumerate(photos))
        try:
            while True:
                while len(queue) < in_flight:
                    taken = next(source, None)
                    if taken is None:
                        break
                    queue.append(asyncio.create_task(one(*taken)))
                if not queue:
                    source.check()
                    return
                yield await queue[0]
                queue.popleft()
        finally:
            for task in queue:
                task.cancel()
            await asyncio.gather(*queue, return_exceptions=True)

    @_twin(Client.info)
    async def info(self) -> list[ServerInfo]:  # noqa: D102
        link = await self._open(self._deadline())
        if link.local is not None:
            return [link.local.info()]
        return [await self._described(link, endpoint) for endpoint in link.endpoints]

    async def _described(self, link: Link, endpoint: Endpoint) -> ServerInfo:
        said: dict[str, Any] = {"server": str(endpoint), "ready": False}
        deadline, transport = self._deadline(most_s=10.0), None

        async def ask(query: _wire.Query) -> dict[str, Any]:
            assert transport is not None
            return await transport.query(query, deadline.left())

        try:
            transport = self._connector.aconnect((endpoint,), link.wiring)
            said["ready"] = (await ask(_wire.ready_query())).get("ready", False)
            said["version"] = (await ask(_wire.server_query())).get("version")
            said["models"] = await self._models(transport, str(endpoint), deadline)
            served = _served.served(await ask(_wire.config_query(self._matte)), self._matte, str(endpoint))
            said["contract"] = served.contract
            said |= _served.network_of(await ask(_wire.config_query(served.network)), str(endpoint))
        except BgError as error:
            said["error"] = error
        finally:
            if transport is not None:
                await transport.close()
        return ServerInfo(**said | link.engine())

    @_twin(Client.ready)
    async def ready(self) -> bool:  # noqa: D102
        try:
            link = await self._open(self._deadline())
        except DeadlineExceeded:
            return False  # it still starts
        if link.local is not None:
            return True
        try:
            timeout_s = self._deadline(most_s=5.0).left()
            said = await self._way(link).query(_wire.ready_query(), timeout_s)
        except TransportError:
            return False  # the answer, not an error
        return bool(said.get("ready", False))

    @_twin(Client.contract)
    async def contract(self) -> Contract:  # noqa: D102
        deadline = self._deadline()
        return (await self._served(await self._open(deadline), deadline)).contract

    @_twin(Client.close)
    async def close(self) -> None:  # noqa: D102
        if not self._at_home():
            return  # the connections ended with their loop
        link, self._link = self._link, None
        for call in list(self._calls):
            call.cancel()
        if link is not None:
            link.closed = True
            await link.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _without_frames(error: BgError) -> BgError:
    """An error as it may be kept, a thousand times in a long run: frames would keep the photo, encoded and decoded."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


class _Tally:
    """Counts outcomes and tells the callback."""

    def __init__(self, total: int | None, on_progress: Callable[[Progress], object] | None) -> None:
        self._total = total
        self._on_progress = on_progress
        self._done = self._failed = 0

    def count(self, outcome: Outcome[Any]) -> None:
        self._done += 1
        self._failed += not outcome.ok
        if self._on_progress is not None:
            self._on_progress(Progress(self._done, self._failed, self._total))


def _of_many(in_flight: int, options: Options | None, changes: CutOptions) -> Options:
    """The options; refuses at once what would fail for every photo."""
    if in_flight < 1:
        raise ValueError(f"in_flight={in_flight}: use 1 or more")
    return wanted(options, changes)
