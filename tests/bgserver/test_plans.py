"""Who may load a plan: the record beside it against machine, network and contract."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from bgserver import plans
from bgserver.plans import Machine, PlanRecord

A10 = Machine(tensorrt_version="10.13.3", gpu="NVIDIA A10", compute_capability="8.6")


@pytest.fixture
def record() -> PlanRecord:
    return PlanRecord(
        plan_sha256=hashlib.sha256(b"plan").hexdigest(),
        onnx_sha256=hashlib.sha256(b"onnx").hexdigest(),
        contract_fingerprint="c" * 16,
        precision="fp16",
        builder="tensorrt",
        tensorrt_version="10.13.3.9",
        gpu="NVIDIA A10",
        compute_capability="8.6",
        batches=(1, 4, 8),
    )


def written(record: PlanRecord, folder: Path) -> Path:
    plan = folder / "model.plan"
    plan.write_bytes(b"plan")
    plans.record_path(plan).write_text(record.to_json())
    return plan


def test_a_plan_loads_where_it_was_built_and_is_read_back_as_written(
    record: PlanRecord, tmp_path: Path
) -> None:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"onnx")
    plan = written(record, tmp_path)
    assert plans.check(plan, A10, contract_fingerprint="c" * 16, onnx=onnx) == record


@pytest.mark.parametrize(
    ("made", "machine", "error"),
    [
        ({}, {"tensorrt_version": "10.13.2"}, plans.PlanForOtherTensorRT),
        ({}, {"tensorrt_version": "11.1.0"}, plans.PlanForOtherTensorRT),
        ({}, {"tensorrt_version": ""}, plans.PlanForOtherTensorRT),
        ({"version_compatible": True}, {"tensorrt_version": "10.16.0"}, None),
        ({"version_compatible": True}, {"tensorrt_version": "10.9.0"}, plans.PlanForOtherTensorRT),
        ({"version_compatible": True}, {"tensorrt_version": "11.1.0"}, plans.PlanForOtherTensorRT),
        ({"builder": "tensorrt-rtx"}, {}, plans.PlanForOtherTensorRT),
        ({}, {"gpu": ""}, plans.PlanForOtherGpu),
        ({}, {"gpu": "NVIDIA RTX A6000"}, plans.PlanForOtherGpu),
        ({"hardware_compatibility": "same_compute_capability"}, {"gpu": "NVIDIA RTX A6000"}, None),
        (
            {"hardware_compatibility": "same_compute_capability"},
            {"compute_capability": "8.9"},
            plans.PlanForOtherGpu,
        ),
        (
            {"hardware_compatibility": "ampere_plus"},
            {"gpu": "NVIDIA H100", "compute_capability": "9.0"},
            None,
        ),
        (
            {"hardware_compatibility": "ampere_plus"},
            {"gpu": "Tesla T4", "compute_capability": "7.5"},
            plans.PlanForOtherGpu,
        ),
        ({"hardware_compatibility": "whatever"}, {}, plans.PlanForOtherGpu),
    ],
)
def test_another_machine_is_refused_unless_the_plan_was_made_compatible(
    record: PlanRecord,
    tmp_path: Path,
    made: dict[str, object],
    machine: dict[str, str],
    error: type[Exception] | None,
) -> None:
    plan = written(dataclasses.replace(record, **made), tmp_path)
    there = dataclasses.replace(A10, **machine)
    if error is None:
        plans.check(plan, there)
    else:
        with pytest.raises(error):
            plans.check(plan, there)


def test_the_sentence_says_both_gpus_and_the_mend(record: PlanRecord, tmp_path: Path) -> None:
    other = dataclasses.replace(A10, gpu="NVIDIA L4", compute_capability="8.9")
    with pytest.raises(plans.PlanForOtherGpu, match=r"NVIDIA A10 .*8\.6.*NVIDIA L4 \(8\.9\).*bgexport plan"):
        plans.check(written(record, tmp_path), other)


def test_changed_bytes_and_a_missing_or_foreign_record_are_damage(record: PlanRecord, tmp_path: Path) -> None:
    plan = written(record, tmp_path)
    plan.write_bytes(b"other")
    with pytest.raises(plans.PlanDamaged, match="not the file that was built"):
        plans.check(plan, A10)
    plans.record_path(plan).write_text('{"plan_sha256": "x"}')
    with pytest.raises(plans.PlanDamaged, match="no readable"):
        plans.check(plan, A10)
    plans.record_path(plan).unlink()
    with pytest.raises(plans.PlanDamaged, match="no readable"):
        plans.check(plan, A10)


def test_another_network_or_contract_is_refused(record: PlanRecord, tmp_path: Path) -> None:
    plan, onnx = written(record, tmp_path), tmp_path / "model.onnx"
    onnx.write_bytes(b"newer onnx")
    with pytest.raises(plans.PlanForOtherNetwork, match="not built from"):
        plans.check(plan, A10, onnx=onnx)
    with pytest.raises(plans.PlanForOtherNetwork, match="contract"):
        plans.check(plan, A10, contract_fingerprint="d" * 16)


def test_the_command_tells_by_its_exit_status(
    record: PlanRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = str(written(record, tmp_path))
    monkeypatch.setattr(Machine, "here", lambda: A10)
    assert plans.main([plan]) == 0
    assert "fp16, batch 1..8" in capsys.readouterr().out
    monkeypatch.setattr(Machine, "here", lambda: dataclasses.replace(A10, gpu=""))
    assert plans.main([plan]) == 1
    assert capsys.readouterr().err.startswith("plan_for_other_gpu: ")


def test_this_machine_is_told_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 9.0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert Machine.here("10.13.3") == Machine(
        tensorrt_version="10.13.3", gpu="NVIDIA H100 80GB HBM3", compute_capability="9.0"
    )
    program.write_text("#!/bin/sh\necho 'no devices were found'; exit 6\n")
    assert Machine.here("").gpu == ""
