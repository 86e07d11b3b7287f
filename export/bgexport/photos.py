"""Network inputs to calibrate and to verify on: real photos, and pictures made to find weak spots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bgexport.errors import NoPhotos
from bgimage import codec
from bgimage.contract import Contract
from bgimage.geometry import Letterbox, network_input
from bgtrain.errors import DataError
from bgtrain.readers import PHOTO_SUFFIXES, photos_in
from bgtrain.shards import Shards

Image = NDArray[np.uint8]
"""uint8 (3, H, W), RGB, of the contract's size."""

PEOPLE_POOLS = ("ccp", "vikram_humanseg", "people_pseudo", "coco_person", "pennfudan")
"""Pools of the training photos whose label marks people."""


@dataclass(frozen=True)
class NetworkInput:
    """One network input."""

    name: str
    image: Image
    truth: NDArray[np.float32] | None = None
    """float32 (H, W) in [0, 1] in the network's space, 0 on the padding; ``None`` without a label."""
    inside: tuple[slice, slice] = (slice(None), slice(None))
    """Rows and columns that the photo covers; the rest is padding."""
    pool: str = ""
    """Where the photo comes from."""


def stack(pictures: Sequence[NetworkInput]) -> Image:
    """uint8 (N, 3, H, W)."""
    return np.stack([picture.image for picture in pictures])


def labelled(contract: Contract, *, split: str, count: int, folder: Path | None = None) -> list[NetworkInput]:
    """``count`` photos of ``split``, the same share from every pool with people; ``NoPhotos`` without data."""
    try:
        shards = Shards(folder, split=split, pools=PEOPLE_POOLS)
    except DataError as error:
        raise NoPhotos(f"{error}; set BGCLIENT_DATA to the folder of the photos") from error
    with shards:
        by_pool = [[row for row in shards.rows if row.pool == pool] for pool in PEOPLE_POOLS]
        turns = max(len(rows) for rows in by_pool)
        # a pool a turn: any count is balanced, and a larger count contains the smaller one
        rows = [rows[turn] for turn in range(turns) for rows in by_pool if turn < len(rows)][:count]
        pictures = []
        for row in rows:
            photo = codec.decode(shards.photo(row.key))
            box = Letterbox.fit(photo.size_hw, contract)
            inside = (box.rows, box.columns)
            truth = np.zeros(contract.size_hw, np.float32)
            matte = shards.matte(row.key)
            assert matte is not None  # every pool with people is labelled
            height, width = truth[inside].shape
            truth[inside] = cv2.resize(matte, (width, height), interpolation=cv2.INTER_AREA) / np.float32(255)
            pictures.append(NetworkInput(row.key, network_input(photo, contract), truth, inside, row.pool))
    return pictures


def from_folder(contract: Contract, folder: Path) -> list[NetworkInput]:
    """Every photo in ``folder``; ``NoPhotos`` where there is none."""
    paths = photos_in(folder)
    if not paths:
        raise NoPhotos(f"no photo ({', '.join(PHOTO_SUFFIXES)}) in {folder}")
    return [NetworkInput(p.name, network_input(codec.decode(p.read_bytes()), contract)) for p in paths]


def adversarial(contract: Contract, people: Sequence[NetworkInput] = ()) -> list[NetworkInput]:
    """Pictures on which engines differ first: flat, saturated, noisy; ``people`` moved over the border."""
    height, width = contract.size_hw
    noise = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]

    def grey(values: NDArray[np.generic]) -> Image:
        return np.repeat(values.astype(np.uint8)[None], 3, axis=0)

    primary = np.zeros((3, height, width), np.uint8)
    primary[0] = 255
    made = {
        "all black": grey(np.zeros((height, width))),
        "all white": grey(np.full((height, width), 255)),
        "all padding": grey(np.full((height, width), contract.pad_value)),
        "pure red": primary,
        "noise": noise.integers(0, 256, (3, height, width), dtype=np.uint8),
        "salt and pepper": grey(noise.integers(0, 2, (height, width)) * 255),
        "checkerboard": grey((rows + columns) % 2 * 255),
        "gradient": grey(columns * 255 // (width - 1)),
    }
    for picture in people:
        # half of the photo leaves the frame: the border cuts a person in the middle
        made[f"{picture.name}, cut by the left border"] = np.roll(picture.image, -width // 2, axis=2)
        made[f"{picture.name}, cut by the lower border"] = np.roll(picture.image, height // 2, axis=1)
    return [NetworkInput(name, np.ascontiguousarray(image)) for name, image in made.items()]
