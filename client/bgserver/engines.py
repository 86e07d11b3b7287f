"""What runs an ONNX network, in the Python-based ``onnxruntime`` backend and in a client's own process: ONNX Runtime or
OpenVINO.

One by name, or "auto": OpenVINO in BF16 where the CPU has it (AVX512-BF16, AMX: 2.2 to 2.6 times ONNX Runtime
on these networks); else the faster of ONNX Runtime and OpenVINO in FP32, timed for a moment on this machine: which one
that is depends on the network as much as on the CPU.
What was chosen and why is logged. Asked for by name and missing is an error, never a slower stand-in.
"""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage import runtimes
from bgimage.cpu import flags as cpu_flags
from bgserver.errors import EngineMissing
from bgserver.strict import TensorSpec

NAMES = ("auto", "onnxruntime", "openvino", "openvino-bf16", "cuda", "coreml", "directml")

_PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime, on a Mac"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml, on Windows"),
}
"""ONNX Runtime's execution provider of an engine, and what carries it. Only CPU and OpenVINO were run by the tests."""

Feeds = Mapping[str, NDArray[Any]]

_TRIALS = 4
"""Timed runs of each engine; the best counts."""

_MARGIN = 1.1
"""OpenVINO must be this many times faster than ONNX Runtime, which loads quicker and needs less memory."""

_ONNX_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}


@dataclass(frozen=True)
class Engine:
    """A loaded network."""

    name: str
    """Engine, precision and threads, for the log."""
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    run: Callable[[Feeds, Sequence[str]], list[NDArray[Any]]]
    """Arrays by input name, and the wanted outputs' names -> their arrays, in that order."""
    contract: str | None = None
    """The contract in the network's file, as JSON; None where there is none."""


def cores() -> int:
    """Cores that this process may keep busy: the CPUs it may run on, a container's quota, and OMP_NUM_THREADS
    (which Ray and batch systems set for each of their workers).
    """
    known = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    limits = [len(known)]
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limits.append(math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # not Linux, or "max"
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit():
        limits.append(int(asked))
    return max(1, min(limits))


_IMPORTS: dict[str, Callable[[], Any]] = {"onnxruntime": runtimes.onnxruntime, "openvino": runtimes.openvino}


def _required(package: str) -> Any:
    """ONNX Runtime or OpenVINO. ``EngineMissing`` where it is not installed."""
    if importlib.util.find_spec(package) is None:
        raise EngineMissing(
            f"engine {package} was asked for and {package} is not installed; pip install {package}"
        )
    return _IMPORTS[package]()


def onnxruntime_engine(
    model: Path, *, threads: int, accelerator: str | None = None, device: int = 0
) -> Engine:
    """ONNX Runtime on the CPU, or through the execution provider of "cuda", "coreml" or "directml".

    Raises:
        EngineMissing: not installed, or without that provider, or the provider does not start.
    """
    ort = _required("onnxruntime")
    providers: list[Any] = ["CPUExecutionProvider"]
    provider, package = _PROVIDERS[accelerator] if accelerator else (providers[0], "")
    if provider not in ort.get_available_providers():
        raise EngineMissing(
            f"engine {accelerator} was asked for and this onnxruntime is built without; pip install {package}"
        )
    if accelerator:
        providers.insert(0, provider if accelerator == "coreml" else (provider, {"device_id": device}))
    session = runtimes.session(
        model,
        threads=threads,
        providers=providers,
        enable_mem_pattern=accelerator != "directml",  # which wants it so
    )
    if provider not in session.get_providers():  # ONNX Runtime goes on without, with a warning
        raise EngineMissing(
            f"engine {accelerator} was asked for and device {device} does not start; see the log above"
        )

    def tensors(infos: Sequence[Any]) -> dict[str, TensorSpec]:
        return {
            i.name: TensorSpec(
                _ONNX_TYPES.get(i.type, i.type), tuple(d if isinstance(d, int) else -1 for d in i.shape)
            )
            for i in infos
        }

    def run(feeds: Feeds, wanted: Sequence[str]) -> list[NDArray[Any]]:
        answers: list[NDArray[Any]] = session.run(list(wanted), dict(feeds))
        return answers

    place = f"{accelerator} device {device}" if accelerator else "CPU"
    return Engine(
        f"ONNX Runtime {ort.__version__} on {place}, FP32, {threads} threads",
        tensors(session.get_inputs()),
        tensors(session.get_outputs()),
        run,
        session.get_modelmeta().custom_metadata_map.get("contract"),
    )


def _has_cuda() -> bool:
    """The ONNX Runtime that is installed can compute on NVIDIA GPUs."""
    ort = _required("onnxruntime")
    return "CUDAExecutionProvider" in ort.get_available_providers()


def openvino_engine(model: Path, *, threads: int, bf16: bool = False) -> Engine:
    """OpenVINO on the CPU.

    Raises:
        EngineMissing: not installed, or BF16 on a CPU without it.
    """
    if bf16 and not cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        raise EngineMissing(
            "engine openvino-bf16 was asked for and this CPU has neither AVX512-BF16 nor AMX; use openvino"
        )
    ov = _required("openvino")
    precision = "BF16" if bf16 else "FP32"
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # several processes would pin their threads to the same cores
    }
    core = ov.Core()
    network = core.read_model(str(model))
    compiled = core.compile_model(network, "CPU", settings)
    pending = compiled.create_infer_request()
    written_in = ["framework", "contract"]  # where OpenVINO keeps the metadata of an ONNX file

    def tensors(ports: Sequence[Any]) -> dict[str, TensorSpec]:
        names = {
            "u8": "UINT8",
            "i8": "INT8",
            "i32": "INT32",
            "i64": "INT64",
            "f16": "FP16",
            "f32": "FP32",
            "boolean": "BOOL",
        }
        return {
            p.get_any_name(): TensorSpec(
                f"TYPE_{names.get(p.get_element_type().get_type_name(), 'INVALID')}",
                tuple(d.get_length() if d.is_static else -1 for d in p.get_partial_shape()),
            )
            for p in ports
        }

    def run(feeds: Feeds, wanted: Sequence[str]) -> list[NDArray[Any]]:
        answers = pending.infer(dict(feeds), share_inputs=True)
        return [np.array(answers[name]) for name in wanted]

    return Engine(
        f"OpenVINO {ov.__version__.partition('-')[0]} on CPU, {precision}, {threads} threads",
        tensors(compiled.inputs),
        tensors(compiled.outputs),
        run,
        network.get_rt_info(written_in).astype(str) if network.has_rt_info(written_in) else None,
    )


def seconds(engine: Engine) -> float:
    """The best of a few runs on one grey photo."""
    feeds = {
        name: np.full(
            [abs(d) if d != -1 else 1 for d in t.dims], 127, "u1" if t.datatype == "TYPE_UINT8" else "f4"
        )
        for name, t in engine.inputs.items()
    }
    best = float("inf")
    for _ in range(_TRIALS + 1):  # the first one allocates
        began = time.perf_counter()
        engine.run(feeds, list(engine.outputs))
        best = min(best, time.perf_counter() - began)
    return best


def load(
    model: Path,
    name: str,
    *,
    threads: int | None = None,
    cuda_device: int | None = None,
    measured: Path | None = None,
) -> tuple[Engine, str]:
    """The engine called ``name`` with ``model`` in it, and a sentence for the log that says why this one.

    Args:
        name: one of ``NAMES``.
        threads: None: one a core that this process may use.
        cuda_device: the GPU that Triton gave the model; "auto" takes it where the installed ONNX Runtime can.
        measured: a file in which "auto" keeps the faster engine and both times: a restarting server need not measure
            again, which is a quarter of its start.

    Raises:
        EngineMissing: it cannot run here.
    """
    threads = threads or cores()
    if name not in NAMES:
        raise EngineMissing(f"there is no engine {name!r}; use one of {', '.join(NAMES)}")
    if name in _PROVIDERS:
        return onnxruntime_engine(
            model, threads=threads, accelerator=name, device=cuda_device or 0
        ), "asked for"
    if name == "auto" and cuda_device is not None and _has_cuda():
        engine = onnxruntime_engine(model, threads=threads, accelerator="cuda", device=cuda_device)
        return engine, "the model is placed on a GPU"
    if name == "onnxruntime":
        return onnxruntime_engine(model, threads=threads), "asked for"
    if name.startswith("openvino"):
        return openvino_engine(model, threads=threads, bf16=name == "openvino-bf16"), "asked for"
    engine, why = _fastest_on_cpu(model, threads, measured)
    if cuda_device is not None:
        why = f"not on the GPU, for which onnxruntime-gpu is needed; {why}"
    return engine, why


def _fastest_on_cpu(model: Path, threads: int, measured: Path | None) -> tuple[Engine, str]:
    if importlib.util.find_spec("openvino") is None:
        return onnxruntime_engine(model, threads=threads), "OpenVINO is not installed"
    if cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        return openvino_engine(model, threads=threads, bf16=True), "this CPU computes in BF16"
    makers: dict[str, Callable[..., Engine]] = {
        "onnxruntime": onnxruntime_engine,
        "openvino": openvino_engine,
    }
    if measured is not None and measured.is_file():
        name, figures = measured.read_text().splitlines()
        return makers[name](model, threads=threads), figures
    slow, fast = onnxruntime_engine(model, threads=threads), openvino_engine(model, threads=threads)
    slow_s, fast_s = seconds(slow), seconds(fast)
    figures = f"one photo: ONNX Runtime {slow_s * 1e3:.1f} ms, OpenVINO {fast_s * 1e3:.1f} ms"
    name = "openvino" if fast_s * _MARGIN < slow_s else "onnxruntime"
    if measured is not None:
        written = measured.with_name(f".{measured.name}.{os.getpid()}")
        written.write_text(f"{name}\n{figures}\n")
        written.replace(measured)  # whole: another instance of the model may be looking
    return (fast if name == "openvino" else slow), figures
