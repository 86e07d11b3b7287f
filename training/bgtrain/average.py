"""The mean of the weights of two runs that share their beginning (Wortsman et al. 2022, arXiv:2203.05482).

``python -m bgtrain average ONE OTHER OUT``: each run has its own luck with the photos it drew, and the mean has less
of either. Batch statistics cannot be averaged: run ``python -m bgtrain recalibrate OUT SETTLED`` afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bgtrain import checkpoint
from bgtrain.checkpoint import Checkpoint, CheckpointError
from bgtrain.command import command_line


def average(one: Checkpoint, other: Checkpoint, share: float) -> Checkpoint:
    """``other`` with ``share`` of its own weights and the rest of ``one``; ``CheckpointError`` for two kinds."""
    if one.network != other.network:
        raise CheckpointError(f"{one.network} and {other.network} have no mean: train one network twice")
    weights = {
        name: (1 - share) * one.weights[name].float() + share * value.float()
        if value.is_floating_point()
        else value
        for name, value in other.weights.items()
    }
    return dataclasses.replace(other, weights=weights, metrics={}, resume=None)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m bgtrain average``."""
    parser = command_line("average", __doc__)
    parser.add_argument("one", type=Path, help="checkpoint")
    parser.add_argument("other", type=Path, help="checkpoint of the same network, whose recipe OUT names")
    parser.add_argument("out", type=Path, help="checkpoint to write; then: python -m bgtrain recalibrate")
    parser.add_argument("--share", type=float, default=0.5, help="of OTHER in the mean, 0 to 1")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.share <= 1:
        parser.error(f"--share {arguments.share}: from 0 (ONE alone) to 1 (OTHER alone)")
    one, other = checkpoint.load(arguments.one), checkpoint.load(arguments.other)
    average(one, other, arguments.share).save(arguments.out)
    return 0
