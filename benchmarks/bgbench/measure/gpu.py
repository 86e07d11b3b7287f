"""On an NVIDIA GPU: networks eager, compiled, as CUDA graphs and in ONNX Runtime, FP32, FP16 and BF16, batch 1 to 64;
and the whole ensemble under tritonserver, with ONNX Runtime and with TensorRT.

Times are CUDA events around a run whose input already lies on the GPU. The floor is the one of ``floors``, over peaks
that the same GPU reached in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bgbench.errors import ToolMissing
from bgbench.measure import floors
from bgbench.results import Case, Series

if TYPE_CHECKING:
    import torch

    from bgbench.measure.scenarios import Bench

LARGE = "fc-densenet103"
"""Measured beside every Tiramisu that is trained here."""
BATCHES = (1, 2, 4, 8, 16, 32, 64)
COMPILED_BATCHES = (1, 8, 64)
"""Compiling takes a minute a shape."""
BYTES = {"FP32": 4, "FP16": 2, "BF16": 2}
MODES = ("eager", "compiled", "CUDA graph", "ONNX Runtime CUDA")
L2_BYTES = 50 << 20
"""Second-level cache of an H100; a smaller one makes the floor too low, never too high."""

Run = Callable[[], object]


def gpu_networks(bench: Bench) -> Iterator[Case]:
    """Every network, mode, precision and batch; what does not fit into memory is left out and said."""
    import torch

    if not torch.cuda.is_available():
        raise ToolMissing(
            "set gpu needs a CUDA build of PyTorch and an NVIDIA GPU; neither a CPU nor a fall-back is measured"
        )
    from bgtrain import networks

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # FP32 is to be FP32; matrix products are without TF32 already
    names = [name for name in networks.NAMES if name == LARGE or name.startswith("tiramisu")]
    for precision in BYTES:
        peaks = gpu_peaks(precision)
        for name in names:
            net = networks.build(name).eval()
            for mode in MODES:
                for batch in COMPILED_BATCHES if mode == "compiled" else BATCHES:
                    yield _case(bench, name, net, mode, precision, batch, peaks)


def gpu_ensemble(bench: Bench) -> Iterator[Case]:
    """The server with the network on the GPU: requests in flight, arrivals by chance, one user."""
    from bgbench.measure import scenarios
    from bgexport.repository import Names
    from bgserver import model_repository

    bench.rest()
    trt = Names(bench.model).trt
    for variant in ("onnx-gpu", "trt"):
        if variant == "trt" and not list((model_repository() / trt).glob("*/model.plan")):
            note = "not measured: no TensorRT plan; build one on this GPU with python -m bgexport"
            yield Case(
                scenario="ensemble",
                setting={"variant": variant, "megapixels": 1, "in flight": 1},
                tool="perf_analyzer",
                series={},
                notes=[note],
            )
            continue
        with scenarios.Bench(bench.cache, variant, bench.effort, bench.model) as own:
            for scenario in (
                scenarios.in_flight,
                scenarios.served_network,
                scenarios.one_user,
                scenarios.many_users,
            ):
                for case in scenario(own):
                    ran = own.served.describe()["models"][own.served.network]
                    case.setting.update(variant=variant, backend=f"{ran['backend']} {ran['runtime']}")
                    yield case


def _case(
    bench: Bench, name: str, net: torch.nn.Module, mode: str, precision: str, batch: int, peaks: floors.Peaks
) -> Case:
    import torch

    setting = {"network": name, "mode": mode, "precision": precision, "batch": batch}
    cost = floors.count(bench.exported(name), batch=batch, bytes_per_value=BYTES[precision])
    floor_ms = 1e3 * peaks.floor_s(cost, fused=True)
    series = {
        "floor, fused": Series(unit="ms", values=[floor_ms]),
        "floor, as written": Series(unit="ms", values=[1e3 * peaks.floor_s(cost, fused=False)]),
        "bound by memory": Series(unit="ratio", values=[peaks.memory_share(cost)]),
        "operations": Series(unit="GFLOP", values=[cost.flops / 1e9]),
    }
    try:
        values = event_times_ms(_runner(bench, name, net, mode, precision, batch), bench.times(50))
    except (
        Exception
    ) as error:  # whatever a compiler or a provider makes of a network: the others are still measured
        torch.cuda.empty_cache()
        note = f"not measured: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return Case(scenario="network, GPU", setting=setting, tool="CUDA events", series=series, notes=[note])
    series["latency"] = Series(unit="ms", values=values[5:], warm_up=values[:5])
    series["throughput"] = Series(unit="photos/s", values=[1e3 * batch / value for value in values[5:]])
    return Case(scenario="network, GPU", setting=setting, tool="CUDA events", series=series)


def _runner(bench: Bench, name: str, net: torch.nn.Module, mode: str, precision: str, batch: int) -> Run:
    """A run on the GPU, warmed up."""
    import torch

    height, width = bench.contract.size_hw
    if mode == "ONNX Runtime CUDA":
        return _onnxruntime(bench, name, precision, batch)
    kind = {"FP32": torch.float32, "FP16": torch.float16, "BF16": torch.bfloat16}[precision]
    placed = net.to("cuda", kind)
    placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
    image = torch.zeros(batch, 3, height, width, device="cuda", dtype=kind).to(
        memory_format=torch.channels_last
    )
    if mode == "compiled":
        torch.compiler.reset()  # each shape by itself, never a graph for all of them or one too many
        forward = torch.compile(placed, dynamic=False)
    else:
        forward = placed

    def run() -> object:
        with torch.inference_mode():
            return forward(image)

    if mode != "CUDA graph":
        return run
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a capture wants everything allocated and chosen before
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _onnxruntime(bench: Bench, name: str, precision: str, batch: int) -> Run:
    """ONNX Runtime's CUDA provider, input and output bound to the GPU; FP16 by converting the graph, no BF16."""
    import numpy as np
    import onnx

    from bgexport.precision import fp16
    from bgimage import runtimes

    onnxruntime = runtimes.onnxruntime()
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ToolMissing(
            "ONNX Runtime has no CUDA provider here; pip install onnxruntime-gpu in place of onnxruntime"
        )
    if precision == "BF16":
        raise ToolMissing("ONNX Runtime's CUDA provider has no BF16 convolutions")
    model = onnx.load(bench.exported(name))
    if precision == "FP16":
        model = fp16(model)
    provider = ("CUDAExecutionProvider", {"use_tf32": "0"})
    session = runtimes.session(model.SerializeToString(), providers=[provider])
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise ToolMissing(
            "ONNX Runtime's CUDA provider did not start; its CUDA or cuDNN does not fit the driver"
        )
    image = np.zeros((batch, 3, *bench.contract.size_hw), np.uint8)
    binding = session.io_binding()
    binding.bind_ortvalue_input("image", onnxruntime.OrtValue.ortvalue_from_numpy(image, "cuda", 0))
    binding.bind_output("alpha", "cuda")

    def run() -> object:
        return session.run_with_iobinding(binding)  # synchronous

    return run


def event_times_ms(run: Run, count: int) -> list[float]:
    """Milliseconds of each run on the GPU, five of them as warm-up first."""
    import torch

    times = []
    for _ in range(5 + count):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def gpu_peaks(precision: str) -> floors.Peaks:
    """Matrix product in this precision (FP32: no TF32, as the networks are run) and copies, best of several."""
    import torch

    kind = {"FP32": torch.float32, "FP16": torch.float16, "BF16": torch.bfloat16}[precision]
    side = 8192
    a, b = (torch.rand(side, side, device="cuda", dtype=kind) for _ in range(2))
    product_ms = min(event_times_ms(lambda: a @ b, 10)[5:])
    large = torch.zeros(2 << 30, device="cuda", dtype=torch.uint8)
    copy_ms = min(event_times_ms(large.clone, 10)[5:])
    small = torch.zeros(8 << 20, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(small)
    graph = torch.cuda.CUDAGraph()  # a copy is shorter than its launch
    with torch.cuda.graph(graph):
        for _ in range(20):
            target.copy_(small)
    cache_ms = min(event_times_ms(graph.replay, 10)[5:]) / 20
    return floors.Peaks(
        2 * side**3 / product_ms / 1e6,
        2 * large.numel() / copy_ms / 1e6,
        2 * small.numel() / cache_ms / 1e6,
        L2_BYTES,
    )
