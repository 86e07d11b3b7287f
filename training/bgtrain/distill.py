"""Teach with a network: ``python -m bgtrain distill TEACHER PHOTOS SHARDS`` labels photos that have no label.

The mattes go into a shard as labels of kind ``pseudo``, each with a confidence by which the loss weighs it: how far
the teacher agrees with itself when the photo is mirrored, which it should not notice. Photos on which it is too
unsure are left out. A recipe trains on them by naming the pool ``distilled``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bgimage import codec
from bgtrain.command import command_line
from bgtrain.convert import samples, tell
from bgtrain.evaluate import Pipeline
from bgtrain.metrics import Alpha
from bgtrain.readers import Entry, Example, Reader, Skipped, photos_in
from bgtrain.shards import write_shards

LEAST = 0.8
"""Agreement below which a matte teaches more errors than people."""
NOBODY = 1e-3
"""Share of the photo below which two mattes agree that there is no person."""


def agreement(one: Alpha, other: Alpha) -> float:
    """Soft IoU of two mattes, float (H, W) in [0, 1]; 1 where both are empty."""
    union = float(np.maximum(one, other).sum())
    return 1.0 if union < NOBODY * one.size else float(np.minimum(one, other).sum()) / union


class TeacherReader(Reader):
    """The photos of a folder with a network's mattes, ``Example``s with an ``agreement``."""

    name = "distilled"
    label = "pseudo"

    def __init__(self, folder: Path, teacher: Pipeline, least: float = LEAST) -> None:
        super().__init__(folder)
        self.teacher, self.least = teacher, least
        self.agreements: dict[str, float] = {}
        """An example's key to how far the teacher agreed with itself, of the photos that were read."""

    def _entries(self) -> list[Entry]:
        return [Entry(path.stem, path, path, "train") for path in photos_in(self.folder)]

    def _decide(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.bool_], None]:
        photo = codec.decode(entry.photo.read_bytes())
        alpha = self.teacher.network_alpha(photo)
        self.agreements[f"{self.name}_{entry.key}"] = agreement(alpha, self.teacher.mirrored_alpha(photo))
        matte = np.rint(self.teacher.finished(photo, alpha) * 255).astype(np.uint8)
        return matte, np.zeros(matte.shape, bool), None

    def __iter__(self) -> Iterator[Example]:
        for example in super().__iter__():
            agreed = self.agreements[example.key]
            if agreed < self.least:
                why = f"the teacher agrees with itself to {agreed:.2f}, below {self.least}"
                self.skipped.append(Skipped(example.key, why))
            else:
                yield dataclasses.replace(example, agreement=round(agreed, 4))


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain distill``."""
    parser = command_line("distill", __doc__)
    parser.add_argument("teacher", type=Path, help="checkpoint or ONNX file")
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("out", type=Path, help="folder of shards; other shards that lie there stay")
    parser.add_argument(
        "--least", type=float, default=LEAST, help="agreement below which a photo is left out"
    )
    parser.add_argument("--max-side", type=int, help="shrink longer photos to this many pixels")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    source = TeacherReader(args.photos, Pipeline(args.teacher, threads=args.threads), args.least)
    packed = samples(source, max_side=args.max_side)
    tell(write_shards(packed, args.out, prefix=source.name, add=True), source, args.out)
    return 0
