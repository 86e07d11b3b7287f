"""The least time a network can take on a machine: its operations and bytes, counted from the ONNX graph, over the
machine's measured peaks (the roofline of Williams, Waterman and Patterson 2009), node by node.

Two counts of bytes. "as written": every node reads its inputs and writes its outputs. "fused": only convolutions,
matrix products and resizing touch memory; what lies between them (ReLU, addition, concatenation, casts) is free, as a
compiler that fuses everything would have it.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bgbench.errors import Unreadable

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Resize", "AveragePool", "MaxPool")
"""Nodes that read and write memory in the fused count."""
PER_OUTPUT = {
    "Sigmoid": 4,
    "Resize": 7,
    "Relu": 1,
    "Add": 1,
    "Mul": 1,
    "Sub": 1,
    "Div": 1,
    "BatchNormalization": 2,
    "Clip": 2,
}
"""FLOPs for each value of the output, where it is not a matter of weights; a bilinear value takes 7."""
VALUE_BYTES = 4
"""Of an activation or a weight in FP32."""
UNKNOWN = -1
"""Size of a dimension that does not follow from the graph."""
MEMORY_BYTES, CACHE_BYTES = 256 << 20, 4 << 20
"""Sizes copied to measure the bandwidth of memory and of the last-level cache."""


@dataclass(frozen=True)
class Node:
    """What one operation of the graph costs at least."""

    name: str
    kind: str
    flops: int
    bytes_written: int
    """Read and written, if every node goes through memory."""
    bytes_fused: int
    """The same, if everything that can be fused is."""


@dataclass(frozen=True)
class Cost:
    """A whole network."""

    nodes: tuple[Node, ...]
    parameters: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition count as two."""
        return sum(node.flops for node in self.nodes)

    def bytes(self, *, fused: bool) -> int:
        """Read and written."""
        return sum(node.bytes_fused if fused else node.bytes_written for node in self.nodes)


@dataclass(frozen=True)
class Peaks:
    """What the machine reached in this run, best of several tries."""

    gflops: float
    """FP32 matrix product on all cores."""
    memory_gbs: float
    """Read and written by a copy far larger than the caches."""
    cache_gbs: float
    """The same within the last-level cache."""
    cache_bytes: int
    """Size of the last-level cache."""

    def floor_s(self, cost: Cost, *, fused: bool) -> float:
        """Each node takes as long as its arithmetic or its bytes, whichever is longer.

        A yardstick rather than a law: convolutions by Winograd's method do with fewer operations than are counted, and
        what stays in a core's own cache moves faster than the last level's.
        """
        return sum(max(self._of(node, fused)) for node in cost.nodes)

    def memory_share(self, cost: Cost) -> float:
        """Share of the fused floor that nodes take whose bytes last longer than their arithmetic, 0..1."""
        times = [self._of(node, fused=True) for node in cost.nodes]
        return sum(moving for working, moving in times if moving > working) / sum(map(max, times))

    def _of(self, node: Node, fused: bool) -> tuple[float, float]:
        """Seconds of a node's arithmetic, and of its bytes."""
        moved = node.bytes_fused if fused else node.bytes_written
        speed = self.cache_gbs if moved <= self.cache_bytes // 2 else self.memory_gbs
        return node.flops / (1e9 * self.gflops), moved / (1e9 * speed)


def count(model: Path | Any) -> Cost:
    """Operations and bytes of an ONNX file (or a loaded model) in FP32, for one photo.

    Raises:
        Unreadable: a tensor's size does not follow from the graph.
    """
    import onnx

    loaded = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
    graph = loaded.graph
    shapes = _shapes(loaded)
    weights = {one.name: math.prod(one.dims) for one in graph.initializer}
    used: set[str] = set()
    nodes = []
    for node in graph.node:
        inputs, outputs = ([name for name in names if name] for names in (node.input, node.output))
        if unknown := [name for name in outputs if UNKNOWN in shapes.get(name, (UNKNOWN,))]:
            raise Unreadable(f"no floor: the size of {unknown[0]} in the network is known only when it runs")
        sizes = {name: weights.get(name) or math.prod(shapes[name]) for name in {*inputs, *outputs}}
        # a scale or a shape that a node reads is no traffic to speak of, but weights of convolutions are
        moved = VALUE_BYTES * sum(sizes[name] for name in (*inputs, *outputs))
        fused = moved if node.op_type in HEAVY else 0
        used.update(name for name in inputs if name in weights)
        nodes.append(Node(node.name, node.op_type, _flops(node, sizes, shapes), moved, fused))
    ends = VALUE_BYTES * sum(
        math.prod(shapes[one.name]) for one in (*graph.input, *graph.output) if one.name in shapes
    )
    nodes.append(Node("input and output", "Memory", 0, 0, ends))
    return Cost(tuple(nodes), sum(weights[name] for name in used))


def _flops(node: Any, sizes: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> int:
    out = sizes[node.output[0]]
    if node.op_type == "Conv":
        # weight (O, I / groups, kh, kw): each output value is a sum over I / groups * kh * kw products
        return 2 * out * sizes[node.input[1]] // shapes[node.output[0]][1] + (
            out if len(node.input) > 2 else 0
        )
    if node.op_type == "ConvTranspose":
        # weight (I, O / groups, kh, kw): each input value is spread over O / groups * kh * kw outputs
        return 2 * sizes[node.input[0]] * sizes[node.input[1]] // shapes[node.input[0]][1]
    if node.op_type in ("Gemm", "MatMul"):
        return 2 * out * shapes[node.input[0]][-1]
    if node.op_type in ("AveragePool", "MaxPool"):
        (kernel,) = (list(one.ints) for one in node.attribute if one.name == "kernel_shape")
        return out * math.prod(kernel)
    return out * PER_OUTPUT.get(node.op_type, 0)


def _shapes(loaded: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor, with 1 in place of a symbolic first dimension."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(loaded)
    del model.graph.value_info[:]
    for one in (*model.graph.input, *model.graph.output):
        for place, dim in enumerate(one.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") or place == 0:
                dim.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {one.name: tuple(one.dims) for one in loaded.graph.initializer}
    for one in (*inferred.input, *inferred.output, *inferred.value_info):
        kind = one.type.tensor_type
        if kind.HasField("shape"):
            shapes[one.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else UNKNOWN for dim in kind.shape.dim
            )
    return shapes


def peaks(*, tries: int = 20) -> Peaks:
    """Measure this machine; about three seconds."""
    return Peaks(
        _gflops(tries), _copy_gbs(MEMORY_BYTES, tries), _copy_gbs(CACHE_BYTES, tries), last_level_cache()
    )


def last_level_cache() -> int:
    """Bytes of the largest cache that the kernel tells of; 8 MiB where it tells of none."""
    texts = [path.read_text() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    sizes = [int(match[1]) << 10 for text in texts if (match := re.match(r"(\d+)K", text))]
    return max(sizes, default=8 << 20)


def _best_s(work: Callable[[], object], tries: int) -> float:
    best = math.inf
    for _ in range(tries + 1):  # the first one touches the memory
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def _gflops(tries: int, side: int = 1536) -> float:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, side, side), np.float32)
    out = np.empty_like(a)
    return 2 * side**3 / _best_s(lambda: np.matmul(a, b, out=out), tries) / 1e9


def _copy_gbs(size: int, tries: int) -> float:
    """Every core copies its own part; numpy lets go of the interpreter while it copies."""
    cores = len(os.sched_getaffinity(0))
    parts = [
        (np.zeros(size // 2 // cores, np.uint8), np.zeros(size // 2 // cores, np.uint8)) for _ in range(cores)
    ]
    repeats = max(1, (64 << 20) // size)  # long enough for the threads to meet

    def copy(part: tuple[Any, Any]) -> None:
        for _ in range(repeats):
            np.copyto(part[1], part[0])

    with ThreadPoolExecutor(cores) as threads:
        best = _best_s(lambda: list(threads.map(copy, parts)), tries)
    return size // cores * cores * repeats / best / 1e9
