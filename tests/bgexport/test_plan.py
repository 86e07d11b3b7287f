"""TensorRT: the builder's code run for real with TensorRT-RTX, trtexec's command line, and what is asked of either."""

import dataclasses
import json
import stat
from pathlib import Path

import onnx
import pytest

from bgexport import precision
from bgexport.errors import BuildError
from bgexport.graph import contract_of
from bgexport.photos import NetworkInput, from_folder
from bgexport.plan import PlanOptions, bindings, build, installed_builder, trtexec_command, write_plan
from bgexport.repository import ONNX_NETWORK, Serving
from bgimage.contract import Contract
from bgserver import plans

ROOT = Path(__file__).parents[2]
OPTIONS = PlanOptions(batches=(1, 2, 4), capabilities=("SM86",))


@pytest.fixture(scope="module")
def rtx() -> object:
    pytest.importorskip(
        "tensorrt_rtx_bindings", reason="pip install 'bgclient[tensorrt-rtx]'", exc_type=ImportError
    )
    return bindings("tensorrt-rtx")


def with_operator(model: onnx.ModelProto, kind: str, domain: str) -> bytes:
    """``model`` with its last node replaced by an operator that nobody knows."""
    model.graph.node[-1].op_type, model.graph.node[-1].domain = kind, domain
    model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    return bytes(model.SerializeToString())


@pytest.mark.tensorrt
@pytest.mark.parametrize("kind", ["fp32", "fp16", "int8"])
def test_nvidia_builds_the_committed_network_for_every_batch_that_is_served(
    rtx: object, kind: str, examples: dict[str, Path]
) -> None:
    model = onnx.load(ROOT / "model_repository" / ONNX_NETWORK / "1" / "model.onnx")
    contract = contract_of(model)
    if kind == "fp16":
        model = precision.fp16(model)
    elif kind == "int8":
        photos = from_folder(contract, next(iter(examples.values())).parent)
        model = precision.int8(model, photos, target="gpu")
    options = PlanOptions(batches=Serving.read().profile, capabilities=("SM86",))
    content = model.SerializeToString()
    # weights are most of both files: an engine much smaller than its network would lack some
    assert len(build(rtx, content, contract, options)) > len(content) / 2


@pytest.mark.tensorrt
def test_an_operator_that_tensorrt_does_not_know_is_not_parsed(
    rtx: object, model: onnx.ModelProto, contract: Contract
) -> None:
    with pytest.raises(BuildError, match="Frobnicate"):
        build(rtx, with_operator(model, "Frobnicate", "elsewhere"), contract, OPTIONS)


@pytest.mark.tensorrt
def test_biases_in_int32_are_why_int8_for_the_cpu_is_not_parsed(
    rtx: object, model: onnx.ModelProto, contract: Contract, pictures: list[NetworkInput]
) -> None:
    with pytest.raises(BuildError, match="DequantizeLinear"):
        build(rtx, precision.int8(model, pictures, target="cpu").SerializeToString(), contract, OPTIONS)


@pytest.mark.tensorrt
def test_a_size_that_the_graph_does_not_have_is_not_built(
    rtx: object, model: onnx.ModelProto, contract: Contract
) -> None:
    wider = dataclasses.replace(contract, size_hw=(64, 128))
    with pytest.raises(BuildError, match=r"(?i)profile|dimension|shape"):
        build(rtx, model.SerializeToString(), wider, OPTIONS)


@pytest.mark.tensorrt
@pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning")  # of TensorRT-RTX; TensorRT has them
def test_a_plan_has_a_record_that_says_what_it_is(
    rtx: object, exported: Path, contract: Contract, tmp_path: Path
) -> None:
    plan, cache = tmp_path / "1" / "model.plan", tmp_path / "timing.cache"
    options = dataclasses.replace(OPTIONS, timing_cache=cache)
    record = write_plan(exported, plan, options, builder="tensorrt-rtx", image_digest="sha256:abc")
    assert plans.PlanRecord.read(plan) == record
    assert record.contract_fingerprint == contract.fingerprint
    assert (record.precision, record.batches, record.image_digest) == ("fp32", (1, 2, 4), "sha256:abc")
    assert cache.exists()
    with pytest.raises(plans.PlanForOtherTensorRT, match="TensorRT-RTX"):
        plans.check(plan, plans.Machine(tensorrt_version="10.13.3", gpu="A10", compute_capability="8.6"))


# --- without TensorRT ---------------------------------------------------------------------------------------------


def fake_trtexec(folder: Path, body: str) -> None:
    program = folder / "trtexec"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_trtexec_gets_the_profile_strong_typing_and_every_option(exported: Path, contract: Contract) -> None:
    options = PlanOptions(
        batches=(1, 4, 8),
        version_compatible=True,
        hardware_compatibility="ampere_plus",
        timing_cache=Path("timing.cache"),
    )
    assert trtexec_command(Path("m.onnx"), Path("m.plan"), contract, options) == [
        "trtexec",
        "--onnx=m.onnx",
        "--saveEngine=m.plan",
        "--stronglyTyped",
        "--skipInference",
        "--minShapes=image:1x3x64x96",
        "--optShapes=image:4x3x64x96",
        "--maxShapes=image:8x3x64x96",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=ampere+",
        "--timingCacheFile=timing.cache",
    ]


def test_trtexec_writes_the_plan_where_there_is_no_python_api(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_trtexec(tmp_path, 'for a in "$@"; do case $a in --saveEngine=*) echo made > "${a#*=}";; esac; done')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    plan = tmp_path / "model.plan"
    write_plan(exported, plan, OPTIONS, builder="trtexec")
    assert plan.read_text() == "made\n"
    assert json.loads(plans.record_path(plan).read_text())["builder"] == "trtexec"


@pytest.mark.parametrize(
    ("line", "said"),
    [("[E] Failed to parse onnx file", r"\[E\] Failed"), ("", "status 1")],
)
def test_what_trtexec_complains_of_becomes_an_error(
    line: str, said: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_trtexec(tmp_path, f"echo '{line}'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(BuildError, match=said):
        write_plan(exported, tmp_path / "model.plan", OPTIONS, builder="trtexec")
    assert not (tmp_path / "model.plan").exists()


def test_no_builder_at_all_is_said_with_the_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BuildError, match="tritonserver image"):
        installed_builder()
    with pytest.raises(BuildError, match=r"pip install \"bgclient\[tensorrt-rtx\]\""):
        bindings("tensorrt-rtx")


@pytest.mark.parametrize("batches", [(0, 1, 2), (1, 9, 8), (3, 2, 8)])
def test_a_profile_out_of_order_is_refused(batches: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="smallest <= tuned <= largest"):
        PlanOptions(batches=batches)


def test_an_unknown_hardware_compatibility_is_refused() -> None:
    with pytest.raises(ValueError, match="'turing'"):
        PlanOptions(batches=(1, 2, 4), hardware_compatibility="turing")
