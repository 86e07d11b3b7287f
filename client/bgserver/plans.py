"""What a TensorRT plan was built for, in a JSON file beside it, and whether that is this machine.

A plan is bound to the TensorRT that built it and to the GPU it was tuned on; Triton loads a foreign one with
a late and obscure error, or runs it slowly. ``bgexport plan`` writes the file, the start-up reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bgserver.errors import PlanRefused

SIDECAR_SUFFIX = ".json"
"""``model.plan`` is described by ``model.plan.json``."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU with its TensorRT."""

    tensorrt: str
    """Version, "10.16.1.11"."""
    name: str
    """As ``nvidia-smi`` has it, "NVIDIA H100 80GB HBM3"."""
    compute_capability: str
    """"9.0"."""

    @classmethod
    def here(cls, device: int = 0) -> Gpu:
        """This machine's. ``PlanRefused``: no GPU, or no TensorRT."""
        try:
            import tensorrt
        except ImportError as error:
            raise PlanRefused("a plan needs TensorRT, and its Python package is not installed") from error
        query = ["nvidia-smi", f"--id={device}", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
        try:
            said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise PlanRefused(
                f"a plan needs an NVIDIA GPU, and nvidia-smi finds none numbered {device}"
            ) from error
        name, _, capability = said.strip().rpartition(", ")
        return cls(tensorrt=tensorrt.__version__, name=name, compute_capability=capability)


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """The sidecar of one plan."""

    built_on: Gpu
    precision: str
    """"fp32", "fp16" or "int8"."""
    onnx_sha256: str
    """Of the network it was built from."""
    plan_sha256: str
    """Of the plan itself."""
    contract_fingerprint: str
    batches: tuple[int, int, int]
    """Smallest, tuned and largest batch."""
    version_compatible: bool = False
    """Built to load into later TensorRT of the same major version, too."""
    hardware: str = "this"
    """"this" (the GPU model it was built on), "same_compute_capability" or "ampere+"."""
    image: str | None = None
    """Digest of the container image that built it."""

    def to_json(self) -> str:
        """For people, too: indented."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PlanFacts:
        """Read what ``to_json`` wrote. ``PlanRefused``: it is something else."""
        try:
            fields = json.loads(text)
            fields["built_on"] = Gpu(**fields["built_on"])
            fields["batches"] = tuple(fields["batches"])
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise PlanRefused(f"the plan's sidecar cannot be read ({error}); build the plan again") from error


def sidecar(plan: Path) -> Path:
    """Where the facts about ``plan`` lie."""
    return plan.with_name(plan.name + SIDECAR_SUFFIX)


def misfit(facts: PlanFacts, gpu: Gpu) -> str | None:
    """Why a plan with these facts must not be loaded on ``gpu``; None where it may."""
    built = facts.built_on
    ours, theirs = (tuple(int(n) for n in v.split(".")[:3]) for v in (gpu.tensorrt, built.tensorrt))
    if facts.version_compatible:
        if ours[0] != theirs[0] or ours < theirs:
            return f"TensorRT {built.tensorrt} built it for the later ones of its major version, this is {gpu.tensorrt}"
    elif gpu.tensorrt != built.tensorrt:
        return f"TensorRT {built.tensorrt} built it, this is {gpu.tensorrt}"
    if facts.hardware == "ampere+":
        if tuple(int(n) for n in gpu.compute_capability.split(".")) < (8, 0):
            return f"it was built for Ampere and later, this {gpu.name} is {gpu.compute_capability}"
    elif facts.hardware == "same_compute_capability":
        if gpu.compute_capability != built.compute_capability:
            return f"it was built for compute capability {built.compute_capability}, this {gpu.name} is {gpu.compute_capability}"
    elif gpu.name != built.name:
        return f"it was built on a {built.name}, this is a {gpu.name}"
    return None


def check(plan: Path, gpu: Gpu, *, contract_fingerprint: str | None = None) -> PlanFacts:
    """Read the sidecar of ``plan`` and hold it against the file, the machine and the contract.

    Raises:
        PlanRefused: it must not be loaded; says why and what to do.
    """
    again = "build it on this machine with `python -m bgexport plan`"
    if not plan.is_file():
        raise PlanRefused(f"there is no plan {plan.name}; {again}")
    if not sidecar(plan).is_file():
        raise PlanRefused(
            f"plan {plan.name} has no {sidecar(plan).name}, so nobody knows what it fits; {again}"
        )
    facts = PlanFacts.from_json(sidecar(plan).read_text())
    if hashlib.sha256(plan.read_bytes()).hexdigest() != facts.plan_sha256:
        raise PlanRefused(f"plan {plan.name} is not the one its sidecar describes; {again}")
    if contract_fingerprint not in (None, facts.contract_fingerprint):
        raise PlanRefused(
            f"plan {plan.name} keeps contract {facts.contract_fingerprint}, "
            f"the configuration {contract_fingerprint}; {again}"
        )
    why = misfit(facts, gpu)
    if why:
        raise PlanRefused(f"plan {plan.name} does not fit: {why}; {again}")
    return facts
