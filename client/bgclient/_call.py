"""One cut-out of a client: what is sent for it, what the answers mean, and where its time goes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bgclient._retry import Deadline
from bgclient._served import Seen, Served
from bgclient._session import THIS_PROCESS
from bgclient._wire import Answer, Request, Tensor
from bgclient.errors import ServerFault
from bgclient.telemetry import Hooks, id_of_this_call

if TYPE_CHECKING:
    from bgclient.options import Side, Where
    from bgclient.results import Cutout
    from bgimage.closer import Closer
    from bgimage.codec import Limits, Photo
    from bgimage.contract import Contract
    from bgimage.options import Options


_PNG_PHOTO, _LOSSLESS, _LOSSY = 2.0, 1.0, 0.2
"""Bytes a pixel: of a photo as a PNG, and of finished pictures by their format, with people on half of them."""


class Call:
    """What was asked, until when, and where its time went."""

    def __init__(
        self, where: Where, deadline: Deadline, options: Options, *, limits: Limits, hooks: Hooks
    ) -> None:
        if where not in ("client", "server", "auto"):
            raise ValueError(f"where={where!r}: use 'client', 'server' or 'auto'")
        self.deadline, self.options = deadline, options
        self._limits, self._hooks = limits, hooks
        self.request_id = id_of_this_call()
        self.tries = self.sent_bytes = 0
        self._phases = dict.fromkeys(("load", "shrink", "ask", "finish"), 0.0)
        self._began = self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """What passed since the last lap belongs to ``phase``."""
        now = time.perf_counter()
        self._phases[phase] += (now - self._last) * 1e3
        self._last = now

    def shorter(self, source: bytes | Photo, contract: Contract) -> Side:
        """Where to finish, so that photo or network's input and the answer have fewer bytes together.

        A second look needs the alpha here. How large the finished picture will be is estimated, as is a PNG of pixels.
        """
        from bgimage.codec import probe

        options = self.options
        if options.at_least:
            return "client"
        known = probe(source, self._limits) if isinstance(source, bytes) else source
        pixels = math.prod(known.size_hw)
        sent = len(source) if isinstance(source, bytes) else pixels * _PNG_PHOTO
        made = options.format or (known.format if options.background is not None else "png")
        each = _LOSSY if made in ("jpeg", "webp", "avif") else _LOSSLESS
        answer = min(pixels, options.max_pixels or pixels) * each
        network = math.prod(contract.size_hw) * (3 + 4)  # RGB uint8, alpha float32
        return "server" if sent + answer < network else "client"

    def for_network(self, source: bytes | Photo, served: Served) -> Request:
        """What the network sees, made as the server's preprocessing would (a large JPEG at a reduced scale)."""
        from bgimage.codec import decode
        from bgimage.geometry import decode_side, network_input

        contract = served.contract
        self.lap("ask")
        photo = source
        if isinstance(photo, bytes):
            photo = decode(photo, self._limits, at_least=decode_side(contract))
        image = network_input(photo, contract)
        self.lap("shrink")
        tensor = Tensor(contract.input_tensor, "UINT8", (1, *image.shape), image.tobytes())
        return self._request(served.network, [tensor], contract.output_tensor)

    def for_server(self, source: bytes | Photo, model: str) -> Request:
        """The whole photo and the options; pixels become a PNG, without loss."""
        data, options = _encoded(source), self.options.to_json().encode()
        self.lap("load")
        tensors = [Tensor.of_bytes("photo", [data]), Tensor.of_bytes("options", [options])]
        return self._request(model, tensors, "cutout", "facts")

    def _request(self, model: str, tensors: Iterable[Tensor], *outputs: str) -> Request:
        inputs = tuple(tensors)
        self.sent_bytes = len(inputs[0].data)
        return Request(model, inputs, outputs, self.request_id, self._hooks.headers())

    def finished_by_server(self, answer: Answer, server: str) -> Cutout:
        """The picture that the server made."""
        from bgclient.results import Encoded

        self.lap("ask")
        try:
            (picture,) = answer.output("cutout").items()
            facts = json.loads(answer.output("facts").items()[0])
            box, expected = facts["box"] and tuple(facts["box"]), float(facts["expected_iou"])
            dropped = tuple(map(str, facts["dropped"]))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise ServerFault(f"{server} answers {answer.model!r} with nonsense: {error}") from error
        return self._cutout(Encoded(picture, box, expected, _holds_matte(self.options), dropped), server)

    def closer(self, photo: Photo, seen: Seen) -> Closer | None:
        """What to look at again; None where the first look is good enough, or nothing is closer."""
        from bgimage.closer import Closer
        from bgimage.finish import meant

        if not self.options.at_least:
            return None
        small, hoped = meant(photo, seen.alpha, seen.contract, self.options)
        return Closer.on(photo, small) if hoped < self.options.at_least else None

    def surer(self, photo: Photo, first: Seen, closer: Closer, again: Seen) -> Seen:
        """The look with the higher expected IoU; ``again`` is of ``closer`` alone."""
        from bgimage.finish import meant

        whole = closer.whole(again.alpha, photo.size_hw, again.contract)
        looks = (first, Seen(again.contract, whole, looks=2))
        return max(looks, key=lambda one: meant(photo, one.alpha, one.contract, self.options)[1])

    def finished_here(self, source: bytes | Photo, photo: Photo, seen: Seen, server: str) -> Cutout:
        """The people of ``photo``, which was decoded from ``source``."""
        from bgimage.finish import finish

        self.lap("load")
        finished = finish(photo, seen.alpha, seen.contract, self.options, looks=seen.looks)
        if not isinstance(source, bytes):
            _ = finished.pixels  # now: the caller may use the array again
        self.lap("finish")
        return self._cutout(finished, server)

    def _cutout(self, made: Any, server: str) -> Cutout:
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

    def decoding(self, source: bytes | Photo) -> Future[Photo]:
        """All pixels, and what finishing first makes of them, made in a thread of its own while a server is asked.

        The thread ends with it; a call that is cancelled waits for neither.
        """
        worker = ThreadPoolExecutor(1)
        decoding = worker.submit(_decoded, source, self._limits, self.options)
        worker.shutdown(wait=False)
        return decoding


def _holds_matte(options: Options) -> bool:
    """True where the alpha of the finished picture is the people's matte, pixel by pixel of the photo."""
    changed = options.output == "inverse" or options.background is not None or options.shadow
    placed = options.crop or options.canvas or options.scale or options.position != "original"
    return not (changed or placed or options.max_pixels)


def _decoded(source: bytes | Photo, limits: Limits, options: Options) -> Photo:
    from bgimage.codec import decode

    photo = decode(source, limits) if isinstance(source, bytes) else source
    if options.colors == "keep" and (options.edges != "none" or options.decontaminate):
        _ = photo.middle  # kept once made: finishing needs it first
    return photo


def _encoded(source: bytes | Photo) -> bytes:
    if isinstance(source, bytes):
        return source
    import numpy as np

    from bgimage.codec import encode

    pixels = source.pixels if source.alpha is None else np.dstack([source.pixels, source.alpha])
    return encode(pixels, "png", icc=source.icc, exif=source.exif, dpi=source.dpi)
