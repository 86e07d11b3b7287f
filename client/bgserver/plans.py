"""Does a TensorRT plan fit this machine? The record that ``python -m bgexport plan`` writes with it says so.

A plan is machine code: of one network, one TensorRT, one kind of GPU. Loaded elsewhere it fails late or answers
wrongly, so it is refused first, with a sentence. ``python -m bgserver.plans model.plan`` is the check that a
container runs before it starts the server.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bgserver.errors import (
    PlanDamaged,
    PlanForOtherGpu,
    PlanForOtherNetwork,
    PlanForOtherTensorRT,
    PlanRefused,
)

REBUILD = "build it here with python -m bgexport plan"


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """The JSON next to a plan: its sources, its builder, and the machine it is for."""

    plan_sha256: str
    onnx_sha256: str
    contract_fingerprint: str
    precision: str
    """fp32, fp16 or int8: as the ONNX file says of itself."""
    builder: str
    """tensorrt, trtexec or tensorrt-rtx."""
    tensorrt_version: str
    """For example 10.13.3.9."""
    gpu: str
    """Name of the GPU it was built on; empty where there was none."""
    compute_capability: str
    """For example 9.0."""
    batches: tuple[int, int, int]
    """Smallest, tuned and largest batch."""
    version_compatible: bool = False
    """Loads in later TensorRTs of the same major version."""
    hardware_compatibility: str = "none"
    """none (this model of GPU), same_compute_capability, or ampere_plus (8.0 and every later one)."""
    image_digest: str = ""
    """Of the container image it was built in; empty outside of one."""

    def to_json(self) -> str:
        """Readable, sorted JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def read(cls, plan: Path) -> PlanRecord:
        """The record beside ``plan``. ``PlanDamaged`` where there is none or it is not one."""
        path = record_path(plan)
        try:
            fields = json.loads(path.read_text())
            return cls(**{**fields, "batches": tuple(fields["batches"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PlanDamaged(f"{plan} has no readable {path.name} beside it ({error}); {REBUILD}") from error


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a plan must fit."""

    tensorrt_version: str
    """Empty: no TensorRT."""
    gpu: str
    """Empty: no GPU."""
    compute_capability: str

    @classmethod
    def here(cls, tensorrt_version: str | None = None) -> Machine:
        """This machine's first GPU, as ``nvidia-smi`` tells, and its libnvinfer."""
        asked = nvidia_smi("name", "compute_cap")
        rows = asked.stdout.splitlines() if asked and not asked.returncode else []
        gpu, _, capability = (part.strip() for part in rows[0].rpartition(",")) if rows else ("", "", "")
        return cls(
            tensorrt_version=_libnvinfer_version() if tensorrt_version is None else tensorrt_version,
            gpu=gpu,
            compute_capability=capability,
        )


def nvidia_smi(*fields: str) -> subprocess.CompletedProcess[str] | None:
    """``nvidia-smi``'s answer: a line a GPU, its ``fields`` separated by ", ". None where it is not installed."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)


def record_path(plan: Path) -> Path:
    """Where the record of ``plan`` lies: model.plan, model.plan.json."""
    return plan.with_name(plan.name + ".json")


def check(
    plan: Path, machine: Machine, *, contract_fingerprint: str | None = None, onnx: Path | None = None
) -> PlanRecord:
    """The record of a plan that may be loaded on ``machine``.

    Args:
        plan: the plan, its record beside it.
        machine: usually ``Machine.here()``.
        contract_fingerprint: of the model's configuration; not compared where it is None.
        onnx: the network it should have been built from; not compared where it is None.

    Raises:
        PlanDamaged: no record, or other bytes than were built.
        PlanForOtherNetwork: built from another ONNX file or contract.
        PlanForOtherTensorRT: this TensorRT does not load it.
        PlanForOtherGpu: this GPU does not run it, or there is none.
    """
    record = PlanRecord.read(plan)
    if (found := _sha256(plan)) != record.plan_sha256:
        raise PlanDamaged(
            f"{plan} is not the file that was built ({found[:12]}, not {record.plan_sha256[:12]})"
        )
    if contract_fingerprint is not None and contract_fingerprint != record.contract_fingerprint:
        raise PlanForOtherNetwork(
            f"{plan} has contract {record.contract_fingerprint}, the configuration {contract_fingerprint}; {REBUILD}"
        )
    if onnx is not None and (found := _sha256(onnx)) != record.onnx_sha256:
        raise PlanForOtherNetwork(f"{plan} was not built from {onnx} as it is now ({found[:12]}); {REBUILD}")
    _check_tensorrt(record, machine)
    _check_gpu(record, machine)
    return record


def _check_tensorrt(record: PlanRecord, machine: Machine) -> None:
    built, there = _version(record.tensorrt_version), _version(machine.tensorrt_version)
    if record.builder == "tensorrt-rtx":
        raise PlanForOtherTensorRT(f"built by TensorRT-RTX, which Triton's backend cannot load; {REBUILD}")
    if not there:
        raise PlanForOtherTensorRT(
            f"built by TensorRT {record.tensorrt_version}, and there is no TensorRT here"
        )
    fits = built[:1] == there[:1] and there >= built if record.version_compatible else there == built
    if not fits:
        kind = "version-compatible " if record.version_compatible else ""
        raise PlanForOtherTensorRT(
            f"a {kind}plan of TensorRT {record.tensorrt_version} does not load in {machine.tensorrt_version}; {REBUILD}"
        )


def _check_gpu(record: PlanRecord, machine: Machine) -> None:
    if not machine.gpu:
        raise PlanForOtherGpu(
            f"built for {record.gpu or record.compute_capability}, and there is no GPU here"
        )
    same_capability = record.compute_capability == machine.compute_capability
    fits = {
        "none": same_capability and record.gpu == machine.gpu,
        "same_compute_capability": same_capability,
        "ampere_plus": min(_version(record.compute_capability), _version(machine.compute_capability)) >= (8,),
    }
    if not fits.get(record.hardware_compatibility, False):
        raise PlanForOtherGpu(
            f"built for {record.gpu} (compute capability {record.compute_capability}, hardware compatibility "
            f"{record.hardware_compatibility}); this is {machine.gpu} ({machine.compute_capability}); {REBUILD}"
        )


def _version(text: str) -> tuple[int, ...]:
    """The first three numbers: a fourth is the build of the same release."""
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PlanDamaged(f"{path} cannot be read: {error.strerror}; {REBUILD}") from error


def _libnvinfer_version() -> str:
    """Of the TensorRT that the dynamic linker finds; empty without one."""
    for major in (11, 10):
        try:
            number = int(ctypes.CDLL(f"libnvinfer.so.{major}").getInferLibVersion())
        except OSError:
            continue
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return ""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 where the plan may be loaded here, 1 with a sentence on stderr where not."""
    parser = argparse.ArgumentParser(prog="python -m bgserver.plans", description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--onnx", type=Path, help="the network it should have been built from")
    given = parser.parse_args(argv)
    try:
        record = check(given.plan, Machine.here(), onnx=given.onnx)
    except PlanRefused as error:
        print(error.message(), file=sys.stderr)
        return 1
    print(
        f"{given.plan}: {record.precision}, batch 1..{record.batches[2]}, TensorRT {record.tensorrt_version}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
