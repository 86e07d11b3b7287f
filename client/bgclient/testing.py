"""A server that is not there: for tests of programs that use this client.

>>> from bgclient import Client
>>> from bgclient.testing import FakeServer
>>> server = FakeServer()
>>> client = Client("fake:8001", connector=server)

Photos go through the real client, the real pre- and post-processing and the real protocol values; only the
network is made up (``ellipse`` unless another is given) and nothing leaves the process. ``server.fail``
orders errors, ``server.requests`` shows what was asked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from bgclient._cancel import Cancel
from bgclient._endpoints import Endpoint, described
from bgclient._wire import Answer, Query, Request, Tensor
from bgclient.errors import (
    BgError,
    CallCancelled,
    DeadlineExceeded,
    ModelMissing,
    NetworkChanged,
    ServerUnavailable,
)
from bgclient.transports import Credentials, Transport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bgimage.contract import Contract

    Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """image uint8 (3, S, S) RGB to alpha float32 (S, S) in [0, 1]."""


def ellipse(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A soft ellipse in the middle, whatever the photo shows: alpha float32 (S, S) of an image (3, S, S)."""
    import numpy as np

    height, width = image.shape[1:]
    y, x = np.ogrid[:height, :width]
    radius = np.hypot((y - height / 2 + 0.5) / (0.3 * height), (x - width / 2 + 0.5) / (0.2 * width))
    alpha: NDArray[np.float32] = np.clip((1.1 - radius) / 0.2, 0, 1).astype(np.float32)
    return alpha


class FakeServer:
    """Answers like a Triton with our models, in this process. Give it to a client as ``connector``.

    Args:
        network: image uint8 (3, S, S) to alpha float32 (S, S).
        contract: what the models state; its ``size_hw`` is the S.
        delay_s: how long each inference takes.
        down: addresses ("host:port") that do not answer.
    """

    def __init__(
        self,
        network: Network = ellipse,
        *,
        contract: Contract | None = None,
        delay_s: float = 0.0,
        down: Iterable[str] = (),
    ) -> None:
        from bgimage.contract import Contract

        self.network = network
        self.contract = contract or Contract()
        self.delay_s = delay_s
        self.down = set(down)
        self.ready = True
        """What it says of itself; a server that starts or ends is not."""
        self.requests: list[tuple[str, Request]] = []
        """Every inference that arrived: address and request."""
        self.queries: list[tuple[str, Query]] = []
        """Every other question that arrived."""
        self.cancelled = 0
        """Inferences that the client cancelled."""
        self.in_flight = self.most_in_flight = 0
        """Inferences at this moment, and the most there ever were."""
        self._errors: deque[BgError] = deque()
        self._lock = threading.Lock()

    def fail(self, *errors: BgError) -> None:
        """The next inferences end with these errors, one each, in order."""
        self._errors.extend(errors)

    def connect(self, endpoints: tuple[Endpoint, ...], credentials: Credentials) -> Transport:
        """The way to this server."""
        return _FakeTransport(self, endpoints)

    def _arrived(self, endpoints: tuple[Endpoint, ...], request: Request) -> None:
        address = self._reached(endpoints)
        with self._lock:
            self.requests.append((address, request))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _left(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def _reached(self, endpoints: tuple[Endpoint, ...]) -> str:
        """The address whose turn it is, of those that are not down."""
        up = [endpoint.address for endpoint in endpoints if endpoint.address not in self.down]
        if not up:
            raise ServerUnavailable(
                f"no Triton at {described(endpoints)} (this is a fake server that is down)"
            )
        return up[len(self.requests) % len(up)]

    def _answer(self, request: Request) -> Answer:
        """What the models would answer; raises what ``fail`` ordered."""
        import numpy as np

        from bgimage.codec import decode
        from bgimage.finish import finish
        from bgimage.geometry import decode_side, network_input
        from bgimage.options import Options

        with self._lock:
            if self._errors:
                raise self._errors.popleft()
        if request.model == "fake_network":
            if request.inputs[0].shape != (1, 3, *self.contract.size_hw):
                raise NetworkChanged(f"unexpected shape for input {self.contract.input_tensor!r}")
            image = np.frombuffer(request.inputs[0].data, np.uint8).reshape(3, *self.contract.size_hw)
            alpha, name = self.network(image), self.contract.output_tensor
            return Answer(request.model, {name: Tensor(name, "FP32", (1, 1, *alpha.shape), alpha.tobytes())})
        if request.model.partition("_")[0] != "cutout":
            raise ModelMissing(f"there is no model {request.model!r} here")
        given = {tensor.name: tensor.items()[0] for tensor in request.inputs}
        small = decode(given["photo"], at_least=decode_side(self.contract))
        alpha = self.network(network_input(small, self.contract))
        options = Options.from_json(given.get("options", b""))
        made = finish(decode(given["photo"]), alpha, self.contract, options)
        tensors = {"cutout": made.encode(), "facts": made.facts()}
        return Answer(request.model, {name: Tensor.of_bytes(name, [data]) for name, data in tensors.items()})

    def _said(self, endpoints: tuple[Endpoint, ...], query: Query) -> dict[str, Any]:
        address = self._reached(endpoints)
        with self._lock:
            self.queries.append((address, query))
        match query.rpc:
            case "ServerReady":
                return {"ready": self.ready}
            case "ServerMetadata":
                return {"name": "fake", "version": "0"}
            case "RepositoryIndex":
                return {
                    "models": [
                        {"name": name, "state": "READY"} for name in ("cutout", "fake_network", "matte")
                    ]
                }
            case "ModelConfig":
                return {"config": self._config(query.fields["name"])}
        return {}

    def _config(self, model: str) -> dict[str, Any]:
        if model == "fake_network":
            return {"name": model, "backend": "fake", "input": [{"name": self.contract.input_tensor}]}
        return {
            "name": model,
            "parameters": {"contract": {"string_value": self.contract.to_json()}},
            "ensemble_scheduling": {
                "step": [
                    {"model_name": "fake_preprocess", "input_map": {"photo": "photo"}},
                    {"model_name": "fake_network", "input_map": {self.contract.input_tensor: "image"}},
                ]
            },
        }


class _FakeTransport:
    def __init__(self, server: FakeServer, endpoints: tuple[Endpoint, ...]) -> None:
        self._server = server
        self._endpoints = endpoints

    def infer(self, request: Request, timeout_s: float, cancel: Cancel) -> Answer:
        self._server._arrived(self._endpoints, request)
        try:
            until = time.monotonic() + timeout_s
            try:
                cancel.sleep(min(self._server.delay_s, timeout_s))
            except CallCancelled:
                self._server.cancelled += 1
                raise
            if time.monotonic() >= until:
                raise DeadlineExceeded(f"no answer from {described(self._endpoints)} in time")
            return self._server._answer(request)
        finally:
            self._server._left()

    def query(self, query: Query, timeout_s: float, cancel: Cancel) -> dict[str, Any]:
        return self._server._said(self._endpoints, query)

    def close(self) -> None:
        pass
