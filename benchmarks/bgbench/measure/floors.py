"""The least time that a network's arithmetic takes on a machine: its products, counted from the ONNX graph, over the
machine's measured peak.

Memory is left out. A roofline (Williams, Waterman and Patterson 2009) with the bytes of every node, and the measured
bandwidth of memory and cache, gave floors that were at most 2 % higher for these networks.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bgbench.errors import Unreadable

UNKNOWN = -1
"""Size of a dimension that does not follow from the graph."""


@dataclass(frozen=True)
class Cost:
    """Of a network, for one photo."""

    flops: int
    """Of convolutions and matrix products; a multiplication and an addition count as two."""
    parameters: int


def count(model: Path | Any) -> Cost:
    """Operations and parameters of an ONNX file, or of a loaded model.

    Raises:
        Unreadable: a tensor's size does not follow from the graph.
    """
    import onnx

    loaded = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
    shapes = _shapes(loaded)
    for node in loaded.graph.node:
        if unknown := [name for name in node.output if name and UNKNOWN in shapes.get(name, (UNKNOWN,))]:
            raise Unreadable(f"no floor: the size of {unknown[0]} in the network is known only when it runs")
    used = {name for node in loaded.graph.node for name in node.input}
    weights = [math.prod(one.dims) for one in loaded.graph.initializer if one.name in used]
    return Cost(sum(_flops(node, shapes) for node in loaded.graph.node), sum(weights))


def _flops(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    taken, made = shapes.get(node.input[0], ()) if node.input else (), shapes[node.output[0]]
    match node.op_type:
        case "Conv":  # weight (O, I / groups, kh, kw): an output is a sum over I / groups * kh * kw products
            return 2 * math.prod(made) * math.prod(shapes[node.input[1]][1:])
        case "ConvTranspose":
            # weight (I, O / groups, kh, kw): an input is spread over O / groups * kh * kw outputs
            return 2 * math.prod(taken) * math.prod(shapes[node.input[1]][1:])
        case "Gemm" | "MatMul":
            return 2 * math.prod(made) * taken[-1]
    return 0


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


def peak_gflops(*, tries: int = 20, side: int = 1536) -> float:
    """An FP32 matrix product on all cores of this machine, 10^9 operations a second; the best of several tries."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, side, side), np.float32)
    out = np.empty_like(a)
    best = math.inf
    for _ in range(tries + 1):  # the first one touches the memory
        started = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9
