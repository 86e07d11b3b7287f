"""The TensorRT variant on a machine that was never seen before: its plan from a cache, in a repository to be served.

    CACHE/
      nvidia-h100-80gb-hbm3-9.0-trt-11.2.1-0a1b2c3d4e5f/     GPU, compute capability, TensorRT, the network's hash
        model.plan  model.plan.json

Pods on the same kind of GPU share a folder; one builds, the others wait for its lock. ``python -m bgexport.deploy CACHE
REPOSITORY`` is what a container does before it starts the server.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import onnx
import typer

from bgexport.errors import ExportError
from bgexport.graph import contract_of, sha256_of
from bgexport.plan import PlanOptions, fits, installed_builder, write_plan
from bgexport.repository import ONNX_NETWORK, TRT_NETWORK, Serving, write
from bgimage.errors import BgError
from bgserver import find_tritonserver, model_repository
from bgserver.plans import Machine, record_path
from bgserver.versions import OLDEST, Version, of


class NoGpu(ExportError):
    """A plan was asked for on a machine that cannot build or run one."""

    code = "no_gpu"


Build = Callable[[Path, Path], object]
"""Makes the plan (second) of an ONNX file (first), with its record beside it."""


def key(machine: Machine, network: Path) -> str:
    """Name of the cache's folder: what a plan depends on."""
    parts = (
        f"{machine.gpu}-{machine.compute_capability}-trt-{machine.tensorrt_version}-{sha256_of(network)[:12]}"
    )
    return re.sub(r"[^a-z0-9.]+", "-", parts.lower()).strip("-")


def cached_plan(network: Path, cache: Path, machine: Machine, build: Build) -> Path:
    """A plan of ``network`` that fits ``machine``: the cache's, or a new one that is put there whole or not at all.

    Raises:
        NoGpu: no GPU, or no TensorRT.
        ExportError: it could not be built.
    """
    if not machine.gpu or not machine.tensorrt_version:
        missing = "GPU" if not machine.gpu else "TensorRT"
        raise NoGpu(f"there is no {missing} here, and the trt variant needs one; use variant onnx-gpu or cpu")
    folder = cache / key(machine, network)
    plan = folder / "model.plan"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not fits(plan, machine, network):
            with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                build(network, made / plan.name)
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
    return plan


def with_plan(models: Path, plan: Path, repository: Path, *, triton: Version = OLDEST) -> None:
    """Make ``repository``: a copy of ``models`` with a TensorRT network, ``plan``, and the variant that calls it.

    ``triton`` is the version of the server that will load it.
    """
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(models, repository)
    version = repository / TRT_NETWORK / "1"
    version.mkdir(parents=True)
    for source in (plan, record_path(plan)):
        (version / source.name).symlink_to(source)
    contract = contract_of(onnx.load(models / ONNX_NETWORK / "1" / "model.onnx"))
    write(repository, contract, Serving.read(), triton=triton)


def _build(network: Path, plan: Path) -> None:
    write_plan(network, plan, PlanOptions(batches=Serving.read().profile), builder=installed_builder())


def _main(
    cache: Annotated[Path, typer.Argument(help="folder of plans, kept between starts")],
    repository: Annotated[Path, typer.Argument(help="model repository to make, with the plan in it")],
) -> None:
    """Find or build this machine's plan, and make a repository that serves it."""
    models = model_repository()
    try:
        plan = cached_plan(models / ONNX_NETWORK / "1" / "model.onnx", cache, Machine.here(), _build)
        with_plan(models, plan, repository, triton=of(find_tritonserver()))
    except BgError as error:
        sys.exit(error.message())
    print(plan)


if __name__ == "__main__":
    typer.run(_main)
