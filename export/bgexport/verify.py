"""Do two engines see the same person? Parity on real and on adversarial photos, a check a line, a report as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bgexport.checks import Check
from bgexport.engines import Alpha, Run
from bgexport.errors import ParityError, QualityLoss
from bgexport.limits import ALPHA_SLACK, BATCH_MATE_DIFFERENCE, MAX_IOU_LOSS, MIN_PERSON, Tolerance
from bgexport.photos import NetworkInput, stack
from bgtrain.metrics import iou, mask_of


@dataclass(frozen=True)
class Parity:
    """How far an engine is from the reference over a set of pictures."""

    max_difference: float
    mean_difference: float
    """Of the worst picture."""
    iou: float
    """Of the worst picture with a person; 1 where none has one."""
    outside: float
    """How far the worst value lies outside [0, 1]; infinite where one is not a number."""


def alphas(run: Run, pictures: Sequence[NetworkInput], *, batch: int = 4) -> Alpha:
    """float32 (N, 1, H, W), run in batches."""
    images = stack(pictures)
    return np.concatenate([run(images[i : i + batch]) for i in range(0, len(images), batch)])


def parity(reference: Alpha, other: Alpha) -> Parity:
    """Compare two engines' alphas, float32 (N, 1, H, W), of the same pictures."""
    difference = np.abs(reference - other)
    overlaps = [
        iou(mask_of(seen), mask_of(true))
        for seen, true in zip(other[:, 0], reference[:, 0], strict=True)
        if mask_of(true).mean() >= MIN_PERSON
    ]
    return Parity(
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean((1, 2, 3)).max()),
        iou=min(overlaps, default=1.0),
        outside=float(max(-other.min(), other.max() - 1, 0.0)) if np.isfinite(other).all() else float("inf"),
    )


def parity_checks(found: Parity, limit: Tolerance, where: str) -> list[Check]:
    """``found`` held to ``limit``; ``where`` names the engine and the pictures."""
    return [
        Check(f"{where}: outside [0, 1]", found.outside, ALPHA_SLACK, ParityError),
        Check(f"{where}: max |Δalpha|", found.max_difference, limit.max_difference, ParityError),
        Check(
            f"{where}: mean |Δalpha|, worst photo",
            found.mean_difference,
            limit.mean_difference,
            ParityError,
        ),
        Check(f"{where}: IoU, worst photo", found.iou, limit.iou, ParityError, at_least=True),
    ]


def batch_mates_check(run: Run, pictures: Sequence[NetworkInput], where: str) -> Check:
    """Each picture alone and among the others must give the same alpha."""
    together = run(stack(pictures))
    alone = np.concatenate([run(picture.image[None]) for picture in pictures])
    difference = float(np.abs(together - alone).max())
    return Check(f"{where}: alone against in a batch", difference, BATCH_MATE_DIFFERENCE, ParityError)


def mean_iou(found: Alpha, pictures: Sequence[NetworkInput]) -> float:
    """Mean IoU against the labels, over the photo without its padding."""
    return float(
        np.mean(
            [
                iou(mask_of(alpha[p.inside]), mask_of(p.truth[p.inside]))
                for alpha, p in zip(found[:, 0], pictures, strict=True)
                if p.truth is not None
            ]
        )
    )


def quality_check(reference: Alpha, other: Alpha, pictures: Sequence[NetworkInput], where: str) -> Check:
    """The mean IoU against the labels that ``other`` loses to ``reference``."""
    loss = mean_iou(reference, pictures) - mean_iou(other, pictures)
    return Check(f"{where}: mean IoU lost against the labels", loss, MAX_IOU_LOSS, QualityLoss)


def verify(
    engines: dict[str, tuple[Run, Tolerance]],
    reference: Run,
    real: Sequence[NetworkInput],
    made: Sequence[NetworkInput],
) -> list[Check]:
    """Every engine against the reference, on ``real`` photos and on ``made`` ones, and alone against in a batch."""
    checks = []
    for kind, pictures in (("photos", real), ("adversarial", made)):
        expected = alphas(reference, pictures)
        for name, (run, limit) in engines.items():
            checks += parity_checks(parity(expected, alphas(run, pictures)), limit, f"{name}, {kind}")
    for name, (run, _) in engines.items():
        checks.append(batch_mates_check(run, [*real[:2], *made[:2]], name))
    return checks


def write_report(path: Path, checks: Sequence[Check], **facts: object) -> None:
    """The checks and ``facts`` about what was compared, as JSON."""
    report = {**facts, "passed": all(c.passed for c in checks), "checks": [c.to_dict() for c in checks]}
    path.write_text(json.dumps(report, indent=2) + "\n")
