"""``Client`` and ``AsyncClient``: the same calls, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from bgclient._cancel import CLOSED, Cancel
from bgclient._core import BaseClient, Connections, ServerInfo
from bgclient._flow import Ask, Flow, Pause, Step, Work, adrive, drive
from bgclient._many import ordered
from bgclient._wire import Request
from bgclient.errors import BgError, CallCancelled
from bgclient.options import CutOptions, Where
from bgclient.results import Cutout, Outcome, Progress, known_length
from bgclient.sources import PhotoLike

if TYPE_CHECKING:
    from bgimage.contract import Contract

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
            separated by commas are balanced. None: BGCLIENT_URL, else ``engine``.
        engine: what runs the network where no server is named. In this process: "onnxruntime" (extra ``local``),
            "openvino", "openvino-bf16", "cuda", "coreml" or "directml"; one that is missing is an error. "triton": a
            tritonserver that this process starts for itself, once, and ends with itself (extra ``server``; Linux).
            None: BGCLIENT_ENGINE, else "onnxruntime". Given, it goes before BGCLIENT_URL.
        model: another network of the same server, whose ensembles are called ``matte_MODEL`` and
            ``cutout_MODEL``.
        timeout_s: seconds for a whole call, retries included; loading the network, or starting the embedded
            server, is not counted.
        retry: how often to try again on errors whose class is ``retryable``.
        headers: sent with every request.
        token: sent as "authorization: Bearer TOKEN".
        tls: certificates for "grpcs://" and "https://"; the system's authorities by default.
        shared_memory: pass tensors through memory that the server on this host sees too. "system", or True: through
            /dev/shm. "cuda": through the GPU that both use (extra ``cuda``); photos are decoded by the processor, on
            the server too, so they travel to the GPU and back for nothing: only for servers whose models of the
            same interface decode there. "auto": as "system" for a server on a loopback address that can see
            /dev/shm, else over the socket, which is logged once.
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
        self._link: Connections | None = None
        self._calls: set[Cancel] = set()

    def _connections(self) -> Connections:
        """The open connections; starting the embedded server if that is where they lead."""
        with self._opening:
            if self._link is None or self._link.outdated:
                self._link = self._opened()
            return self._link

    def _run(self, start: Callable[[Connections], Flow[T]], cancel: Cancel | None = None) -> T:
        """Drive the flow that ``start`` makes; ``close`` cancels it."""
        link = self._connections()
        call = cancel or Cancel()
        with self._lock:
            self._calls.add(call)
        try:
            return drive(start(link), lambda step: self._perform(link, step, call))
        finally:
            with self._lock:
                self._calls.discard(call)

    def _perform(self, link: Connections, step: Step, cancel: Cancel) -> Any:
        cancel.check()
        match step:
            case Work(function):
                return function()
            case Pause(seconds):
                return cancel.sleep(seconds)
            case Ask(endpoint, message, timeout_s):
                if link.closed:
                    raise CallCancelled(CLOSED)
                with self._lock:
                    if endpoint not in link.transports:
                        link.transports[endpoint] = self._connector.connect(endpoint, link.wiring)
                    transport = link.transports[endpoint]
                if isinstance(message, Request):
                    return transport.infer(message, timeout_s, cancel)
                return transport.query(message, timeout_s)

    def cut(
        self,
        photo: PhotoLike,
        *,
        where: Where = "client",
        timeout_s: float | None = None,
        **options: Unpack[CutOptions],
    ) -> Cutout:
        """The people of a photo.

        Args:
            photo: a path, bytes, a binary file object, a PIL image, a numpy array (uint8 or uint16, grey, RGB
                or RGBA), or a URL where ``fetcher`` allows it.
            where: "client" sends only what the network sees, and finishes here at full resolution; "server"
                sends the whole photo and gets the finished picture. The pixels are the same.
            timeout_s: seconds for this call; None: the client's.
            options: fields of ``bgimage.options.Options``, such as ``background="white"`` or ``crop=True``.

        Raises:
            PhotoError: the photo cannot be read, decoded, or is too large.
            OptionError: an option that does not exist or does not fit.
            NoPersonFound: with ``require_person=True``.
            TransportError: the server cannot be reached, is busy, too slow, or broken.
        """
        return self._run(
            partial(self._cut_flow, photo=photo, where=where, timeout_s=timeout_s, options=dict(options))
        )

    def cut_many(
        self,
        photos: Iterable[P],
        *,
        in_flight: int = 8,
        on_progress: Callable[[Progress], object] | None = None,
        where: Where = "client",
        timeout_s: float | None = None,
        **options: Unpack[CutOptions],
    ) -> Iterator[Outcome[P]]:
        """Every photo's outcome, in the order of the input; one photo's error does not touch the others.

        Args:
            photos: as for ``cut``; taken one by one, no faster than results are fetched.
            in_flight: photos at a time, between being taken from ``photos`` and being given back.
            on_progress: called after each photo, in this thread and in the order in which they get ready.
            where: as for ``cut``.
            timeout_s: as for ``cut``, for each photo.
            options: as for ``cut``.

        Leaving the loop early (``break``, an exception, Ctrl-C) cancels what is in flight.
        """
        _check_many(in_flight, options)
        cancel = Cancel()
        tally = _Tally(known_length(photos), on_progress)

        def one(numbered: tuple[int, P]) -> Outcome[P]:
            index, photo = numbered
            try:
                start = partial(
                    self._cut_flow, photo=photo, where=where, timeout_s=timeout_s, options=dict(options)
                )
                return Outcome(index, photo, self._run(start, cancel))
            except BgError as error:
                return Outcome(index, photo, error=_without_frames(error))

        return ordered(one, enumerate(photos), in_flight=in_flight, on_done=tally.count, on_stop=cancel.order)

    def info(self) -> list[ServerInfo]:
        """What each server says of itself: versions, models, what runs the network and where. Never raises
        for one that does not answer; ``ServerInfo.error`` says why.
        """
        return self._run(self._info_flow)

    def ready(self) -> bool:
        """True when a server takes requests."""
        return self._run(self._ready_flow)

    def contract(self) -> Contract:
        """The network's input and output, as the server states it; asked once per connection.

        Raises:
            TransportError: as for ``cut``.
        """
        return self._run(self._contract_flow)

    def close(self) -> None:
        """Cancel calls in flight and give connections and shared memory back. A later call opens them
        again.
        """
        with self._lock:
            link, self._link = self._link, None
            calls = list(self._calls)
        for call in calls:
            call.order()
        if link is not None:
            drive(self._farewell_flow(link), lambda step: self._perform(link, step, Cancel()))
            link.closed = True
            for transport in link.transports.values():
                transport.close()

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

    _transient = ("_link", "_loop", "_opening", "_calls")

    def _begin(self) -> None:
        self._link: Connections | None = None
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._opening = asyncio.Lock()
        self._calls: set[asyncio.Future[Any]] = set()

    def _at_home(self) -> bool:
        """True when the connections belong to the running loop."""
        return self._loop is not None and self._loop() is asyncio.get_running_loop()

    async def _connections(self) -> Connections:
        """The open connections of the running loop; starting the embedded server if that is where they
        lead.
        """
        if not self._at_home():
            self._begin()  # connections of an earlier loop ended with it
            self._loop = weakref.ref(asyncio.get_running_loop())
        async with self._opening:
            if self._link is None or self._link.outdated:
                self._link = await asyncio.to_thread(self._opened)
            return self._link

    async def _run(self, start: Callable[[Connections], Flow[T]]) -> T:
        link = await self._connections()

        async def perform(step: Step) -> Any:
            return await self._perform(link, step)

        return await adrive(start(link), perform)

    async def _perform(self, link: Connections, step: Step) -> Any:
        match step:
            case Work(function):
                return await asyncio.to_thread(function)
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Ask(endpoint, message, timeout_s):
                if link.closed:
                    raise CallCancelled(CLOSED)
                if endpoint not in link.transports:
                    link.transports[endpoint] = self._connector.aconnect(endpoint, link.wiring)
                transport = link.transports[endpoint]
                send = transport.infer if isinstance(message, Request) else transport.query
                return await self._cancellable(send(message, timeout_s))

    async def _cancellable(self, call: Coroutine[Any, Any, T]) -> T:
        """Await ``call`` so that ``close`` can cancel it without cancelling the task that waits."""
        task = asyncio.ensure_future(call)
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
        *,
        where: Where = "client",
        timeout_s: float | None = None,
        **options: Unpack[CutOptions],
    ) -> Cutout:
        return await self._run(
            partial(self._cut_flow, photo=photo, where=where, timeout_s=timeout_s, options=dict(options))
        )

    @_twin(Client.cut_many)
    def cut_many(  # noqa: D102
        self,
        photos: Iterable[P],
        *,
        in_flight: int = 8,
        on_progress: Callable[[Progress], object] | None = None,
        where: Where = "client",
        timeout_s: float | None = None,
        **options: Unpack[CutOptions],
    ) -> AsyncIterator[Outcome[P]]:
        _check_many(in_flight, options)
        return self._cut_many(photos, in_flight, on_progress, where, timeout_s, dict(options))

    async def _cut_many(
        self,
        photos: Iterable[P],
        in_flight: int,
        on_progress: Callable[[Progress], object] | None,
        where: Where,
        timeout_s: float | None,
        options: dict[str, Any],
    ) -> AsyncIterator[Outcome[P]]:
        tally = _Tally(known_length(photos), on_progress)

        async def one(index: int, photo: P) -> Outcome[P]:
            try:
                start = partial(
                    self._cut_flow, photo=photo, where=where, timeout_s=timeout_s, options=options
                )
                cutout = await self._run(start)
                outcome = Outcome(index, photo, cutout)
            except BgError as error:
                outcome = Outcome(index, photo, error=_without_frames(error))
            tally.count(outcome)
            return outcome

        queue: deque[asyncio.Task[Outcome[P]]] = deque()
        source = enumerate(photos)
        try:
            while True:
                while len(queue) < in_flight:
                    taken = next(source, None)
                    if taken is None:
                        break
                    queue.append(asyncio.create_task(one(*taken)))
                if not queue:
                    return
                yield await queue[0]
                queue.popleft()
        finally:
            for task in queue:
                task.cancel()
            await asyncio.gather(*queue, return_exceptions=True)

    @_twin(Client.info)
    async def info(self) -> list[ServerInfo]:  # noqa: D102
        return await self._run(self._info_flow)

    @_twin(Client.ready)
    async def ready(self) -> bool:  # noqa: D102
        return await self._run(self._ready_flow)

    @_twin(Client.contract)
    async def contract(self) -> Contract:  # noqa: D102
        return await self._run(self._contract_flow)

    @_twin(Client.close)
    async def close(self) -> None:  # noqa: D102
        if not self._at_home():
            return  # the connections ended with their loop
        link, self._link = self._link, None
        for call in list(self._calls):
            call.cancel()
        if link is not None:

            async def perform(step: Step) -> Any:
                return await self._perform(link, step)

            await adrive(self._farewell_flow(link), perform)
            link.closed = True
            for transport in link.transports.values():
                await transport.close()

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


def _check_many(in_flight: int, options: CutOptions) -> None:
    """Refuse at once what would fail for every photo."""
    from bgimage.options import Options

    if in_flight < 1:
        raise ValueError(f"in_flight={in_flight}: use 1 or more")
    Options.of(**options)
