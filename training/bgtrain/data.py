"""Photos and mattes from tar shards, turned into training crops.

Every crop is a pure function of (seed, number of the crop): any number of workers, processes or restarts
gives the same crops in the same order.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from bgimage.errors import BgError
from bgtrain.augment import AugmentConfig, Sample, augment

Image = NDArray[np.uint8]


class DataError(BgError):
    """A training file is missing or broken; the message names it."""

    code = "bad_training_data"


def data_root() -> Path:
    """Folder of the training photos: ``BGCLIENT_DATA``, else ``../shared/data`` beside the checkout."""
    return Path(os.environ.get("BGCLIENT_DATA") or Path(__file__).parents[3] / "shared/data")


@dataclass(frozen=True)
class Row:
    """One line of ``index.csv``."""

    key: str
    shard: str
    pool: str
    split: str
    label: str
    """pixel, polygon, pseudo, empty (nobody in the photo) or none (a background)."""
    person_fraction: float
    persons: int | None
    source: str
    confidence: float
    """Weight of the label in the loss, in [0, 1]."""


def read_index(root: Path) -> list[Row]:
    """All rows of ``root/index.csv``. ``DataError`` where it is missing or lacks a column."""
    path = root / "index.csv"
    if not path.is_file():
        raise DataError(f"no {path}: point BGCLIENT_DATA at the folder of the shards")
    with path.open(newline="") as lines:
        try:
            return [
                Row(
                    key=row["key"],
                    shard=row["shard"],
                    pool=row["pool"],
                    split=row["split"],
                    label=row["label"],
                    person_fraction=float(row["person_fraction"] or 0),
                    persons=int(row["persons"]) if row["persons"] else None,
                    source=row["source"],
                    confidence=float(row.get("agreement") or 1),
                )
                for row in csv.DictReader(lines)
            ]
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: {error!r}; see training/README.md for the columns") from error


def read_shards(root: Path, rows: Sequence[Row]) -> Iterator[tuple[Row, bytes, bytes | None]]:
    """(row, JPEG bytes, PNG bytes of the matte or ``None``) of the wanted rows, shard by shard."""
    for shard in sorted({row.shard for row in rows}):
        wanted = {row.key: row for row in rows if row.shard == shard}
        found: dict[str, dict[str, bytes]] = {}
        try:
            with tarfile.open(root / shard) as tar:
                for member in tar:
                    key, _, ending = Path(member.name).name.rpartition(".")
                    if key in wanted and (file := tar.extractfile(member)):
                        found.setdefault(key, {})[ending] = file.read()
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"{root / shard}: {error}") from error
        for key, row in wanted.items():
            if "jpg" not in found.get(key, {}):
                raise DataError(f"{root / shard}: no {key}.jpg, though index.csv names it")
            yield row, found[key]["jpg"], found[key].get("png")


def load_sample(row: Row, photo: bytes, matte: bytes | None, max_side: int) -> Sample:
    """Decode one photo and its matte, shrunk to ``max_side`` pixels on the long side."""
    image = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{row.key}.jpg in {row.shard} cannot be decoded")
    alpha = np.zeros(image.shape[:2], np.uint8)
    if matte is not None and row.label not in ("empty", "none"):
        alpha = cv2.imdecode(np.frombuffer(matte, np.uint8), cv2.IMREAD_GRAYSCALE)
        if alpha is None or alpha.shape != image.shape[:2]:
            raise DataError(
                f"{row.key}.png in {row.shard} cannot be decoded or has another size than the photo"
            )
    height, width = alpha.shape
    scale = max_side / max(height, width)
    if scale < 1:
        size = round(width * scale), round(height * scale)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    return Sample(
        image=image,
        alpha=alpha,
        label=row.label,
        confidence=row.confidence,
        # these photos were squeezed to a square by their publisher
        squeezed=row.source.startswith("openimg_human"),
    )


@dataclass(frozen=True)
class DataConfig:
    """What to train on."""

    pools: dict[str, float] = dataclasses.field(
        default_factory=lambda: {
            "coco_person": 1.6,
            "people_pseudo": 1.2,
            "ccp": 0.7,
            "vikram_humanseg": 1.5,
            "pennfudan": 0.7,
            "neg_coco": 0.8,
            "neg_imagenet": 0.8,
            "neg_davis": 0.8,
        }
    )
    """Pool -> how often one of its photos is drawn, relative to the others."""
    backgrounds: tuple[str, ...] = ("bg_scenes", "neg_coco", "neg_imagenet", "neg_davis")
    """Pools onto which people are composited."""
    small_people: float = 0.6
    """Photos whose people cover less than 8 % are drawn this much as often."""
    max_side: int = 512
    """Photos are kept in memory at this size; larger crops than this gain nothing."""
    exclude: tuple[str, ...] = ()
    """Keys to leave out (near-duplicates of val or test photos)."""


class Crops(Dataset[dict[str, torch.Tensor]]):
    """Training crops, numbered from 0 without end.

    ``crops[i]``: ``image`` uint8 (3, size, size) RGB; ``alpha`` and ``weight`` uint8 (1, size, size), in
    255ths.
    """

    def __init__(
        self,
        root: Path,
        config: DataConfig,
        augmentation: AugmentConfig,
        *,
        size: int,
        seed: int,
        split: str = "train",
    ) -> None:
        self.augmentation, self.size, self.seed = augmentation, size, seed
        rows = [r for r in read_index(root) if r.split == split and r.key not in config.exclude]
        used = [r for r in rows if r.pool in config.pools or r.pool in config.backgrounds]
        if not used:
            raise DataError(
                f"{root / 'index.csv'}: no photo of split {split!r} in the pools {sorted(config.pools)}"
            )
        self.samples: list[Sample] = []
        weights: list[float] = []
        self.backgrounds: list[int] = []
        self.people: list[int] = []
        for row, photo, matte in read_shards(root, used):
            index = len(self.samples)
            self.samples.append(load_sample(row, photo, matte, config.max_side))
            rarer = config.small_people if 0 < row.person_fraction < 0.08 else 1.0
            weights.append(config.pools.get(row.pool, 0.0) * rarer)
            if row.pool in config.backgrounds:
                self.backgrounds.append(index)
            if row.label in ("pixel", "pseudo"):
                self.people.append(index)
        self.probabilities = np.cumsum(weights) / np.sum(weights)

    def __len__(self) -> int:
        """Photos behind the crops (one epoch)."""
        return int(np.count_nonzero(np.diff(self.probabilities, prepend=0)))

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        """Crop ``number`` (any integer >= 0)."""
        rng = np.random.default_rng((self.seed, number))
        sample = self.samples[int(np.searchsorted(self.probabilities, rng.random(), side="right"))]
        pick = self.augmentation
        background = second = None
        if sample.label in ("pixel", "pseudo") and self.backgrounds and rng.random() < pick.composite:
            background = self.samples[self.backgrounds[rng.integers(len(self.backgrounds))]]
            if rng.random() < pick.second_person:
                second = self.samples[self.people[rng.integers(len(self.people))]]
        image, alpha, weight = augment(sample, self.size, pick, rng, background=background, second=second)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "alpha": torch.from_numpy(alpha[None]),
            "weight": torch.from_numpy(weight[None]),
        }


class StepSampler(torch.utils.data.Sampler[list[int]]):
    """Numbers of the crops of each step, from ``first`` on; process ``rank`` of ``world`` takes its share."""

    def __init__(self, batch: int, first: int, steps: int, rank: int = 0, world: int = 1) -> None:
        if batch % world:
            raise ValueError(f"batch={batch} does not divide among {world} processes")
        self.batch, self.first, self.steps, self.rank, self.world = batch, first, steps, rank, world

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        """One list of crop numbers a step."""
        for step in range(self.steps):
            start = self.first + step * self.batch
            yield list(range(start + self.rank, start + self.batch, self.world))


def load_split(
    root: Path, split: str, pools: Sequence[str], max_side: int = 4096
) -> Iterator[tuple[Row, Image, Image]]:
    """(row, photo uint8 (H, W, 3), matte uint8 (H, W)) of a split, for validation."""
    rows = [r for r in read_index(root) if r.split == split and r.pool in pools]
    for row, photo, matte in read_shards(root, rows):
        sample = load_sample(row, photo, matte, max_side)
        yield row, sample.image, sample.alpha
