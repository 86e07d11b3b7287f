"""Near-duplicate photos across splits: perceptual fingerprints, then a closer look that forgives a crop.

A photo that is in train and, re-encoded, cropped or mirrored, in test again would flatter every score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
"""Side of the thumbnails, pixels."""
COARSE = 32
"""Side of what the first look compares, pixels: small enough to forgive a shift of a few per cent."""
CANDIDATE = 0.35
"""Correlation of the coarse details from which two photos get the closer look."""
SAME = 0.82
"""Correlation of the centre of one photo, slid over the other, from which they count as the same: re-encoded,
cropped and resized copies reach 0.83-0.98 on the training photos, passport photos of two men 0.80."""
MARGIN = 8
"""Pixels of the thumbnail cut off on each side to get the centre."""


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a photo to find it again."""

    key: str
    split: str
    details: NDArray[np.float32]
    """float32 (64, 64, 3): contours in colour, without large areas of light and dark; stretched square."""

    @classmethod
    def of(cls, key: str, split: str, photo: NDArray[np.uint8]) -> Fingerprint:
        """Photo: uint8 (H, W, 3), RGB."""
        small = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        return cls(key, split, cv2.GaussianBlur(small, (0, 0), 1) - cv2.GaussianBlur(small, (0, 0), 4))

    @property
    def coarse(self) -> NDArray[np.float32]:
        """float32 (32, 32), grey, mean 0, norm 1."""
        small = cv2.resize(self.details.mean(axis=2), (COARSE, COARSE), interpolation=cv2.INTER_AREA)
        small -= small.mean()
        return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)


@dataclass(frozen=True)
class Pair:
    """Two photos of different splits that look the same."""

    first: str
    """``split/key``, train before val before test."""
    second: str
    likeness: float
    """Correlation in the closer look, ``SAME`` .. 1."""
    mirrored: bool


def near_duplicates(fingerprints: Sequence[Fingerprint]) -> list[Pair]:
    """Pairs across splits, most alike first; mirrored photos are found too."""
    found = []
    for here, there, mirrored in _candidates(fingerprints):
        first, second = fingerprints[here], fingerprints[there]
        other = np.ascontiguousarray(second.details[:, ::-1]) if mirrored else second.details
        likeness = max(_likeness(first.details, other), _likeness(other, first.details))
        if likeness >= SAME:
            names = [f"{one.split}/{one.key}" for one in (first, second)]
            found.append(Pair(names[0], names[1], round(likeness, 3), mirrored))
    return sorted(found, key=lambda pair: -pair.likeness)


def _candidates(fingerprints: Sequence[Fingerprint], chunk: int = 1000) -> Iterator[tuple[int, int, bool]]:
    order = {"train": 0, "val": 1, "test": 2}
    splits = np.array([order[one.split] for one in fingerprints])
    coarse = np.array([one.coarse for one in fingerprints], np.float32).reshape(-1, COARSE, COARSE)
    plain = coarse.reshape(-1, COARSE * COARSE)
    for mirrored in (False, True):
        others = coarse[..., ::-1].reshape(plain.shape) if mirrored else plain
        for start in range(0, len(plain), chunk):
            alike = plain[start : start + chunk] @ others.T >= CANDIDATE
            alike &= splits[start : start + chunk, None] < splits[None]
            for here, there in np.argwhere(alike):
                yield start + int(here), int(there), mirrored


def _likeness(of: NDArray[np.float32], within: NDArray[np.float32]) -> float:
    centre = np.ascontiguousarray(of[MARGIN:-MARGIN, MARGIN:-MARGIN])
    return float(cv2.matchTemplate(within, centre, cv2.TM_CCOEFF_NORMED).max())
