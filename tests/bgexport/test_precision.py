"""FP16 and INT8 graphs: typed throughout, smaller, close to FP32, and rejected where they are not."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from bgexport import graph, precision
from bgexport.checks import require
from bgexport.engines import cpu_engine, engines_for
from bgexport.errors import QualityLoss
from bgexport.limits import TOLERANCES
from bgexport.photos import NetworkInput
from bgexport.verify import alphas, parity, parity_checks, quality_check
from bgimage.contract import Contract


def made(name: str, model: onnx.ModelProto, photos: list[NetworkInput]) -> onnx.ModelProto:
    if name.startswith("int8-"):
        return precision.int8(model, photos, target=name.removeprefix("int8-"))
    return getattr(precision, name.replace("-", "_"))(model)


@pytest.mark.parametrize("name", ["fp16", "fp16-weights", "int8-cpu", "int8-gpu"])
def test_a_lower_precision_is_valid_stamped_and_close(
    name: str,
    exported: Path,
    model: onnx.ModelProto,
    contract: Contract,
    pictures: list[NetworkInput],
    tmp_path: Path,
) -> None:
    lower = made(name, model, pictures)
    graph.check_graph(lower, contract)
    assert graph.metadata(lower) == graph.metadata(model) | {"precision": name}
    path = tmp_path / "lower.onnx"
    onnx.save(lower, path)
    reference = alphas(cpu_engine("ONNX Runtime", exported), pictures)
    for engine in engines_for(name):
        found = parity(reference, alphas(cpu_engine(engine, path), pictures))
        require(parity_checks(found, TOLERANCES[name], f"{engine} {name}"))
        assert found.max_difference > 1e-5  # it is another arithmetic, not the FP32 graph again


def test_fp16_halves_every_weight_but_those_of_the_islands(model: onnx.ModelProto) -> None:
    half = precision.fp16(model)
    weights = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert convolutions
    assert {weights[node.input[1]] for node in convolutions} == {onnx.TensorProto.FLOAT16}


def test_fp16_computes_normalisation_mean_and_sigmoid_in_fp32(model: onnx.ModelProto) -> None:
    half = onnx.shape_inference.infer_shapes(precision.fp16(model), strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in (*half.graph.value_info, *half.graph.output)}
    islands = {*precision.normalisation(model)}
    for node in half.graph.node:
        if node.op_type in precision.ISLANDS or node.name in islands:
            assert types[node.output[0]] == onnx.TensorProto.FLOAT, node.name
        elif node.op_type in ("Conv", "Relu", "Concat", "Resize"):
            assert types[node.output[0]] == onnx.TensorProto.FLOAT16, node.name


def test_int8_for_the_gpu_is_symmetric_because_tensorrt_takes_no_zero_points(
    model: onnx.ModelProto, pictures: list[NetworkInput]
) -> None:
    lower = precision.int8(model, pictures, target="gpu")
    values = {t.name: onnx.numpy_helper.to_array(t) for t in lower.graph.initializer}
    for node in lower.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert values[node.input[2]].dtype == np.int8
            assert not values[node.input[2]].any()


def test_int8_for_the_cpu_keeps_weights_to_seven_bits(
    model: onnx.ModelProto, pictures: list[NetworkInput]
) -> None:
    lower = precision.int8(model, pictures, target="cpu")
    kernels = [
        onnx.numpy_helper.to_array(t)
        for t in lower.graph.initializer
        if t.data_type == 3 and len(t.dims) == 4
    ]
    assert kernels
    assert max(int(np.abs(k.astype(int)).max()) for k in kernels) <= 64


def test_an_unknown_target_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(ValueError, match="'tpu'"):
        precision.int8(model, [], target="tpu")


def test_a_loss_against_the_labels_above_the_limit_is_refused() -> None:
    truth = np.zeros((8, 8), np.float32)
    truth[:, :4] = 1
    picture = NetworkInput("half", np.zeros((3, 8, 8), np.uint8), truth)
    worse = truth.copy()
    worse[0, 3] = 0
    perfect, worse = truth[None, None], worse[None, None]
    require([quality_check(perfect, perfect, [picture], "int8")])
    with pytest.raises(QualityLoss, match=r"0\.03125 is above the limit 0\.01"):
        require([quality_check(perfect, worse, [picture], "int8")])
