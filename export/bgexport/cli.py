"""Checkpoint to served network, a line a check: value and limit on stdout, exit status 1 where one fails."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bgexport.checks import Check, require
from bgexport.limits import TOLERANCES
from bgexport.photos import NetworkInput, adversarial, from_folder, labelled
from bgimage.contract import Contract
from bgimage.errors import BgError

if TYPE_CHECKING:
    from bgtrain.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
"""The checkout."""
MODELS = ROOT / "model_repository"
PAGE = ROOT / "client/bgclient/web/static/network.onnx"
PARITY_PHOTOS = 25
"""Five of each pool with people."""


app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

CheckpointPath = Annotated[
    Path, typer.Argument(help="checkpoint (.pt) of bgtrain", exists=True, dir_okay=False)
]
ModelPath = Annotated[Path, typer.Argument(help="ONNX file of this project", exists=True, dir_okay=False)]
Photos = Annotated[
    Path | None, typer.Option(help="folder of photos; without it the test split of the training photos")
]
Models = Annotated[Path, typer.Option(help="the model repository")]
Report = Annotated[Path | None, typer.Option(help="write the checks as JSON")]


def main() -> None:
    """Run one command; an error of this project is one line on stderr."""
    try:
        app()
    except BgError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def say(checks: Iterable[Check], report: Path | None = None, **facts: object) -> None:
    """Print every check, write the report, then raise the error of the first check that failed."""
    from bgexport.verify import write_report

    done = list(checks)
    for check in done:
        print(check)
    if report:
        write_report(report, done, **facts)
    require(done)


def parity_photos(contract: Contract, folder: Path | None) -> list[NetworkInput]:
    """The photos on which engines are compared."""
    return from_folder(contract, folder) if folder else labelled(contract, split="test", count=PARITY_PHOTOS)


def loaded(checkpoint: Path) -> Checkpoint:
    """The checkpoint; imports PyTorch."""
    from bgtrain import checkpoint as checkpoints

    return checkpoints.load(checkpoint)


@app.command()
def onnx(
    checkpoint: CheckpointPath,
    out: Annotated[Path, typer.Argument(help="ONNX file to write")],
    photos: Photos = None,
    dynamic_size: Annotated[bool, typer.Option(help="take any multiple of the stride as well")] = False,
    report: Report = None,
) -> None:
    """Export a checkpoint in FP32 and compare it with PyTorch."""
    from bgexport import release

    source = loaded(checkpoint)
    out.write_bytes(release.onnx_bytes(source, dynamic_size=dynamic_size))
    say(
        release.parity_with_torch(source, out, parity_photos(source.contract, photos)),
        report,
        model=out.name,
    )
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, contract {source.contract.fingerprint}")


@app.command()
def quantize(
    model: ModelPath,
    out: Annotated[Path, typer.Argument(help="ONNX file to write")],
    precision: Annotated[
        Literal["fp16", "int8-gpu", "int8-cpu", "fp16-weights"], typer.Option(help="what to make")
    ],
    photos: Annotated[int, typer.Option(help="labelled test photos to compare on")] = 50,
    report: Report = None,
) -> None:
    """Lower the precision of an FP32 graph and hold it to its limits on labelled photos."""
    import onnx as onnx_package

    from bgexport import engines, graph, verify
    from bgexport import precision as precisions

    source = onnx_package.load(model)
    contract = graph.contract_of(source)
    match precision:
        case "fp16":
            made = precisions.fp16(source)
        case "fp16-weights":
            made = precisions.fp16_weights(source)
        case _:
            calibration = labelled(contract, split="train", count=precisions.CALIBRATION_PHOTOS)
            made = precisions.int8(source, calibration, target=precision.removeprefix("int8-"))
    graph.check_graph(made, contract)
    onnx_package.save(made, out)
    pictures = labelled(contract, split="test", count=photos)
    reference = verify.alphas(engines.cpu_engine("ONNX Runtime", model), pictures)
    checks = []
    for name in engines.engines_for(precision):
        found = verify.alphas(engines.cpu_engine(name, out), pictures)
        where = f"{name} {precision}"
        checks += verify.parity_checks(verify.parity(reference, found), TOLERANCES[precision], where)
        checks.append(verify.quality_check(reference, found, pictures, where))
    say(checks, report, model=out.name, source=model.name)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, was {model.stat().st_size / 1e6:.2f} MB")


@app.command()
def verify(
    checkpoint: CheckpointPath,
    model: ModelPath,
    plan: Annotated[Path | None, typer.Option(help="TensorRT plan; needs its GPU")] = None,
    photos: Photos = None,
    report: Report = None,
) -> None:
    """Compare PyTorch, ONNX Runtime, OpenVINO and a plan on real and on adversarial photos."""
    import onnx as onnx_package

    from bgexport import engines, graph
    from bgexport.verify import verify

    source, network = loaded(checkpoint), onnx_package.load(model)
    graph.check_graph(network, source.contract)
    precision = graph.metadata(network)["precision"]
    runs = {
        f"{name} {precision}": (engines.cpu_engine(name, model), TOLERANCES[precision])
        for name in engines.engines_for(precision)
    }
    if plan:
        runs[f"TensorRT {precision}"] = engines.plan_engine(plan, source.contract), TOLERANCES[precision]
    real = parity_photos(source.contract, photos)
    reference = engines.torch_engine(source.model(), source.contract)
    checks = verify(runs, reference, real, adversarial(source.contract, real[:2]))
    say(checks, report, checkpoint=checkpoint.name, model=model.name, plan=plan.name if plan else None)


@app.command()
def inspect(model: ModelPath) -> None:
    """Say what is in an ONNX file: metadata, tensors, operators, types of the weights."""
    import onnx as onnx_package

    from bgexport.graph import description

    for name, value in description(onnx_package.load(model), model).items():
        print(f"{name:<22} {value}")


@app.command()
def plan(
    model: ModelPath,
    out: Annotated[Path, typer.Argument(help="plan to write; its record goes next to it")],
    builder: Annotated[
        Literal["auto", "tensorrt", "trtexec", "tensorrt-rtx"],
        typer.Option(help="auto: TensorRT's Python API, else trtexec"),
    ] = "auto",
    version_compatible: Annotated[bool, typer.Option(help="load in later TensorRTs too")] = False,
    hardware_compatibility: Annotated[
        Literal["none", "same_compute_capability", "ampere_plus"],
        typer.Option(help="other GPUs that may run it"),
    ] = "none",
    timing_cache: Annotated[Path | None, typer.Option(help="kernel timings, read and written")] = None,
    image_digest: Annotated[
        str, typer.Option(help="of the container image, for the record", envvar="BGCLIENT_IMAGE_DIGEST")
    ] = "",
    if_needed: Annotated[bool, typer.Option(help="keep a plan that fits this machine and network")] = False,
) -> None:
    """Build a TensorRT plan for this machine's GPU, batch sizes from serving.toml."""
    from bgexport.plan import PlanOptions, fits, installed_builder, write_plan
    from bgexport.repository import Serving
    from bgserver.plans import Machine

    if if_needed and fits(out, Machine.here(), model):
        print(f"{out}: fits this machine")
        return
    options = PlanOptions(
        batches=Serving.read().profile,
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatibility,
        timing_cache=timing_cache,
    )
    chosen = installed_builder() if builder == "auto" else builder
    record = write_plan(model, out, options, builder=chosen, image_digest=image_digest)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {record.precision}, {chosen} {record.tensorrt_version}")


@app.command()
def repository(
    models: Models = MODELS,
    check: Annotated[bool, typer.Option("--check", help="compare only, write nothing")] = False,
    triton: Annotated[
        str, typer.Option(help="version of the server, such as 2.75; without: what every one knows")
    ] = "",
) -> None:
    """Render every config.pbtxt for the networks, and the plans, that lie in the repository."""
    import onnx as onnx_package

    from bgexport import graph, repository
    from bgexport.repository import Names, Serving
    from bgserver import versions

    try:
        version = versions.parsed(triton) if triton else versions.OLDEST
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--triton") from error
    serving = Serving.read()
    found = {names: onnx_package.load(network) for names, network in repository.networks(models)}
    contracts = {
        names: (graph.contract_of(network), repository.limited(serving, network))
        for names, network in found.items()
    } or {Names(): (Contract(), serving)}
    if check:
        repository.check(models, contracts)
        print(f"{models}: every config is what is rendered")
        return
    for names, (contract, limits) in contracts.items():
        for path in repository.write(models, contract, limits, names, triton=version):
            print(path)


@app.command()
def add(
    network: Annotated[
        Path, typer.Argument(help="ONNX file of any matting network", exists=True, dir_okay=False)
    ],
    contract: Annotated[
        Path, typer.Option(help="TOML: size, mean, std ... of its own code", exists=True, dir_okay=False)
    ],
    name: Annotated[str, typer.Option(help="what it is asked for by; without: the file's name")] = "",
    models: Models = MODELS,
    photos: Annotated[Path, typer.Option(help="folder of photos to compare on")] = ROOT / "examples",
) -> None:
    """Put another matting network into the repository, with the ensembles cutout_NAME and matte_NAME."""
    from bgexport.add import Theirs, add
    from bgexport.repository import Serving

    theirs = Theirs.read(contract)
    real = from_folder(theirs.contract(), photos)
    done = add(
        network,
        theirs,
        name or network.stem,
        [*real, *adversarial(theirs.contract(), real[:1])],
        models=models,
        serving=Serving.read(),
    )
    say(done.checks)
    for path in done.files:
        print(path)
    print(
        f"batches of up to {done.max_batch_size}; bgclient serve --repository {models}, "
        f"bgclient cut --model {done.names.network}"
    )


@app.command()
def release(
    checkpoint: CheckpointPath,
    photos: Photos = None,
    models: Models = MODELS,
    card: Annotated[Path, typer.Option(help="model card to update")] = ROOT / "docs" / "model-card.md",
    page: Annotated[Path, typer.Option(help="file that the web page loads")] = PAGE,
) -> None:
    """Make a checkpoint the served network: ONNX files of server and web page, configs, model card."""
    from bgexport.release import release
    from bgexport.repository import Serving

    source = loaded(checkpoint)
    done = release(
        source,
        parity_photos(source.contract, photos),
        models=models,
        card=card,
        page=page,
        serving=Serving.read(),
    )
    say(done.checks)
    for path in (done.model, *done.configs, done.card, done.page):
        print(path)


@app.command()
def hub(
    folder: Annotated[Path, typer.Argument(help="folder to write", file_okay=False)],
    models: Models = MODELS,
    weights: Annotated[Path, typer.Option(help="folder of the checkpoints")] = ROOT / "training/weights",
    results: Annotated[Path, typer.Option(help="folder of the results")] = ROOT / "training/results",
) -> None:
    """Write what a model hub wants of the served network: weights, graph, configuration, card. Nothing is uploaded."""
    from bgexport import hub
    from bgexport.repository import ONNX_NETWORK

    committed = hub.Committed.read(models / ONNX_NETWORK / "1" / "model.onnx", weights, results)
    document, licence = ROOT / "docs/model-card.md", ROOT / "LICENSE"
    for path in hub.write(folder, committed, document=document, licence=licence):
        print(path)
