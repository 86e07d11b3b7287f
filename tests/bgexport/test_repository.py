"""The rendered model repository: what is committed, what Triton 2.51 and newer accept, and one truth in all of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2 as pb

from bgexport.errors import OutOfDate
from bgexport.repository import (
    ONNX_NETWORK,
    SERVING,
    TRT_NETWORK,
    Instances,
    Names,
    Serving,
    check,
    limited,
    networks,
    render,
    write,
)
from bgimage.contract import Contract

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "model_repository"
FIELDS_OF_2_51 = set((Path(__file__).parent / "model_config_2.51.txt").read_text().split())
"""Full name of every field of ``ModelConfig`` in tritonclient 2.51, taken from its protobuf descriptor."""


def parsed(text: str) -> pb.ModelConfig:
    """Strictly: an unknown or misspelt field raises."""
    return text_format.Parse(text, pb.ModelConfig())


def fields_of(message: Message) -> set[str]:
    """Full names of the fields that are set, in the message and below it."""
    found = set()
    for field, value in message.ListFields():
        found.add(field.full_name)
        children = (
            value.values() if field.message_type and field.message_type.GetOptions().map_entry else value
        )
        if isinstance(value, Message):
            found |= fields_of(value)
        elif field.message_type:
            for child in children:
                found |= fields_of(child) if isinstance(child, Message) else set()
    return found


@pytest.fixture(scope="module")
def configs() -> dict[str, pb.ModelConfig]:
    return {name: parsed(text) for name, text in render(Contract(), Serving.read(), trt=True).items()}


def test_the_committed_configs_are_what_is_rendered() -> None:
    onnx = pytest.importorskip("onnx")
    from bgexport.graph import contract_of

    loaded = {names: onnx.load(network) for names, network in networks(MODELS)}
    assert Names() in loaded
    serving = Serving.read()
    check(MODELS, {names: (contract_of(one), limited(serving, one)) for names, one in loaded.items()})


def test_only_fields_that_triton_2_51_knows_are_used(configs: dict[str, pb.ModelConfig]) -> None:
    for name, config in configs.items():
        assert fields_of(config) <= FIELDS_OF_2_51, name


def test_a_field_newer_than_2_51_would_be_noticed() -> None:
    newer = parsed('name: "x" ensemble_scheduling { max_inflight_requests: 3 }')
    assert fields_of(newer) - FIELDS_OF_2_51 == {"inference.ModelEnsembling.max_inflight_requests"}


def test_a_server_that_knows_the_limit_on_requests_in_flight_is_given_it() -> None:
    serving = Serving.read()
    newest = {name: parsed(text) for name, text in render(Contract(), serving, triton=(2, 75)).items()}
    limits = {name: config.ensemble_scheduling.max_inflight_requests for name, config in newest.items()}
    assert {name for name, limit in limits.items() if limit == serving.max_inflight} == {
        "cutout/config.pbtxt",
        "matte/config.pbtxt",
    }
    with pytest.raises(ValueError, match="max_inflight=0"):
        dataclasses.replace(serving, max_inflight=0)


def test_no_queue_policy_is_used_because_it_stalls_the_batcher_of_2_51(
    configs: dict[str, pb.ModelConfig],
) -> None:
    for name, config in configs.items():
        used = {field.rpartition(".")[2] for field in fields_of(config)}
        assert not used & {"default_queue_policy", "priority_queue_policy", "priority_levels"}, name


@pytest.mark.parametrize("ensemble", ["cutout", "matte"])
def test_the_variant_changes_only_the_network_behind_an_ensemble(
    configs: dict[str, pb.ModelConfig], ensemble: str
) -> None:
    onnx, trt = configs[f"{ensemble}/config.pbtxt"], configs[f"{ensemble}/configs/trt.pbtxt"]
    assert [s.model_name for s in onnx.ensemble_scheduling.step][1] == ONNX_NETWORK
    assert [s.model_name for s in trt.ensemble_scheduling.step][1] == TRT_NETWORK
    trt.ensemble_scheduling.step[1].model_name = ONNX_NETWORK
    assert onnx == trt


def test_every_ensemble_tensor_has_a_maker_of_its_type_and_shape(configs: dict[str, pb.ModelConfig]) -> None:
    for name, config in configs.items():
        if config.platform != "ensemble":
            continue
        made = {t.name: (t.data_type, list(t.dims)) for t in config.input}
        for step in config.ensemble_scheduling.step:
            model = configs[f"{step.model_name}/config.pbtxt"]
            inputs = {t.name: (t.data_type, list(t.dims)) for t in model.input}
            assert {step.input_map[key]: inputs[key] for key in step.input_map}.items() <= made.items(), name
            assert set(step.input_map) == set(inputs)
            made |= {step.output_map[t.name]: (t.data_type, list(t.dims)) for t in model.output}
            assert model.max_batch_size >= config.max_batch_size
        assert {t.name: (t.data_type, list(t.dims)) for t in config.output}.items() <= made.items()


def test_the_network_goes_where_triton_places_it_unless_a_variant_says_where(
    configs: dict[str, pb.ModelConfig],
) -> None:
    kinds = {name: config.instance_group[0].kind for name, config in configs.items() if config.instance_group}
    group = pb.ModelInstanceGroup
    assert kinds[f"{ONNX_NETWORK}/config.pbtxt"] == group.KIND_AUTO
    assert kinds[f"{ONNX_NETWORK}/configs/cpu.pbtxt"] == group.KIND_CPU
    assert kinds[f"{ONNX_NETWORK}/configs/gpu.pbtxt"] == group.KIND_GPU
    assert kinds[f"{TRT_NETWORK}/config.pbtxt"] == group.KIND_GPU
    assert {kind for name, kind in kinds.items() if "process" in name} == {group.KIND_CPU}


def test_the_tensorrt_model_is_there_where_its_plan_is_and_nowhere_else(tmp_path: Path) -> None:
    write(tmp_path, Contract(), Serving.read())
    assert not list(tmp_path.rglob("*trt*"))
    plan = tmp_path / TRT_NETWORK / "1" / "model.plan"
    plan.parent.mkdir(parents=True)
    plan.touch()
    added = {str(path.relative_to(tmp_path)) for path in write(tmp_path, Contract(), Serving.read())}
    steps = ("bgclient_preprocess", "bgclient_postprocess", "cutout", "matte")
    assert added == {f"{TRT_NETWORK}/config.pbtxt", *(f"{name}/configs/trt.pbtxt" for name in steps)}
    check(tmp_path, {Names(): (Contract(), Serving.read())})


def test_another_network_s_models_have_its_name_and_share_none_with_ours(tmp_path: Path) -> None:
    ours, theirs = Contract(), Contract(size_hw=(64, 64))
    write(tmp_path, ours, Serving.read())
    before = {path.name for path in tmp_path.iterdir()}
    write(tmp_path, theirs, Serving.read(), Names("modnet"))
    added = {path.name for path in tmp_path.iterdir()} - before
    assert added == {
        *("modnet_onnx", "bgclient_preprocess_modnet", "bgclient_postprocess_modnet"),
        *("cutout_modnet", "matte_modnet"),
    }
    check(
        tmp_path, {name: (one, Serving.read()) for name, one in ((Names(), ours), (Names("modnet"), theirs))}
    )


def test_every_config_carries_the_contract(configs: dict[str, pb.ModelConfig]) -> None:
    for config in configs.values():
        contract = Contract.from_json(config.parameters["contract"].string_value)
        assert contract == Contract()
        assert config.parameters["contract_fingerprint"].string_value == contract.fingerprint


def test_another_input_size_reaches_every_config_that_has_one() -> None:
    wide = Contract(size_hw=(256, 384))
    text = render(wide, Serving.read())
    assert "dims: [3, 256, 384]" in text["bgclient_preprocess/config.pbtxt"]
    assert "dims: [1, 256, 384]" in text["matte/config.pbtxt"]
    assert not [name for name, content in text.items() if "320" in content]


def test_check_names_a_config_that_was_edited_and_one_that_nobody_renders(tmp_path: Path) -> None:
    write(tmp_path, Contract(), Serving.read())
    check(tmp_path, {Names(): (Contract(), Serving.read())})
    (tmp_path / "cutout" / "config.pbtxt").write_text('name: "cutout"')
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / "config.pbtxt").touch()
    with pytest.raises(OutOfDate, match=r"cutout/config.pbtxt, stray/config.pbtxt in .*bgexport repository"):
        check(tmp_path, {Names(): (Contract(), Serving.read())})


def test_writing_twice_changes_nothing_and_gives_ensembles_a_version(tmp_path: Path) -> None:
    assert len(write(tmp_path, Contract(), Serving.read())) == len(render(Contract(), Serving.read()))
    assert write(tmp_path, Contract(), Serving.read()) == []
    assert (tmp_path / "cutout" / "1").is_dir()
    assert (tmp_path / "matte" / "1").is_dir()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"opt_batch_size": 99}, "opt_batch_size=99"),
        ({"max_photos": 99}, "photos.max_batch_size=99"),
        ({"max_queue_delay_us": -1}, "max_queue_delay_us=-1"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused_by_name(change: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(Serving.read(), **change)


def test_no_instances_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="instances of postprocess: 0"):
        Instances(network=1, preprocess=1, postprocess=0)


def test_an_unknown_knob_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "serving.toml"
    path.write_text(SERVING.read_text().replace("[photos]", "max_batchsize = 3\n[photos]"))
    with pytest.raises(TypeError, match="max_batchsize"):
        Serving.read(path)
