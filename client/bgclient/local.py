"""The network in this process: what ``cut`` uses where no server is named."""

from __future__ import annotations

import importlib.util
import os
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from bgclient._begun import begun, done
from bgclient._cancel import Cancel
from bgclient._served import ServerInfo
from bgclient._wire import Answer, Request, Tensor
from bgclient.errors import DeadlineExceeded, NoServer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bgserver.engines import Engine

ENGINES = ("onnxruntime", "openvino", "openvino-bf16", "cuda", "coreml", "directml")
"""What can run the network here; each by name alone, never one in place of another."""


class LocalNetwork:
    """The network that came with this package, loaded. It takes one photo at a time, with all cores: meanwhile others
    are decoded and finished, and memory does not grow with the callers.
    """

    def __init__(self, engine: Engine) -> None:
        from bgimage.contract import Contract

        if engine.contract is None:
            raise NoServer("the network of this package carries no contract; install bgclient again")
        self.name = engine.name
        """Engine, device, precision and threads."""
        self.contract = Contract.from_json(engine.contract)
        self._engine = engine
        self._turn = threading.Lock()

    def alpha(self, image: NDArray[np.uint8], timeout_s: float) -> NDArray[np.float32]:
        """alpha float32 (H, W), 0..1, of an image uint8 (3, H, W). ``DeadlineExceeded`` when others took so long."""
        if not self._turn.acquire(timeout=timeout_s):
            raise DeadlineExceeded(
                f"no turn for this photo within {timeout_s:.1f} s; cut fewer at a time, or give a longer timeout_s"
            )
        try:
            (alpha,) = self._engine.run(
                {self.contract.input_tensor: image[None]}, [self.contract.output_tensor]
            )
        finally:
            self._turn.release()
        found: NDArray[np.float32] = alpha[0, 0]
        return found

    # As a client asks a server.

    def infer(self, request: Request, timeout_s: float, cancel: Cancel) -> Answer:
        """The alpha for an image."""
        import numpy as np

        image = np.frombuffer(request.inputs[0].data, np.uint8).reshape(3, *self.contract.size_hw)
        alpha = np.ascontiguousarray(self.alpha(image, timeout_s))
        name = self.contract.output_tensor
        return Answer(request.model, {name: Tensor(name, "FP32", (1, 1, *alpha.shape), alpha.tobytes())})

    def close(self) -> None:
        """Nothing: other clients of the process go on using it."""

    def info(self) -> ServerInfo:
        """The engine, in place of a server."""
        return ServerInfo(
            "this process", ready=True, network="bgclient", backend=self.name, contract=self.contract
        )


_lock = threading.Lock()
_loads: dict[str, Future[LocalNetwork]] = {}
_loading = threading.Lock()
_networks: dict[str, LocalNetwork] = {}
_of_the_parent: list[object] = []
"""What a forked child inherited: its threads are not there, and ending it would wait for them."""


def loading(engine: str) -> Future[LocalNetwork]:
    """What ``network`` gives, once it is loaded; for callers with a deadline."""
    with _lock:
        if engine in _networks:
            return done(_networks[engine])
        if engine not in _loads or _loads[engine].done():
            _loads[engine] = begun(partial(network, engine), daemon=False)
        return _loads[engine]


def network(engine: str) -> LocalNetwork:
    """The network in the engine of that name, loaded once a process.

    Raises:
        NoServer: ONNX Runtime is not installed.
        BgError: what ``bgserver`` says of an engine that is not here or does not start.
    """
    with _loading:
        if engine not in _networks:
            _networks[engine] = LocalNetwork(_loaded(engine))
        return _networks[engine]


def _loaded(engine: str) -> Engine:
    if engine == "onnxruntime" and importlib.util.find_spec("onnxruntime") is None:
        raise NoServer(
            "no server is named and ONNX Runtime is not installed here; pip install 'bgclient[local]', "
            "or set BGCLIENT_URL=host:8001"
        )
    from bgserver import engines
    from bgserver.repository import network_file

    found, _ = engines.load(network_file(), engine)
    return found


def _before_fork() -> None:
    """Wait until no thread is inside an engine: a forked child could never get its locks."""
    _lock.acquire()
    _loading.acquire()
    for one in _networks.values():
        one._turn.acquire()


def _after_fork_in_parent() -> None:
    for one in _networks.values():
        one._turn.release()
    _loading.release()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock, _loading
    _lock = threading.Lock()
    _loads.clear()
    _of_the_parent.extend(_networks.values())
    _networks.clear()
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
