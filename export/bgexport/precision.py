"""Lower precisions of an exported graph: FP16 with FP32 islands, INT8 with quantisation in the graph (QDQ).

The precision is a property of the ONNX file, not of the builder: TensorRT 11 knows only strongly typed networks, and
the same file then means the same arithmetic in TensorRT 10 and 11, ONNX Runtime, OpenVINO and the browser.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bgexport.graph import OPSET, cleaned, metadata
from bgexport.photos import NetworkInput
from bgimage import runtimes

runtimes.onnxruntime()  # first, so that its telemetry is off
from onnxruntime.quantization import (  # noqa: E402, TID251
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

ISLANDS = ("Sigmoid", "ReduceMean")
"""Operators that stay in FP32: the sigmoid, because alphas near 1 need more than FP16's 2^-11 steps, and the mean over
the whole picture, because a sum of thousands of FP16 values loses their last bits."""

TARGETS = ("gpu", "cpu")
"""For what INT8 is made."""

FIRST = 3
"""So many convolutions after the photo stay in FP32: what they lose is lost to everything after them. They are 3 % of
the multiplications; on a half-trained network with EfficientNet-Lite0 as its way down they were four fifths of the IoU
that INT8 lost (0.0108 with them in INT8, 0.0021 without; its depthwise convolutions in FP32 gained nothing)."""

CALIBRATION_PHOTOS = 50
"""Twenty of each pool with people, of the train split: what is quoted is measured on photos that set no scale."""


def normalisation(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes between the uint8 photo and the network proper: cast, scale, offset."""
    ahead, names = {model.graph.input[0].name}, []
    for node in model.graph.node:
        if ahead & set(node.input) and node.op_type in ("Cast", "Mul", "Add"):
            names.append(node.name)
            ahead = set(node.output)
    return names


def fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with FP16 weights and activations; input, output, normalisation and ``ISLANDS`` as they were.

    A cast stands only where the precision changes, so the type of every tensor is explicit.
    """
    graph = model.graph
    wide = set(normalisation(model)) | {node.name for node in graph.node if node.op_type in ISLANDS}
    weights = {w.name: w for w in graph.initializer}
    kind = {name: w.data_type for name, w in weights.items()} | {
        t.name: t.type.tensor_type.elem_type for t in graph.input
    }
    made: dict[tuple[str, int], str] = {}  # (tensor, type) -> the same values in that type
    nodes, constants = [], []
    for source in graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        want = TensorProto.FLOAT if node.name in wide else TensorProto.FLOAT16
        for place, name in enumerate(node.input):
            if kind.get(name) not in (TensorProto.FLOAT, TensorProto.FLOAT16) or kind[name] == want:
                continue
            if _fixed_to_float(node, place):  # for example the scales of Resize
                continue
            if (name, want) not in made:
                made[name, want] = other = f"{name}_{TensorProto.DataType.Name(want).lower()}"
                if name in weights:
                    values = numpy_helper.to_array(weights[name]).astype(np.float16)
                    constants.append(numpy_helper.from_array(values, other))
                else:
                    nodes.append(
                        onnx.helper.make_node("Cast", [name], [other], name=f"node_{other}", to=want)
                    )
            node.input[place] = made[name, want]
        kind |= dict.fromkeys(node.output, want)
        nodes.append(node)
    half = _copy(model)
    used = {name for node in nodes for name in node.input}
    del half.graph.node[:], half.graph.initializer[:]
    half.graph.node.extend(nodes)
    half.graph.initializer.extend(c for c in (*graph.initializer, *constants) if c.name in used)
    return _restamped(half, model, "fp16")


def _fixed_to_float(node: onnx.NodeProto, place: int) -> bool:
    """Whether the operator takes nothing but FP32 at this input."""
    inputs = onnx.defs.get_schema(node.op_type, OPSET, node.domain).inputs
    return bool(inputs[min(place, len(inputs) - 1)].type_str == "tensor(float)")


def int8(model: onnx.ModelProto, photos: Sequence[NetworkInput], *, target: str = "gpu") -> onnx.ModelProto:
    """``model`` with INT8 convolutions, a weight scale a channel; ``photos`` set the scales of the activations.

    No two kinds of hardware want the same INT8, so ``target`` chooses:

    ``gpu``: signed and symmetric, biases in FP32; TensorRT takes nothing else. CPUs without VNNI compute it wrongly
    (measured on AVX2: mean |Δalpha| 0.15 in OpenVINO where the graph itself gives 0.016).

    ``cpu``: unsigned activations with a zero point, and weights of 7 bits, because AVX2's 16-bit sums of two products
    overflow with 8. One bit of every activation is gained: after a ReLU nothing is negative.

    The normalisation and the ``FIRST`` convolutions stay in FP32.
    """
    if target not in TARGETS:
        raise ValueError(f"target={target!r}: use one of {TARGETS}")
    on_gpu = target == "gpu"
    first = [node.name for node in model.graph.node if node.op_type == "Conv"][:FIRST]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "int8.onnx"
        root = logging.getLogger()
        # it advises a pre-processing that our graphs have behind them
        level, root.level = root.level, logging.ERROR
        try:
            quantize_static(
                _copy(model),
                out,
                _Feed(model.graph.input[0].name, [picture.image for picture in photos]),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[*normalisation(model), *first],
                per_channel=True,
                reduce_range=not on_gpu,
                activation_type=QuantType.QInt8 if on_gpu else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "ActivationSymmetric": on_gpu,
                    "WeightSymmetric": True,
                    "QuantizeBias": not on_gpu,
                },
            )
        finally:
            root.level = level
        return _restamped(onnx.load(out), model, f"int8-{target}")


def fp16_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with the weights of convolutions stored as FP16, and everything computed in FP32.

    Half of the bytes without special kernels: for the web page, where the download counts.
    """
    small = _copy(model)
    del small.graph.node[:], small.graph.initializer[:]
    convolved = {n.input[1] for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")}
    for weight in model.graph.initializer:
        if weight.name not in convolved:
            small.graph.initializer.append(weight)
            continue
        half = numpy_helper.from_array(
            numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}_half"
        )
        small.graph.initializer.append(half)
        small.graph.node.append(
            onnx.helper.make_node(
                "Cast", [half.name], [weight.name], name=f"node_{half.name}", to=TensorProto.FLOAT
            )
        )
    small.graph.node.extend(model.graph.node)
    return _restamped(small, model, "fp16-weights")


class _Feed(CalibrationDataReader):  # type: ignore[misc]
    """One photo after the other, as ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, images: Sequence[NDArray[np.uint8]]) -> None:
        self._feeds: Iterator[dict[str, NDArray[np.uint8]]] = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._feeds, None)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _restamped(made: onnx.ModelProto, source: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """``made`` with the provenance of ``source``; the converters drop it."""
    lean = cleaned(made)
    lean.producer_name, lean.producer_version = source.producer_name, source.producer_version
    onnx.helper.set_model_props(lean, {**metadata(source), "precision": precision})
    return lean
