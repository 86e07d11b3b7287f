"""What ``Client`` and ``AsyncClient`` have in common: settings, decisions, and every call as a flow."""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from bgclient import _shm, _wire
from bgclient._endpoints import Balancer, Endpoint, parse_endpoints
from bgclient._flow import Ask, Flow, Pause, Work
from bgclient._retry import Deadline, Retry
from bgclient._wire import Answer, Output, Request, Tensor
from bgclient.errors import (
    AccessDenied,
    BgError,
    DeadlineExceeded,
    ModelMissing,
    NetworkChanged,
    RegionLost,
    ServerBusy,
    ServerFault,
    ServerUnavailable,
    SharedMemoryError,
    TransportError,
)
from bgclient.fetch import Fetcher
from bgclient.sources import PhotoLike, load
from bgclient.telemetry import Hooks, NoHooks, id_of_this_call
from bgclient.transports import TLS, Connector, Network, Wiring
from bgimage.once import cached_property

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bgclient.local import LocalNetwork
    from bgclient.options import SharedMemory, Where
    from bgclient.results import Cutout
    from bgimage.codec import Limits, Photo
    from bgimage.contract import Contract
    from bgimage.options import Options

_log = logging.getLogger("bgclient")

_BLAMED = (ServerUnavailable, DeadlineExceeded, ServerFault, ModelMissing, AccessDenied)
"""Errors that put an endpoint aside; any other says nothing about it."""


@dataclass(frozen=True)
class ServerInfo:
    """One server, as it describes itself."""

    server: str
    """Its address."""
    ready: bool
    """True when it takes requests."""
    version: str | None = None
    """Triton's version."""
    models: Mapping[str, str] = field(default_factory=dict)
    """State of every model of its repository: "READY", "UNAVAILABLE", ...; empty where it keeps that to itself."""
    network: str | None = None
    """The model that holds the network."""
    backend: str | None = None
    """What runs it, such as "onnxruntime (python)" or "tensorrt"."""
    devices: tuple[str, ...] = ()
    """Where it runs: "cpu", "gpu"."""
    contract: Contract | None = None
    """The network's input and output."""
    error: BgError | None = None
    """Why the rest is missing."""


class Connections:
    """What one client holds open in one process, and for ``AsyncClient`` in one loop."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint] = (),
        wiring: Wiring | None = None,
        *,
        embedded: str | None = None,
        local: LocalNetwork | None = None,
    ) -> None:
        self.local = local
        """The network of this process, which is then asked instead of a server."""
        self.balancer = Balancer(tuple(endpoints))
        self.wiring = wiring or Wiring()
        self._embedded = embedded
        self.transports: dict[Endpoint, Any] = {}
        self.contracts: dict[Endpoint, Contract] = {}
        self.regions: dict[Endpoint, _shm.Regions] = {e: _shm.Regions() for e in self.balancer.endpoints}
        self.closed = False

    @property
    def outdated(self) -> bool:
        """True when they lead to an embedded server that gave up; calls on their way still end by themselves."""
        if self._embedded is None:
            return False
        from bgclient import embedded

        return not embedded.answers_at(self._embedded)


class _Stopwatch:
    """Milliseconds by the name of the phase."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self.phases: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.phases[phase] = self.phases.get(phase, 0.0) + (now - self._last) * 1e3
        self._last = now

    @property
    def total_ms(self) -> float:
        return (time.perf_counter() - self._began) * 1e3


class BaseClient:
    """Settings and flows; see ``Client``. Nothing here touches a socket."""

    _transient: ClassVar[tuple[str, ...]] = ()
    """Attributes that ``_begin`` makes: they belong to this process and are not pickled."""

    def __init__(
        self,
        url: str | Iterable[str] | None = None,
        *,
        engine: str | None = None,
        model: str | None = None,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        tls: TLS | None = None,
        shared_memory: bool | SharedMemory = False,
        limits: Limits | None = None,
        fetcher: Fetcher | None = None,
        hooks: Hooks | None = None,
        connector: Connector | None = None,
    ) -> None:
        Deadline(timeout_s)  # refuses what is no timeout
        if shared_memory not in _shm.KINDS:
            raise ValueError(f"shared_memory={shared_memory!r}: use 'auto', 'system', 'cuda', or False")
        self._endpoints = None if url is None else parse_endpoints(url)
        self._engine = None if engine is None else _known_engine(engine)
        self._matte, self._cutout = (
            name if model is None else f"{name}_{model}" for name in ("matte", "cutout")
        )
        self._timeout_s = timeout_s
        self._retry = retry or Retry()
        bearer = {} if token is None else {"authorization": f"Bearer {token}"}
        self._wiring = Wiring({**(headers or {}), **bearer}, tls)
        self._shared_memory = shared_memory
        self._given_limits = limits
        self._fetcher = fetcher
        self._hooks = hooks or NoHooks()
        self._connector = connector or Network()
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """Fresh state, without connections: after making, unpickling, and in a forked child."""
        raise NotImplementedError

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

    def _opened(self) -> Connections:
        """To where the network is: the servers that were given, else BGCLIENT_URL, else the engine of this process."""
        if self._endpoints is not None:
            return Connections(self._endpoints, self._wiring)
        named = os.environ.get("BGCLIENT_URL", "").strip()
        if named and self._engine is None:
            return Connections(parse_endpoints(named), self._wiring)
        engine = self._engine or _known_engine(os.environ.get("BGCLIENT_ENGINE", "").strip() or "onnxruntime")
        if engine != "triton":
            from bgclient import local

            return Connections(local=local.network(engine))
        from bgclient import embedded

        url = embedded.url()
        wiring = replace(self._wiring, headers={**embedded.admin_headers(), **self._wiring.headers})
        return Connections(parse_endpoints(url), wiring, embedded=url)

    # Flows. ``link`` is made by the twins, once per process and loop.

    def _cut_flow(
        self,
        link: Connections,
        photo: PhotoLike,
        where: Where,
        timeout_s: float | None,
        options: dict[str, Any],
    ) -> Flow[Cutout]:
        """``Client.cut``."""
        from bgimage.options import Options

        if where not in ("client", "server"):
            raise ValueError(f"where={where!r}: use 'client' or 'server'")
        wanted = Options.of(**options)
        deadline = Deadline(self._timeout_s if timeout_s is None else timeout_s)
        request_id = id_of_this_call()
        with self._hooks.span("bgclient.cut", where=where, request_id=request_id) as span:
            cut = self._thin if where == "client" or link.local else self._thick
            cutout = yield from cut(link, photo, wanted, deadline, request_id)
            span.set(
                server=cutout.timings.server, tries=cutout.timings.tries, sent_bytes=cutout.timings.sent_bytes
            )
            return cutout

    def _thin(
        self, link: Connections, photo: PhotoLike, options: Options, deadline: Deadline, request_id: str
    ) -> Flow[Cutout]:
        """Send what the network sees, get its alpha, finish here."""
        from bgimage.finish import finish

        watch = _Stopwatch()
        source = yield Work(partial(load, photo, self._limits, self._fetcher))
        watch.lap("load")
        small: dict[str, bytes] = {}

        def prepare(contract: Contract) -> Flow[tuple[Request, dict[str, int]]]:
            watch.lap("ask")
            if contract.fingerprint not in small:
                small[contract.fingerprint] = yield Work(partial(_seen, source, contract, self._limits))
            watch.lap("shrink")
            height, width = contract.size_hw
            tensors = [("photo", small[contract.fingerprint])]
            request = self._request(request_id, self._matte, tensors, "alpha")
            return request, {"alpha": 4 * height * width}

        beside = ThreadPoolExecutor(1)  # all pixels, while the server looks at the small picture
        decoding = beside.submit(_decoded, source, self._limits, options)
        beside.shutdown(
            wait=False
        )  # its thread ends with this decode; a call that is cancelled waits for neither
        try:
            if link.local is None:
                reply = yield from self._infer(link, deadline, prepare)
            else:
                ask = partial(_asked_here, link.local, source, self._limits, deadline, request_id)
                reply = yield Work(ask)
        except TransportError:
            yield Work(decoding.result)  # a broken photo is the more useful thing to hear of
            raise
        watch.lap("ask")
        whole: Photo = yield Work(decoding.result)
        watch.lap("load")
        alpha = reply.alpha
        finished = yield Work(partial(finish, whole, alpha, reply.contract, options))
        if not isinstance(source, bytes):
            yield Work(lambda: finished.pixels)  # now: the caller may use the array again
        watch.lap("finish")
        return self._cutout_of(finished, watch, reply)

    def _thick(
        self, link: Connections, photo: PhotoLike, options: Options, deadline: Deadline, request_id: str
    ) -> Flow[Cutout]:
        """Send the whole photo, get the finished picture."""
        from bgclient.results import Encoded

        watch = _Stopwatch()
        source = yield Work(partial(load, photo, self._limits, self._fetcher))
        data: bytes = yield Work(partial(_encoded, source))
        asked: str = yield Work(options.to_json)  # a background picture may be in it
        watch.lap("load")

        def prepare(contract: Contract) -> Flow[tuple[Request, dict[str, int]]]:
            yield from ()
            tensors = [("photo", data), ("options", asked.encode())]
            return self._request(request_id, self._cutout, tensors, "cutout", "facts"), {}

        reply = yield from self._infer(link, deadline, prepare)
        watch.lap("ask")
        try:
            assert isinstance(reply.answer, Answer)
            (picture,) = reply.answer.output("cutout").items()
            facts = json.loads(reply.answer.output("facts").items()[0])
            box, confidence = facts["box"] and tuple(facts["box"]), float(facts["confidence"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ServerFault(f"{reply.server} answers {self._cutout!r} with nonsense: {error}") from error
        return self._cutout_of(Encoded(picture, box, confidence, _holds_matte(options)), watch, reply)

    def _request(self, id: str, model: str, tensors: list[tuple[str, bytes]], *outputs: str) -> Request:
        inputs = tuple(Tensor.of_bytes(name, [data]) for name, data in tensors)
        return Request(model, inputs, tuple(map(Output, outputs)), id, self._hooks.headers())

    @staticmethod
    def _cutout_of(finished: Any, watch: _Stopwatch, reply: _Reply) -> Cutout:
        from bgclient.results import Cutout, Timings

        timings = Timings(
            **{f"{phase}_ms": watch.phases.get(phase, 0.0) for phase in ("load", "shrink", "ask", "finish")},
            total_ms=watch.total_ms,
            tries=reply.tries,
            sent_bytes=reply.sent_bytes,
            server=reply.server,
            request_id=reply.request_id,
        )
        return Cutout(finished, timings)

    def _infer(self, link: Connections, deadline: Deadline, prepare: Prepare) -> Flow[_Reply]:
        """Ask until somebody answers, the deadline is over, or it makes no sense any more."""
        tried: list[Endpoint] = []
        for tries in itertools.count(1):
            endpoint = link.balancer.take(avoid=tried)
            tried.append(endpoint)
            try:
                with self._hooks.span("bgclient.ask", server=str(endpoint), attempt=tries):
                    reply = yield from self._attempt(link, endpoint, deadline, prepare, tries)
            except TransportError as raised:
                error = raised
                if isinstance(error, ModelMissing):
                    error = yield from self._lacking(endpoint, error, deadline)
                (link.balancer.failed if isinstance(error, _BLAMED) else link.balancer.dropped)(endpoint)
                if isinstance(error, NetworkChanged | ServerUnavailable):
                    link.contracts.pop(endpoint, None)  # another server may answer there next time
                pause_s = 0.0 if link.balancer.others(tried) else self._retry.pause_s(tries)
                if not error.retryable or tries == self._retry.attempts or pause_s >= deadline.left_s:
                    said = _last_word(error, tried, deadline)
                    try:
                        raise said from (None if said is raised else raised)
                    finally:
                        del said, error  # the traceback holds this frame: a circle with the photo in it
                yield Pause(pause_s)
                del error
            except BgError:
                link.balancer.succeeded(endpoint)  # the photo or the option is at fault
                raise
            except BaseException:
                link.balancer.dropped(endpoint)
                raise
            else:
                link.balancer.succeeded(endpoint)
                return reply
        raise AssertionError("unreachable: the loop ends by return or raise")

    def _attempt(
        self, link: Connections, endpoint: Endpoint, deadline: Deadline, prepare: Prepare, tries: int
    ) -> Flow[_Reply]:
        contract = yield from self._contract(link, endpoint, deadline)
        request, fixed = yield from prepare(contract)
        sent_bytes = len(request.inputs[0].data)
        answer = yield from self._answer(link, endpoint, deadline, request, fixed)
        for name, size in fixed.items():
            if len(answer.output(name).data) != size:
                shape = list(answer.output(name).shape)
                raise NetworkChanged(
                    f"{endpoint} answers {name} {shape}, its contract said {contract.size_hw}"
                )
        return _Reply(str(endpoint), contract, answer, tries, sent_bytes, request.id)

    def _contract(self, link: Connections, endpoint: Endpoint, deadline: Deadline) -> Flow[Contract]:
        """The network's contract, asked for once per endpoint and kept while it answers."""
        from bgimage.contract import Contract

        if endpoint not in link.contracts:
            found = yield _ask(endpoint, _wire.config_query(self._matte), deadline)
            try:
                text = found["config"]["parameters"]["contract"]["string_value"]
            except (KeyError, TypeError):
                raise ModelMissing(
                    f"{endpoint} has a model {self._matte!r} without a 'contract' parameter: it is not ours; "
                    f"{_wire.DEPLOY}"
                ) from None
            try:
                link.contracts[endpoint] = Contract.from_json(text)
            except (ValueError, TypeError) as error:
                raise ServerFault(
                    f"{endpoint}: {error}; install the bgclient that fits the server"
                ) from error
        return link.contracts[endpoint]

    def _answer(
        self,
        link: Connections,
        endpoint: Endpoint,
        deadline: Deadline,
        request: Request,
        fixed: dict[str, int],
    ) -> Flow[Answer]:
        """One request, through shared memory where that is wanted."""
        kind = _shm.KINDS[self._shared_memory]
        regions = link.regions[endpoint]
        auto = self._shared_memory == "auto"
        if kind is not None and not (auto and (regions.refused or not endpoint.is_here)):
            try:
                return (yield from self._through_memory(kind, regions, endpoint, deadline, request, fixed))
            except RegionLost:
                raise
            except (SharedMemoryError, AccessDenied) as error:
                if not auto:
                    raise
                if not regions.refused:
                    regions.refused = True
                    _log.warning("photos go over the socket: %s", error)
        answer: Answer = yield _ask(endpoint, request, deadline)
        return answer

    def _through_memory(
        self,
        kind: type[_shm.Region],
        regions: _shm.Regions,
        endpoint: Endpoint,
        deadline: Deadline,
        request: Request,
        fixed: dict[str, int],
    ) -> Flow[Answer]:
        """One request whose tensors stay in shared memory."""
        if not regions.swept:
            yield Work(kind.prepare)
            known = yield _ask(endpoint, _wire.regions_query(kind.memory), deadline)
            regions.found(_shm.of_the_dead(known.get("regions", {})))
            regions.swept = True
        yield from self._forget(kind, regions, endpoint, deadline)
        byte_size = kind.room(request, fixed)
        region = regions.take(byte_size)
        try:
            if region is None:
                region = kind(byte_size)
                try:
                    yield _ask(endpoint, region.registration, deadline)
                finally:
                    region.conceal()
            placed = region.place(request, fixed)
            answer: Answer = yield _ask(endpoint, placed, deadline)
            read = region.read(answer, placed)
        except BaseException as error:
            if region is not None:
                regions.discard(region)
            if isinstance(error, RegionLost):
                regions.lost()
            raise
        regions.give(region)
        return read

    def _forget(
        self, kind: type[_shm.Region], regions: _shm.Regions, endpoint: Endpoint, deadline: Deadline
    ) -> Flow[None]:
        """Let the server forget what is stale. What it still uses it keeps, and so do we."""
        stale = regions.stale()
        for name in stale:
            yield _ask(endpoint, _wire.unregister_query(kind.memory, name), deadline)
        if stale:
            known = yield _ask(endpoint, _wire.regions_query(kind.memory), deadline)
            regions.forgotten(set(stale) - set(known.get("regions", {})))

    def _info_flow(self, link: Connections) -> Flow[list[ServerInfo]]:
        """``Client.info``."""
        if link.local is not None:
            return [_described(link.local)]
        infos = {}
        for endpoint in link.balancer.endpoints:
            infos[endpoint] = yield from self._describe(link, endpoint)
        return list(infos.values())

    def _describe(self, link: Connections, endpoint: Endpoint) -> Flow[ServerInfo]:
        said: dict[str, Any] = {"server": str(endpoint), "ready": False}
        deadline = Deadline(min(self._timeout_s, 10.0))
        try:
            said["ready"] = (yield _ask(endpoint, _wire.ready_query(), deadline)).get("ready", False)
            said["version"] = (yield _ask(endpoint, _wire.server_query(), deadline)).get("version")
            said["models"] = yield from self._models(endpoint, deadline)
            said["contract"] = yield from self._contract(link, endpoint, deadline)
            ensemble = (yield _ask(endpoint, _wire.config_query(self._matte), deadline))["config"]
            for step in ensemble.get("ensemble_scheduling", {}).get("step", []):
                config = (yield _ask(endpoint, _wire.config_query(step["model_name"]), deadline))["config"]
                if [entry["name"] for entry in config.get("input", [])] == [said["contract"].input_tensor]:
                    said |= _network_of(config)
        except BgError as error:
            said["error"] = error
        return ServerInfo(**said)

    def _lacking(self, endpoint: Endpoint, error: ModelMissing, deadline: Deadline) -> Flow[TransportError]:
        """The error with the models that the server has and lacks, where it tells.

        A server that starts or ends lacks models too, for a while: the error is then a retryable one.
        """
        soon = Deadline(min(max(deadline.left_s, 0.1), 5.0))
        try:
            models = yield from self._models(endpoint, soon)
            is_ready = (yield _ask(endpoint, _wire.ready_query(), soon)).get("ready", False)
        except TransportError as other:
            return other if isinstance(other, ServerUnavailable) else error
        said = str(error)
        ready = sorted(name for name, state in models.items() if state == "READY")
        lacking = [name for name in (self._matte, self._cutout) if name not in ready]
        if models and lacking:
            hint = "" if self._matte in lacking else f"; where='client' needs {self._matte!r} alone"
            said += (
                f". It lacks {' and '.join(map(repr, lacking))}; it has {', '.join(ready) or 'none'}{hint}"
            )
        if not is_ready:
            return ServerUnavailable(
                f"{said}. It is not ready: it starts or ends, or a model of it failed to load"
            )
        return ModelMissing(said)

    def _models(self, endpoint: Endpoint, deadline: Deadline) -> Flow[dict[str, str]]:
        try:
            index = yield _ask(endpoint, _wire.models_query(), deadline)
        except AccessDenied:  # a server open to others keeps its repository to itself
            return {}
        return {model["name"]: model.get("state", "NOT LOADED") for model in index.get("models", [])}

    def _ready_flow(self, link: Connections) -> Flow[bool]:
        """``Client.ready``."""
        if link.local is not None:
            return True
        for endpoint in link.balancer.endpoints:
            try:
                said = yield _ask(endpoint, _wire.ready_query(), Deadline(min(self._timeout_s, 5.0)))
            except TransportError:
                continue  # not ready is the answer, not an error
            if said.get("ready", False):
                return True
        return False

    def _contract_flow(self, link: Connections) -> Flow[Contract]:
        """``Client.contract``."""
        if link.local is not None:
            return link.local.contract
        endpoint = link.balancer.take()
        try:
            return (yield from self._contract(link, endpoint, Deadline(self._timeout_s)))
        finally:
            link.balancer.dropped(endpoint)

    def _farewell_flow(self, link: Connections) -> Flow[None]:
        """Let the servers forget our shared memory, before the transports are closed."""
        kind = _shm.KINDS[self._shared_memory]
        if kind is None:
            return
        for endpoint, regions in link.regions.items():
            regions.retire()
            with suppress(TransportError):  # gone, it has forgotten; else the next client sweeps
                yield from self._forget(kind, regions, endpoint, Deadline(2.0))


Prepare = Callable[["Contract"], Flow[tuple[Request, dict[str, int]]]]


@dataclass(frozen=True)
class _Reply:
    server: str
    contract: Contract
    answer: Answer | NDArray[np.float32]
    """What the server said, or the alpha that the network of this process gave."""
    tries: int
    sent_bytes: int
    request_id: str

    @property
    def alpha(self) -> NDArray[np.float32]:
        """float32 (S, S)."""
        if isinstance(self.answer, Answer):
            return self.answer.output("alpha").floats().reshape(self.contract.size_hw)
        return self.answer


def _known_engine(name: str) -> str:
    from bgclient.local import ENGINES

    if name not in (*ENGINES, "triton"):
        raise ValueError(f"engine={name!r}: use one of {', '.join(ENGINES)}, triton")
    return name


def _asked_here(
    network: LocalNetwork, source: bytes | Photo, limits: Limits, deadline: Deadline, request_id: str
) -> _Reply:
    """The answer of the network of this process."""
    from bgimage.codec import decode
    from bgimage.geometry import decode_side, network_input

    at_least = decode_side(network.contract)
    photo = decode(source, limits, at_least=at_least) if isinstance(source, bytes) else source
    alpha = network.alpha(network_input(photo, network.contract), max(deadline.left_s, 0.001))
    return _Reply("this process", network.contract, alpha, 1, 0, request_id)


def _described(network: LocalNetwork) -> ServerInfo:
    return ServerInfo(
        server="this process", ready=True, network="bgclient", backend=network.name, contract=network.contract
    )


def _ask(endpoint: Endpoint, message: Request | _wire.Query, deadline: Deadline) -> Ask:
    """An ``Ask`` that ends with the deadline."""
    left_s = deadline.left_s
    if left_s <= 0:
        raise DeadlineExceeded(f"no answer from {endpoint} in time")
    return Ask(endpoint, message, left_s)


def _last_word(error: TransportError, tried: list[Endpoint], deadline: Deadline) -> TransportError:
    """The error that the caller sees: what, which, after how long, and what next."""
    tries = f"{len(tried)} {'try' if len(tried) == 1 else 'tries'}"
    match error:
        case ServerUnavailable():
            return ServerUnavailable(
                f"{error} after {deadline.elapsed_s:.1f} s and {tries}; "
                'start one with "bgclient serve", or set BGCLIENT_URL to where one runs'
            )
        case ServerBusy():
            return ServerBusy(f"{error} ({tries} in {deadline.elapsed_s:.1f} s)")
        case DeadlineExceeded():
            return DeadlineExceeded(
                f"no answer from {tried[-1]} within {deadline.timeout_s:g} s ({tries}); "
                'give a longer timeout_s, or see with "bgclient doctor" what takes so long'
            )
    return error


def _network_of(config: Mapping[str, Any]) -> dict[str, Any]:
    backend = config.get("backend") or config.get("platform", "")
    runtime = config.get("runtime", "")
    kinds = {group.get("kind", "KIND_AUTO") for group in config.get("instance_group", [])}
    return {
        "network": config["name"],
        "backend": f"{backend} (python)" if runtime == "model.py" else backend,
        "devices": tuple(sorted(kind.removeprefix("KIND_").lower() for kind in kinds)),
    }


def _holds_matte(options: Options) -> bool:
    """True where the alpha of the finished picture is the people's matte, pixel by pixel of the photo."""
    changed = options.output == "inverse" or options.background is not None or options.shadow
    placed = options.crop or options.canvas or options.scale or options.position != "original"
    return not (changed or placed or options.max_pixels)


def _decoded(source: bytes | Photo, limits: Limits, options: Options) -> Photo:
    """All pixels, and what finishing will first make of them."""
    from bgimage.codec import decode

    photo = decode(source, limits) if isinstance(source, bytes) else source
    if options.colors == "keep" and (options.edges != "none" or options.decontaminate):
        photo.middle  # noqa: B018  kept once made
    return photo


def _seen(source: bytes | Photo, contract: Contract, limits: Limits) -> bytes:
    """The photo as the network sees it, as a PNG.

    Decoded as the server's preprocessing would (a large JPEG at a reduced scale), and without loss from
    there: so the server makes the very same input of it as of the whole photo.
    """
    from bgimage.codec import decode, encode
    from bgimage.geometry import decode_side, shrunk

    photo = decode(source, limits, at_least=decode_side(contract)) if isinstance(source, bytes) else source
    return encode(shrunk(photo, contract), "png")


def _encoded(source: bytes | Photo) -> bytes:
    """Bytes for the server; pixels become a PNG, without loss."""
    if isinstance(source, bytes):
        return source
    import numpy as np

    from bgimage.codec import encode

    pixels = source.pixels if source.alpha is None else np.dstack([source.pixels, source.alpha])
    return encode(pixels, "png", icc=source.icc, exif=source.exif, dpi=source.dpi)


_clients: weakref.WeakSet[BaseClient] = weakref.WeakSet()
_of_the_parent: list[object] = []
"""Connections that a forked child inherited: the parent's to close, and never collected here, which would
close them.
"""


def _after_fork() -> None:
    for client in _clients:
        _of_the_parent.append({name: vars(client).get(name) for name in client._transient})
        client._begin()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
