"""What can run a network, behind one call: uint8 (N, 3, H, W) -> alpha float32 (N, 1, H, W).

ONNX Runtime and OpenVINO are the server's own (``bgserver.engines``): what is verified and measured is what serves.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bgexport.plan import bindings
from bgimage import runtimes
from bgimage.contract import Contract
from bgserver import engines as served
from bgserver import plans

if TYPE_CHECKING:
    import torch

Alpha = NDArray[np.float32]
Run = Callable[[NDArray[np.uint8]], Alpha]

THREADS = len(os.sched_getaffinity(0))
"""Of one engine: as many as this process may use."""

CPU_ENGINES: dict[str, Callable[..., served.Engine]] = {
    "ONNX Runtime": served.onnxruntime_engine,
    "OpenVINO": served.openvino_engine,
}
"""By the name that tables use."""
BF16 = "OpenVINO BF16"
"""Only on CPUs with AVX512-BF16 or AMX."""
EMULATION = "QDQ in FP32"


def engines_for(precision: str) -> list[str]:
    """Names of what computes a graph of ``precision`` on the CPU as it is written, for ``cpu_engine``.

    Graphs for the GPU's INT8 are only emulated: CPUs without VNNI sum two products in 16 bits, which overflow.
    """
    return [EMULATION] if precision == "int8-gpu" else list(CPU_ENGINES)


def torch_engine(net: torch.nn.Module, contract: Contract) -> Run:
    """PyTorch in FP32: the reference."""
    import torch

    from bgtrain.networks import ServedModule

    module = ServedModule(net, contract)

    def run(images: NDArray[np.uint8]) -> Alpha:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(images)).numpy(), np.float32)

    return run


def cpu_engine(name: str, model: Path) -> Run:
    """One of ``CPU_ENGINES``, ``BF16`` or the ``EMULATION``, with ``model`` in it."""
    if name == EMULATION:
        return _emulation(model)
    if name == BF16:
        engine = served.openvino_engine(model, threads=THREADS, bf16=True)
    else:
        engine = CPU_ENGINES[name](model, threads=THREADS)
    (feed,), (fetch,) = engine.inputs, engine.outputs

    def run(images: NDArray[np.uint8]) -> Alpha:
        return np.asarray(engine.run({feed: images}, [fetch])[0], np.float32)

    return run


def _emulation(model: Path) -> Run:
    """ONNX Runtime, node by node: quantise, dequantise, convolve in FP32. Slow; what an INT8 GPU computes."""
    as_written = runtimes.onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtimes.session(model, graph_optimization_level=as_written)
    feed = session.get_inputs()[0].name

    def run(images: NDArray[np.uint8]) -> Alpha:
        return np.asarray(session.run(None, {feed: images})[0], np.float32)

    return run


def plan_engine(plan: Path, contract: Contract) -> Run:
    """A TensorRT plan on this machine's GPU. ``PlanRefused`` where it does not fit, ``BuildError`` without TensorRT."""
    import torch

    trt = bindings("tensorrt")
    plans.check(plan, plans.Machine.here(str(trt.__version__)), contract_fingerprint=contract.fingerprint)
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    context = engine.create_execution_context()

    def run(images: NDArray[np.uint8]) -> Alpha:
        photos = torch.from_numpy(images).cuda()
        alphas = torch.empty((len(images), 1, *contract.size_hw), device="cuda")
        context.set_input_shape(contract.input_tensor, tuple(photos.shape))
        context.set_tensor_address(contract.input_tensor, photos.data_ptr())
        context.set_tensor_address(contract.output_tensor, alphas.data_ptr())
        stream = torch.cuda.current_stream()
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return np.asarray(alphas.cpu().numpy(), np.float32)

    return run
