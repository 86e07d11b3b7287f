"""Contact sheets: rows and grids of titled pictures. All pictures: uint8 (H, W, 3), RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bgimage.compose import over
from bgtrain.errors import BrokenData
from bgtrain.metrics import Alpha, mask_of

Picture = NDArray[np.uint8]

PAPER = (245, 245, 245)
GREEN = (40, 170, 90)
MISSED = (230, 40, 40)
FALSE = (50, 90, 255)


def fitted(picture: Picture, side: int) -> Picture:
    """``picture`` shrunk or enlarged to fit a square of ``side``, centred on paper."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.full((side, side, 3), PAPER, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    return square


def on_colour(photo: Picture, alpha: Alpha, colour: tuple[int, int, int] = GREEN) -> Picture:
    """The photo's people over a plain colour."""
    return over(np.dstack([photo, np.rint(alpha * 255).astype(np.uint8)]), colour)


def errors_on(photo: Picture, alpha: Alpha, truth: Alpha) -> Picture:
    """A dimmed photo with missed person in red and falsely marked background in blue."""
    marked, real = mask_of(alpha), mask_of(truth)
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = grey // 2 + 60
    picture[marked & real] += 60
    picture[real & ~marked] = MISSED
    picture[marked & ~real] = FALSE
    return np.asarray(picture, np.uint8)


def titled(picture: Picture, title: str) -> Picture:
    """``picture`` under a line of text."""
    line = np.full((18, picture.shape[1], 3), PAPER, np.uint8)
    cv2.putText(line, title, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1, cv2.LINE_AA)
    return np.vstack([line, picture])


def row(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one height side by side."""
    return np.hstack(list(pictures))


def grid(cells: Sequence[Picture], *, columns: int, gap: int = 6) -> Picture:
    """Cells of one size, row by row; the last row is filled up with paper."""
    if not cells:
        return np.full((gap, gap, 3), PAPER, np.uint8)
    height, width = cells[0].shape[:2]
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), PAPER, np.uint8)
    for number, cell in enumerate(cells):
        top, left = gap + number // columns * (height + gap), gap + number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def save(path: Path, picture: Picture) -> None:
    """Write a PNG or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise BrokenData(f"{path} cannot be written; use a name that ends in .png or .jpg")
