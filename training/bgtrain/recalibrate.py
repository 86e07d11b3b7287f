"""Measure batch statistics anew: ``python -m bgtrain recalibrate CHECKPOINT OUT``, before exporting.

The averaged weights of a run never normalised a batch: the running statistics beside them are an average of what the
raw weights saw, and lag behind. Here the averaged network itself looks at training crops of the size that is served,
and each normalisation takes the plain mean over all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bgimage.contract import Contract
from bgtrain import checkpoint
from bgtrain.command import command_line, data_option
from bgtrain.data import Crops
from bgtrain.recipe import from_dict
from bgtrain.shards import data_folder
from bgtrain.train import Validation, normalise

BATCH = 16


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of ``model``, in place, by those over ``batches`` (normalised float (N, 3, H, W)).

    Only normalisations that learn in ``model.train()``; dropout stays off; the model is left in eval mode.
    """
    model.train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d) and module.training]
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    for batch in batches:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def crop_batches(crops: Crops, contract: Contract, count: int) -> Iterator[Tensor]:
    """The first ``count`` of ``crops`` as the network sees them, ``BATCH`` at a time."""
    for first in range(0, count, BATCH):
        images = [crops[number]["image"] for number in range(first, min(first + BATCH, count))]
        yield normalise(torch.stack(images), contract.mean, contract.std)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; prints the validation scores before and after."""
    parser = command_line("recalibrate", __doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="checkpoint to write")
    parser.add_argument("--crops", type=int, default=1024, help="training crops to measure on")
    data_option(parser)
    arguments = parser.parse_args(argv)
    source = checkpoint.load(arguments.checkpoint)
    recipe = dataclasses.replace(from_dict(source.recipe), contract=source.contract)
    root, model = data_folder(arguments.data), source.model()
    size = max(source.contract.size_hw)
    crops = Crops(root, recipe.data, recipe.augment, size=size, seed=recipe.seed)
    validation = Validation(root, recipe)
    for when in ("before", "after"):
        if when == "after":
            recalibrate(model, crop_batches(crops, source.contract, arguments.crops))
        scores = validation.scores(validation.predict(model, torch.device("cpu")))
        print(f"{when:<6} " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    source.settled(model, scores).save(arguments.out)
    return 0
