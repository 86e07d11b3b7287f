"""Photos and mattes from tar shards, turned into training crops.

Every crop is a pure function of (seed, number of the crop): any number of workers, processes or restarts
gives the same crops in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from bgtrain.augment import AugmentConfig, TrainingPhoto, augment
from bgtrain.errors import BrokenData, MissingData
from bgtrain.shards import PERSON_LABELS, Row, Shards

Image = NDArray[np.uint8]


def load_sample(shards: Shards, row: Row, max_side: int) -> TrainingPhoto:
    """One photo and its matte, shrunk to ``max_side`` pixels on the long side. ``BrokenData`` names a bad one."""
    image = shards.image(row.key)
    alpha = ignore = None
    if row.label in PERSON_LABELS:
        alpha, ignore = shards.matte(row.key), shards.ignore(row.key)
    if alpha is None:
        alpha = np.zeros(image.shape[:2], np.uint8)
    if alpha.shape != image.shape[:2]:
        raise BrokenData(f"{row.key}.png in {row.shard} has another size than the photo")
    height, width = alpha.shape
    scale = max_side / max(height, width)
    if scale < 1:
        size = round(width * scale), round(height * scale)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
        if ignore is not None:
            ignore = cv2.resize(ignore.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return TrainingPhoto(
        image=image,
        alpha=alpha,
        label=row.label,
        ignore=ignore,
        confidence=1.0 if row.agreement is None else row.agreement,
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

    ``crops[i]``: ``image`` uint8 (3, size, size) RGB; ``alpha``, ``weight`` (of the matte's loss) and
    ``segment_weight`` uint8 (1, size, size), in 255ths.
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
        self.samples: list[TrainingPhoto] = []
        self.backgrounds: list[int] = []
        self.people: list[int] = []
        weights: list[float] = []
        with Shards(root, split=split, pools={*config.pools, *config.backgrounds}) as shards:
            for row in shards.rows:
                if row.key in config.exclude:
                    continue
                index = len(self.samples)
                self.samples.append(load_sample(shards, row, config.max_side))
                rarer = config.small_people if 0 < row.person_fraction < 0.08 else 1.0
                weights.append(config.pools.get(row.pool, 0.0) * rarer)
                if row.pool in config.backgrounds:
                    self.backgrounds.append(index)
                if row.label in ("pixel", "pseudo"):
                    self.people.append(index)
        if not any(weights):
            raise MissingData(f"{root}: no photo of split {split!r} in the pools {sorted(config.pools)}")
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
            share = pick.second_person
        else:
            share = pick.paste
        if share and self.people and rng.random() < share:
            second = self.samples[self.people[rng.integers(len(self.people))]]
        image, *maps = augment(sample, self.size, pick, rng, background=background, second=second)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            **{
                name: torch.from_numpy(map_[None])
                for name, map_ in zip(("alpha", "weight", "segment_weight"), maps, strict=True)
            },
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


def load_split(root: Path, split: str, pools: Sequence[str]) -> Iterator[tuple[Row, Image, Image]]:
    """(row, photo uint8 (H, W, 3), matte uint8 (H, W)) of a split, for validation."""
    with Shards(root, split=split, pools=pools) as shards:
        for row in shards.rows:
            sample = load_sample(shards, row, max_side=4096)
            yield row, sample.image, sample.alpha
