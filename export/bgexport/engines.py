"""What can run an exported network, behind one call: uint8 (N, 3, H, W) -> alpha float32 (N, 1, H, W)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bgexport.graph import served_module
from bgimage.contract import Contract

if TYPE_CHECKING:
    import torch

Alpha = NDArray[np.float32]
Run = Callable[[NDArray[np.uint8]], Alpha]


def torch_engine(net: torch.nn.Module, contract: Contract) -> Run:
    """PyTorch in FP32: the reference."""
    import torch

    served = served_module(net, contract)

    def run(images: NDArray[np.uint8]) -> Alpha:
        with torch.inference_mode():
            return np.asarray(served(torch.from_numpy(images)).numpy(), np.float32)

    return run


def onnxruntime_engine(model: Path | bytes, *, threads: int = 0) -> Run:
    """ONNX Runtime on the CPU; ``threads=0``: a thread a core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    (feed,), (fetch,) = session.get_inputs(), session.get_outputs()

    def run(images: NDArray[np.uint8]) -> Alpha:
        return np.asarray(session.run([fetch.name], {feed.name: images})[0], np.float32)

    return run


def openvino_engine(model: Path, *, threads: int = 0, precision: str = "f32") -> Run:
    """OpenVINO on the CPU, computing FP32 graphs in ``precision`` ("bf16" needs AVX512-BF16 or AMX)."""
    import openvino

    settings: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = openvino.Core().compile_model(str(model), "CPU", settings).create_infer_request()

    def run(images: NDArray[np.uint8]) -> Alpha:
        return np.array(next(iter(request.infer([images]).values())), np.float32)

    return run
