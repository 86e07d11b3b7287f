"""The ONNX file: the same answers as PyTorch, nothing of the machine in it, and refusals with a name each."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from bgexport import graph, release
from bgexport.engines import CPU_ENGINES, cpu_engine, torch_engine
from bgexport.errors import ContractError, GraphError
from bgexport.limits import BATCH_MATE_DIFFERENCE, TOLERANCES
from bgexport.photos import NetworkInput, stack
from bgexport.verify import alphas, parity
from bgimage import runtimes
from bgimage.contract import Contract
from bgtrain.checkpoint import Checkpoint


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_every_cpu_engine_gives_what_pytorch_gives(
    engine: str, exported: Path, checkpoint: Checkpoint, pictures: list[NetworkInput]
) -> None:
    reference = alphas(torch_engine(checkpoint.model(), checkpoint.contract), pictures)
    found = parity(reference, alphas(cpu_engine(engine, exported), pictures))
    assert found.max_difference <= TOLERANCES["fp32"].max_difference
    assert np.ptp(reference) > 0.1  # a constant answer would agree with anything


def test_a_photo_does_not_see_its_batch_mates(exported: Path, pictures: list[NetworkInput]) -> None:
    run, images = cpu_engine("ONNX Runtime", exported), stack(pictures)
    alone = np.concatenate([run(image[None]) for image in images])
    assert np.abs(run(images) - alone).max() <= BATCH_MATE_DIFFERENCE


def test_every_batch_normalisation_became_part_of_its_convolution(model: onnx.ModelProto) -> None:
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_nothing_of_the_exporting_machine_is_in_the_file(exported: Path) -> None:
    content = exported.read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content
    assert str(Path.home()).encode() not in content


def test_the_same_checkpoint_gives_the_same_bytes(exported: Path, checkpoint: Checkpoint) -> None:
    assert release.onnx_bytes(checkpoint) == exported.read_bytes()


def test_the_file_says_what_it_is(model: onnx.ModelProto, contract: Contract) -> None:
    stamps = graph.metadata(model)
    assert graph.contract_of(model) == contract
    assert stamps["contract_fingerprint"] == contract.fingerprint
    assert stamps["precision"] == "fp32"
    assert stamps["licence"].startswith("Apache-2.0")
    assert len(stamps["weights_sha256"]) == 64


def test_a_dynamic_size_takes_every_multiple_of_the_stride(checkpoint: Checkpoint) -> None:
    model = release.onnx_bytes(checkpoint, dynamic_size=True)
    session = runtimes.session(model)
    for height, width in ((64, 64), (96, 160)):
        image = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), dtype=np.uint8)
        expected = torch_engine(checkpoint.model(), checkpoint.contract)(image)
        found = session.run(None, {"image": image})[0]
        assert found.shape == (2, 1, height, width)
        assert np.abs(found - expected).max() <= TOLERANCES["fp32"].max_difference


def test_a_file_without_a_contract_is_refused(model: onnx.ModelProto, contract: Contract) -> None:
    del model.metadata_props[:]
    with pytest.raises(ContractError, match="bgexport onnx"):
        graph.check_graph(model, contract)


def test_a_contract_that_was_edited_is_refused(model: onnx.ModelProto, contract: Contract) -> None:
    onnx.helper.set_model_props(model, {"contract": contract.to_json(), "contract_fingerprint": "0" * 16})
    with pytest.raises(ContractError, match="export it again"):
        graph.check_graph(model, contract)


def test_another_contract_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(ContractError, match="expected"):
        graph.check_graph(model, Contract(size_hw=(96, 96)))


def test_a_wrong_output_name_is_refused(model: onnx.ModelProto, contract: Contract) -> None:
    model.graph.node[-1].output[0] = model.graph.output[0].name = "mask"
    with pytest.raises(GraphError, match="mask"):
        graph.check_graph(model, contract)


def test_a_wrong_input_type_is_refused(model: onnx.ModelProto, contract: Contract) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(GraphError, match="FLOAT"):
        graph.check_graph(model, contract)


def test_a_fixed_batch_is_refused(model: onnx.ModelProto, contract: Contract) -> None:
    for tensor in (model.graph.input[0], model.graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(GraphError, match="batch"):
        graph.check_graph(model, contract)


def test_a_graph_that_onnx_refuses_is_refused(model: onnx.ModelProto, contract: Contract) -> None:
    model.graph.node[3].op_type = "Convolute"
    with pytest.raises(GraphError, match="Convolute"):
        graph.check_graph(model, contract)


def test_a_batch_normalisation_left_behind_a_convolution_is_refused(
    model: onnx.ModelProto, contract: Contract
) -> None:
    place, conv = next((i, n) for i, n in enumerate(model.graph.node) if n.op_type == "Conv")
    channels = next(t.dims[0] for t in model.graph.initializer if t.name == conv.input[1])
    for name in ("one", "zero"):
        values = np.full(channels, float(name == "one"), np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    normed, conv.output[0] = conv.output[0], "before"
    norm = onnx.helper.make_node(
        "BatchNormalization", ["before", "one", "zero", "zero", "one"], [normed], "left"
    )
    model.graph.node.insert(place + 1, norm)
    with pytest.raises(GraphError, match="left"):
        graph.check_graph(model, contract)


def test_inspect_tells_types_operators_and_the_hash(exported: Path, model: onnx.ModelProto) -> None:
    told = graph.description(model, exported)
    assert told["image"] == "UINT8 ['batch', 3, 64, 96]"
    assert told["sha256"] == graph.sha256_of(exported)
    assert "Conv " in str(told["operators"])
