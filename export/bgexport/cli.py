"""Checkpoint to served network, a line a check: value and limit on stdout, exit status 1 where one fails."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from bgexport.checks import Check, require
from bgexport.photos import Picture, from_folder, labelled
from bgimage.contract import Contract
from bgimage.errors import BgError

ROOT = Path(__file__).parents[2]
"""The checkout."""
MODELS = ROOT / "model_repository"
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


def main() -> None:
    """Run one command; errors of this project are one line on stderr."""
    try:
        app()
    except BgError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def say(checks: Iterable[Check]) -> list[Check]:
    """Print every check, then raise the error of the first that failed."""
    done = list(checks)
    for check in done:
        print(check)
    require(done)
    return done


def parity_photos(contract: Contract, folder: Path | None) -> list[Picture]:
    """The photos on which engines are compared."""
    return from_folder(contract, folder) if folder else labelled(contract, split="test", count=PARITY_PHOTOS)


@app.command()
def onnx(
    checkpoint: CheckpointPath,
    out: Annotated[Path, typer.Argument(help="ONNX file to write")],
    photos: Photos = None,
    dynamic_size: Annotated[
        bool, typer.Option(help="any multiple of the stride, not only the contract's size")
    ] = False,
) -> None:
    """Export a checkpoint and compare it with PyTorch."""
    from bgexport import release
    from bgtrain import checkpoint as checkpoints

    loaded = checkpoints.load(checkpoint)
    content = release.onnx_bytes(loaded, dynamic_size=dynamic_size)
    say(release.parity_with_torch(loaded, content, parity_photos(loaded.contract, photos)))
    out.write_bytes(content)
    print(f"{out}: {len(content) / 1e6:.2f} MB, contract {loaded.contract.fingerprint}")


@app.command()
def repository(
    models: Models = MODELS,
    check: Annotated[bool, typer.Option("--check", help="compare only, write nothing")] = False,
) -> None:
    """Render every config.pbtxt for the network that lies in the repository."""
    import onnx as onnx_package

    from bgexport import graph, repository
    from bgexport.repository import ONNX_NETWORK, Serving

    network = models / ONNX_NETWORK / "1" / "model.onnx"
    contract = graph.contract_of(onnx_package.load(network)) if network.exists() else Contract()
    if check:
        repository.check(models, contract, Serving.read())
        print(f"{models}: every config is what is rendered")
        return
    for path in repository.write(models, contract, Serving.read()):
        print(path)


@app.command()
def release(
    checkpoint: CheckpointPath,
    photos: Photos = None,
    models: Models = MODELS,
    card: Annotated[Path, typer.Option(help="model card to update")] = ROOT / "docs" / "model-card.md",
) -> None:
    """Make a checkpoint the repository's network: ONNX file, configs, facts of the model card."""
    from bgexport.release import release
    from bgexport.repository import Serving
    from bgtrain import checkpoint as checkpoints

    loaded = checkpoints.load(checkpoint)
    pictures = parity_photos(loaded.contract, photos)
    done = release(loaded, pictures, models=models, card=card, serving=Serving.read())
    say(done.checks)
    for path in (done.model, *done.configs, done.card):
        print(path)
