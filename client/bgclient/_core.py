"""What ``Client`` and ``AsyncClient`` decide alike, without touching a socket: settings, requests, results."""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from bgclient._endpoints import parse_endpoints
from bgclient._link import THIS_PROCESS, Link
from bgclient._retry import Deadline
from bgclient._served import Seen, Served
from bgclient._wire import Answer, Request, Tensor
from bgclient.errors import ServerFault
from bgclient.fetch import Fetcher
from bgclient.telemetry import Hooks, NoHooks, id_of_this_call
from bgclient.transports import TLS, Connector, Network, Wiring
from bgimage.once import cached_property

if TYPE_CHECKING:
    from bgclient.local import LocalNetwork
    from bgclient.options import Where
    from bgclient.results import Cutout
    from bgimage.codec import Limits, Photo
    from bgimage.options import Options


class Call:
    """One cut-out: what was asked, until when, and where its time went."""

    def __init__(self, where: Where, deadline: Deadline, options: Options) -> None:
        if where not in ("client", "server"):
            raise ValueError(f"where={where!r}: use 'client' or 'server'")
        self.where, self.deadline, self.options = where, deadline, options
        self.request_id = id_of_this_call()
        self.tries = self.sent_bytes = 0
        self._phases = dict.fromkeys(("load", "shrink", "ask", "finish"), 0.0)
        self._began = self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """What passed since the last lap belongs to ``phase``."""
        now = time.perf_counter()
        self._phases[phase] += (now - self._last) * 1e3
        self._last = now

    def request(
        self, model: str, tensors: Iterable[Tensor], *outputs: str, headers: Mapping[str, str]
    ) -> Request:
        """The inference of this call."""
        inputs = tuple(tensors)
        self.sent_bytes = len(inputs[0].data)
        return Request(model, inputs, outputs, self.request_id, headers)

    def cutout(self, made: Any, server: str) -> Cutout:
        """The result, ``made`` here or by the server."""
        from bgclient.results import Cutout, Timings

        timings = Timings(
            **{f"{phase}_ms": spent_ms for phase, spent_ms in self._phases.items()},
            total_ms=(time.perf_counter() - self._began) * 1e3,
            tries=self.tries,
            sent_bytes=0 if server == THIS_PROCESS else self.sent_bytes,
            server=server,
            request_id=self.request_id,
        )
        return Cutout(made, timings)


class BaseClient:
    """Settings and decisions; see ``Client``."""

    _transient: ClassVar[tuple[str, ...]] = ()
    """Attributes that ``_begin`` makes: they belong to this process and are not pickled."""

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

    def _call(self, where: Where, timeout_s: float | None, options: Options) -> Call:
        return Call(where, self._deadline(timeout_s), options)

    # What is sent, and what the answers mean.

    def _for_network(self, call: Call, source: bytes | Photo, served: Served) -> Request:
        """What the network sees, made as the server's preprocessing would (a large JPEG at a reduced scale)."""
        from bgimage.codec import decode
        from bgimage.geometry import decode_side, network_input

        contract = served.contract
        call.lap("ask")
        photo = source
        if isinstance(photo, bytes):
            photo = decode(photo, self._limits, at_least=decode_side(contract))
        image = network_input(photo, contract)
        call.lap("shrink")
        tensor = Tensor(contract.input_tensor, "UINT8", (1, *image.shape), image.tobytes())
        return call.request(served.network, [tensor], contract.output_tensor, headers=self._hooks.headers())

    def _for_server(self, call: Call, source: bytes | Photo) -> Request:
        """The whole photo and the options; pixels become a PNG, without loss."""
        data, options = _encoded(source), call.options.to_json().encode()
        call.lap("load")
        tensors = [Tensor.of_bytes("photo", [data]), Tensor.of_bytes("options", [options])]
        return call.request(self._cutout, tensors, "cutout", "facts", headers=self._hooks.headers())

    def _finished_by_server(self, call: Call, answer: Answer, server: str) -> Cutout:
        from bgclient.results import Encoded

        call.lap("ask")
        try:
            (picture,) = answer.output("cutout").items()
            facts = json.loads(answer.output("facts").items()[0])
            box, expected = facts["box"] and tuple(facts["box"]), float(facts["expected_iou"])
            dropped = tuple(map(str, facts["dropped"]))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise ServerFault(f"{server} answers {self._cutout!r} with nonsense: {error}") from error
        return call.cutout(Encoded(picture, box, expected, _holds_matte(call.options), dropped), server)

    def _finished_here(
        self, call: Call, source: bytes | Photo, photo: Photo, seen: Seen, server: str
    ) -> Cutout:
        """The people of ``photo``, which was decoded from ``source``."""
        from bgimage.finish import finish

        call.lap("load")
        finished = finish(photo, seen.alpha, seen.contract, call.options)
        if not isinstance(source, bytes):
            _ = finished.pixels  # now: the caller may use the array again
        call.lap("finish")
        return call.cutout(finished, server)

    def _decoding(self, call: Call, source: bytes | Photo) -> Future[Photo]:
        """All pixels, and what finishing first makes of them, made in a thread of its own while a server is asked.

        The thread ends with it; a call that is cancelled waits for neither.
        """
        beside = ThreadPoolExecutor(1)
        decoding = beside.submit(_decoded, source, self._limits, call.options)
        beside.shutdown(wait=False)
        return decoding


def _known_engine(name: str) -> str:
    from bgclient.local import ENGINES

    if name not in (*ENGINES, "triton"):
        raise ValueError(f"engine={name!r}: use one of {', '.join(ENGINES)}, triton")
    return name


def wanted(options: Options | None, changes: Mapping[str, Any]) -> Options:
    """Options as they were given, with changes; checked once."""
    from bgimage.options import Options

    if options is None:
        return Options.of(**changes)
    return Options.of(**{**vars(options), **changes}) if changes else options


def _holds_matte(options: Options) -> bool:
    """True where the alpha of the finished picture is the people's matte, pixel by pixel of the photo."""
    changed = options.output == "inverse" or options.background is not None or options.shadow
    placed = options.crop or options.canvas or options.scale or options.position != "original"
    return not (changed or placed or options.max_pixels)


def _decoded(source: bytes | Photo, limits: Limits, options: Options) -> Photo:
    from bgimage.codec import decode

    photo = decode(source, limits) if isinstance(source, bytes) else source
    if options.colors == "keep" and (options.edges != "none" or options.decontaminate):
        photo.middle  # noqa: B018  kept once made
    return photo


def _encoded(source: bytes | Photo) -> bytes:
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
