"""``Client`` and ``AsyncClient``: the same calls, for threads and for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from bgclient._begun import begun
from bgclient._cancel import Cancel
from bgclient._core import BaseClient
from bgclient._many import Source, ordered
from bgclient._served import ServerInfo
from bgclient.errors import BgError, InternalError
from bgclient.options import CutOptions, Where
from bgclient.results import Cutout, Outcome, Progress, known_length
from bgclient.sources import PhotoLike

if TYPE_CHECKING:
    from bgimage.contract import Contract
    from bgimage.options import Options

T = TypeVar("T")
P = TypeVar("P", bound="PhotoLike")


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
        fetcher: downloads photos from URLs, ``bgclient.fetch.Fetcher``; None: URLs are refused.
        hooks: called for every call, ``bgclient.telemetry``.
        connector: another way to reach servers, such as ``bgclient.testing.FakeServer``.

    Raises:
        ValueError: an address or a timeout that is none.
    """

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
                sends the whole photo and gets the finished picture. The pixels are the same. "auto": whichever needs
                fewer bytes on the line, by estimate; for slow lines.
            timeout_s: seconds for this call; None: the client's.
            changes: fields of ``Options``, such as ``background="white"`` or ``crop=True``.

        Raises:
            PhotoError: the photo cannot be read, decoded, or is too large.
            OptionError: an option that does not exist or does not fit.
            NoPersonFound: with ``require_person=True``.
            Doubtful: the expected IoU is below ``at_least``, with ``where="client"`` after a second, closer look, too.
            TransportError: the server cannot be reached, is busy, too slow, or broken.
        """
        return self._cut(photo, _wanted(options, changes), where, timeout_s, Cancel())

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
            return _outcome(self, *numbered, asked, where, timeout_s, cancel)

        return ordered(one, enumerate(photos), in_flight=in_flight, on_done=tally.count, on_stop=cancel.order)

    def info(self) -> list[ServerInfo]:
        """What each server says of itself: versions, models, what runs the network and where. Never raises
        for one that does not answer; ``ServerInfo.error`` says why.
        """
        return self._info(Cancel())

    def ready(self) -> bool:
        """True when a server takes requests."""
        return self._ready(Cancel())

    def contract(self) -> Contract:
        """The network's input and output, as the server states it; asked once per connection.

        Raises:
            TransportError: as for ``cut``.
        """
        return self._contract(Cancel())

    def close(self) -> None:
        """Cancel calls in flight and give connections back. A later call opens them again."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(BaseClient):
    """The asyncio twin of ``Client``: same arguments, same calls, awaited. Usable from one loop after another.

    A call runs in a thread of its own, and is cancelled with the task that awaits it.
    """

    @staticmethod
    async def _threaded(call: Callable[..., T], *given: Any) -> T:
        """``call(*given, cancel)`` in a thread that sees this task's context variables."""
        cancel, context = Cancel(), copy_context()
        running = asyncio.wrap_future(begun(lambda: context.run(call, *given, cancel), daemon=False))
        try:
            return await running
        except asyncio.CancelledError:
            cancel.order()
            raise
        finally:
            del running  # an error that is kept would keep itself by this frame

    async def cut(  # noqa: D102
        self,
        photo: PhotoLike,
        options: Options | None = None,
        *,
        where: Where = "client",
        timeout_s: float | None = None,
        **changes: Unpack[CutOptions],
    ) -> Cutout:
        return await self._threaded(self._cut, photo, _wanted(options, changes), where, timeout_s)

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
            outcome = await self._threaded(_outcome, self, index, photo, options, where, timeout_s)
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

    async def info(self) -> list[ServerInfo]:  # noqa: D102
        return await self._threaded(self._info)

    async def ready(self) -> bool:  # noqa: D102
        return await self._threaded(self._ready)

    async def contract(self) -> Contract:  # noqa: D102
        return await self._threaded(self._contract)

    async def close(self) -> None:  # noqa: D102
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


for _name in ("cut", "cut_many", "info", "ready", "contract", "close"):
    getattr(AsyncClient, _name).__doc__ = getattr(Client, _name).__doc__


def _wanted(options: Options | None, changes: Mapping[str, Any]) -> Options:
    """Options as they were given, with changes; checked once."""
    from bgimage.options import Options

    if options is None:
        return Options.of(**changes)
    return Options.of(**{**vars(options), **changes}) if changes else options


def _outcome(
    client: BaseClient,
    index: int,
    photo: P,
    options: Options,
    where: Where,
    timeout_s: float | None,
    cancel: Cancel,
) -> Outcome[P]:
    """How one photo of many went; whatever goes wrong loses no other."""
    try:
        return Outcome(index, photo, client._cut(photo, options, where, timeout_s, cancel))
    except BgError as error:
        return Outcome(index, photo, error=_without_frames(error))
    except Exception as error:
        return Outcome(index, photo, error=InternalError.of(error))


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
    return _wanted(options, changes)
