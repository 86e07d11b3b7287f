"""ONNX to a TensorRT plan: by TensorRT's Python API where it is installed, else by ``trtexec``.

Networks are strongly typed: the precision is the ONNX file's, and TensorRT 10 and 11 build the same engine. The code
that builds also runs without a GPU, against TensorRT-RTX (``pip install "bgclient[tensorrt-rtx]"``): NVIDIA's parser
and builder then say whether they take the graph. Its engines are for RTX cards and never served.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from bgexport.errors import BuildError
from bgexport.graph import contract_of, metadata, sha256_of
from bgimage.contract import Contract
from bgserver import plans
from bgserver.errors import PlanRefused

BINDINGS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}
"""Builder to the Python module that it needs."""
COMPATIBILITY = ("none", "same_compute_capability", "ampere_plus")
"""Which other GPUs may run the plan."""
TRTEXEC_COMPATIBILITY = {"same_compute_capability": "sameComputeCapability", "ampere_plus": "ampere+"}
RTX_CAPABILITIES = ("SM75", "SM80", "SM86", "SM89", "SM120")
"""What TensorRT-RTX builds for without a GPU in the machine."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How to build."""

    batches: tuple[int, int, int]
    """Smallest, tuned and largest batch; ``Serving.profile``."""
    version_compatible: bool = False
    """Load in later TensorRTs of the same major version too (larger; the server needs an option to trust it)."""
    hardware_compatibility: str = "none"
    """One of ``COMPATIBILITY``; wider is slower."""
    timing_cache: Path | None = None
    """Kernel timings of earlier builds on this GPU: read where it exists, and written."""
    capabilities: tuple[str, ...] = RTX_CAPABILITIES
    """For TensorRT-RTX only."""

    def __post_init__(self) -> None:
        """Refuse what no builder takes."""
        if self.hardware_compatibility not in COMPATIBILITY:
            raise ValueError(
                f"hardware_compatibility={self.hardware_compatibility!r}: use one of {COMPATIBILITY}"
            )
        least, tuned, most = self.batches
        if not 1 <= least <= tuned <= most:
            raise ValueError(f"batches={self.batches}: use 1 <= smallest <= tuned <= largest")


def installed_builder() -> str:
    """``tensorrt`` where its Python API is installed, else ``trtexec``; ``BuildError`` without either."""
    if importlib.util.find_spec("tensorrt"):
        return "tensorrt"
    if shutil.which("trtexec"):
        return "trtexec"
    raise BuildError(
        "neither TensorRT's Python API nor trtexec is installed; run this in NVIDIA's tritonserver image, "
        "or use --builder tensorrt-rtx to only find out whether the network can be built"
    )


def write_plan(
    model: Path, plan: Path, options: PlanOptions, *, builder: str, image_digest: str = ""
) -> plans.PlanRecord:
    """Build ``plan`` from ``model`` and put its record beside it. ``BuildError``: it cannot be."""
    loaded = onnx.load(model)
    stamps, contract = metadata(loaded), contract_of(loaded)
    plan.parent.mkdir(parents=True, exist_ok=True)
    if builder == "trtexec":
        content, version = _by_trtexec(model, contract, options), ""
    else:
        trt = bindings(builder)
        content, version = build(trt, model.read_bytes(), contract, options), str(trt.__version__)
    plan.write_bytes(content)
    machine = plans.Machine.here(version or None)
    record = plans.PlanRecord(
        plan_sha256=sha256_of(plan),
        onnx_sha256=sha256_of(model),
        contract_fingerprint=contract.fingerprint,
        precision=stamps["precision"],
        builder=builder,
        tensorrt_version=machine.tensorrt_version,
        gpu=machine.gpu,
        compute_capability=machine.compute_capability,
        batches=options.batches,
        version_compatible=options.version_compatible,
        hardware_compatibility=options.hardware_compatibility,
        image_digest=image_digest,
    )
    plans.record_path(plan).write_text(record.to_json())
    return record


def fits(plan: Path, machine: plans.Machine, network: Path) -> bool:
    """True where ``plan`` was built from ``network`` and may be loaded on ``machine``; if not, stderr says why."""
    if not plan.exists():
        return False
    try:
        plans.check(plan, machine, onnx=network)
    except PlanRefused as error:
        print(f"building again: {error}", file=sys.stderr)
        return False
    return True


def bindings(builder: str) -> ModuleType:
    """TensorRT's Python API; ``BuildError`` where it is not installed."""
    name = BINDINGS[builder]
    if importlib.util.find_spec(name) is None:
        raise BuildError(
            f'{builder} was asked for and {name} is not installed; pip install "bgclient[{builder}]"'
        )
    return importlib.import_module(name)


def build(trt: Any, model: bytes, contract: Contract, options: PlanOptions) -> bytes:
    """The engine that ``trt`` (TensorRT 10, 11 or TensorRT-RTX) makes of an ONNX file.

    ``BuildError`` carries what TensorRT said.
    """
    logger = _logger(trt)
    builder = trt.Builder(logger)
    # TensorRT 10 needs the flag, 11 accepts and ignores it
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        complaints = [parser.get_error(i) for i in range(parser.num_errors)]
        said = "; ".join(f"{c.node_operator()} {c.node_name()}: {c.desc()}" for c in complaints)
        raise BuildError(f"TensorRT's parser refuses the graph: {said}")
    profile = builder.create_optimization_profile()
    profile.set_shape(contract.input_tensor, *((batch, 3, *contract.size_hw) for batch in options.batches))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility != "none":
        level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper())
        config.hardware_compatibility_level = level
    if hasattr(config, "set_compute_capability"):  # TensorRT-RTX: for cards that need not be in this machine
        config.num_compute_capabilities = len(options.capabilities)
        for place, name in enumerate(options.capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), place)
    cache = options.timing_cache
    if cache:
        config.set_timing_cache(
            config.create_timing_cache(cache.read_bytes() if cache.exists() else b""), False
        )
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BuildError("; ".join(logger.complaints) or "TensorRT gave no engine and no reason")
    if cache:
        cache.write_bytes(config.get_timing_cache().serialize())
    return bytes(engine)


def _logger(trt: Any) -> Any:
    """A TensorRT logger that keeps errors for the exception and says nothing."""

    class Complaints(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.complaints: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.complaints.append(message)

    return Complaints()


def _by_trtexec(model: Path, contract: Contract, options: PlanOptions) -> bytes:
    """The same by NVIDIA's command line tool."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.plan"
        command = trtexec_command(model, out, contract, options)
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise BuildError("trtexec was asked for and is not on the PATH") from error
        if done.returncode or not out.exists():
            lines = [line for line in (done.stdout + done.stderr).splitlines() if "[E]" in line]
            raise BuildError("; ".join(lines[:3]) or f"trtexec ended with status {done.returncode}")
        return out.read_bytes()


def trtexec_command(model: Path, plan: Path, contract: Contract, options: PlanOptions) -> list[str]:
    """What ``build`` does, in ``trtexec``'s words."""
    height, width = contract.size_hw
    command = ["trtexec", f"--onnx={model}", f"--saveEngine={plan}", "--stronglyTyped", "--skipInference"]
    for name, batch in zip(("min", "opt", "max"), options.batches, strict=True):
        command.append(f"--{name}Shapes={contract.input_tensor}:{batch}x3x{height}x{width}")
    if options.version_compatible:
        command.append("--versionCompatible")
    if options.hardware_compatibility != "none":
        command.append(
            f"--hardwareCompatibilityLevel={TRTEXEC_COMPATIBILITY[options.hardware_compatibility]}"
        )
    if options.timing_cache:
        command.append(f"--timingCacheFile={options.timing_cache}")
    return command
