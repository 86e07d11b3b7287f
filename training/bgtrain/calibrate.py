"""Make a trained network decisive: ``python -m bgtrain calibrate CHECKPOINT OUT``.

Cross-entropy teaches probabilities. Where the network doubts whether a helmet belongs to its bearer it answers 0.4, and
0.4 in a cut-out is a ghost. A matte wants coverage: mostly 0 or 1, and in between only along edges and hair. One
number mends most of that, the inverse temperature of Guo et al. 2017 (arXiv:1706.04599), used here to sharpen: the
logits are multiplied by the smallest gain whose mean absolute error on the validation photos is within 3 % of the
best. The outline at 0.5 does not move. The gain is folded into the last convolution, so that nothing else changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bgtrain import checkpoint, networks
from bgtrain.command import command_line
from bgtrain.recipe import from_dict
from bgtrain.shards import data_folder
from bgtrain.train import Validation

GAINS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
NEAR_BEST = 1.03
"""A softer answer is preferred while its error is at most this many times the best ..."""
NO_ERROR = 1e-4
"""... or not worth speaking of."""


def last_convolution(model: nn.Module) -> nn.Conv2d:
    """The convolution that gives the logits. ``ValueError`` where the last one is none with a bias."""
    last = [module for module in model.modules() if isinstance(module, nn.Conv2d)][-1]
    if last.bias is None:
        raise ValueError(
            "the last convolution has no bias and gives no logits: this network cannot be calibrated"
        )
    return last


def sharpen(model: nn.Module, gain: float) -> None:
    """Multiply the logits of ``model`` by ``gain``, in place."""
    last = last_convolution(model)
    assert last.bias is not None
    with torch.no_grad():
        last.weight *= gain
        last.bias *= gain


def best_gain(alpha: Tensor, truth: Tensor) -> tuple[float, dict[float, float]]:
    """The gain to use, and the mean absolute error of each.

    alpha and truth: float (N, 1, H, W) in [0, 1].
    """
    logits = torch.logit(alpha, eps=1e-6)
    errors = {gain: float((torch.sigmoid(gain * logits) - truth).abs().mean()) for gain in GAINS}
    limit = max(NEAR_BEST * min(errors.values()), NO_ERROR)
    return next(gain for gain in GAINS if errors[gain] <= limit), errors


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; prints a line a gain."""
    parser = command_line("calibrate", __doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="checkpoint to write, weights in float16")
    parser.add_argument("--size", type=int, help="side to serve at, pixels; default: the checkpoint's")
    parser.add_argument("--data", type=Path, default=None, help="folder of the shards (else BGCLIENT_DATA)")
    arguments = parser.parse_args(argv)
    source = checkpoint.load(arguments.checkpoint)
    if arguments.size:
        stride = networks.build(source.network).stride
        if arguments.size % stride:
            parser.error(f"--size {arguments.size}: {source.network} needs a multiple of {stride}")
        contract = dataclasses.replace(source.contract, size_hw=(arguments.size, arguments.size))
        source = dataclasses.replace(source, contract=contract)
    recipe = dataclasses.replace(from_dict(source.recipe), contract=source.contract)
    validation = Validation(data_folder(arguments.data), recipe)
    model = source.model()
    gain, errors = best_gain(validation.predict(model, torch.device("cpu")), validation.mattes / 255)
    for tried, error in errors.items():
        print(f"gain {tried:<4} mean absolute error {error:.4f}{'  <- taken' if tried == gain else ''}")
    sharpen(model, gain)
    scores = validation.scores(validation.predict(model, torch.device("cpu")))
    source.settled(model, scores).published().save(arguments.out)
    print(f"{arguments.out}: " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    return 0
