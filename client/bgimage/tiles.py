"""Work on a large picture in small pieces, beside a copy shrunk by a whole factor.

Only pieces on the edge of a matte need work: the rest is all person or all background. What a piece costs does not
depend on the photo, so time is linear in pixels and temporary memory is constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2

MIDDLE = 512
"""Long side of the copy that refinement and colours work with, about, in pixels; the network's is not far from it."""


def factor(size_hw: tuple[int, int], long_side: int) -> int:
    """The whole factor that brings the long side nearest to ``long_side``, at least 1."""
    return max(1, round(max(size_hw) / long_side))


def bands(height: int, rows: int = 256) -> Iterator[slice]:
    """Rows of a picture, so many at a time."""
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def squares(size_hw: tuple[int, int], side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of squares that cover a picture; those at the right and bottom may be smaller."""
    height, width = size_hw
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


@dataclass(frozen=True)
class Ribbon:
    """Pieces of a picture, side by side: one call works on all of them, and calls cost more than small pieces do.

    A picture may be ``k`` times larger than the mask that said where the pieces are, and may have ``border`` of the
    mask's pixels around it, up to ``margin``. The border decides the rows of a ribbon; its columns always have room
    for ``margin``.
    """

    pieces: list[tuple[int, int, int]]
    """Top row, first column and the one behind the last, of the mask's pixels with ``margin`` around them, in a picture
    with such a border."""
    columns: int
    """Of all pieces together, with their margins."""
    height: int
    """Of a piece without its margin."""
    margin: int

    def taken(self, picture: NDArray[Any], border: int, k: int = 1) -> NDArray[Any]:
        """The pieces, ((height + 2 border) k, columns k[, c]); 0 where ``picture`` has no pixels for them."""
        size = ((self.height + 2 * border) * k, self.columns * k)
        ribbon = np.zeros((*size, *picture.shape[2:]), picture.dtype)
        for part, place in self._places(picture, ribbon, border, k):
            place[:] = part
        return ribbon

    def put(self, ribbon: NDArray[Any], picture: NDArray[Any], border: int, k: int = 1) -> None:
        """The other way round: ``ribbon``, as ``taken`` makes it, into ``picture``."""
        for part, place in self._places(picture, ribbon, border, k):
            part[:] = place

    def enlarged(self, picture: NDArray[Any], border: int, k: int) -> NDArray[Any]:
        """The pieces of ``picture``, ``k`` times larger and with a border of one less, which interpolation uses up."""
        small = self.taken(picture, border)
        size = (small.shape[1] * k, small.shape[0] * k)
        large: NDArray[Any] = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
        return large[k:-k]

    def _places(
        self, picture: NDArray[Any], ribbon: NDArray[Any], border: int, k: int
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Every piece in ``picture``, and its place in ``ribbon``: views."""
        height, cut = (self.height + 2 * border) * k, 2 * (self.margin - border)
        begin = (self.margin - border) * k
        for top, left, right in self.pieces:
            part = picture[top * k : top * k + height, left * k : (right - cut) * k]
            yield part, ribbon[: part.shape[0], begin : begin + part.shape[1]]
            begin += (right - left) * k


def ribbons(
    mask: NDArray[np.uint8], height: int, margin: int, length: int = 512, *, k: int = 1
) -> Iterator[Ribbon]:
    """The surroundings of the marked parts of a picture.

    Args:
        mask: uint8 (h, w), not 0 where marked.
        height: of the strips that the picture is cut into.
        margin: pixels around marked ones.
        length: columns that are enough for one ribbon.
        k: what counts as a pixel in all of these is a block of so many pixels of ``mask``.
    """
    strips = np.stack([mask[rows].max(axis=0) for rows in bands(mask.shape[0], height * k)])
    reach = margin * k
    strips = cv2.copyMakeBorder(strips, 0, 0, reach + 1, reach + 1, cv2.BORDER_CONSTANT)
    marked = cv2.dilate(strips, np.ones((1, 2 * reach + 1), np.uint8)) > 0
    # flat: a tenth of the time that NumPy needs in two dimensions
    strip, column = np.divmod(np.flatnonzero(marked[:, 1:] != marked[:, :-1]), marked.shape[1] - 1)
    pieces, found = [], 0
    for number, left, right in zip(
        strip[::2].tolist(), (column[::2] // k).tolist(), (-(-column[1::2] // k)).tolist(), strict=True
    ):
        pieces.append((number * height, left, right))
        found += right - left
        if found >= length:
            yield Ribbon(pieces, found, height, margin)
            pieces, found = [], 0
    if pieces:
        yield Ribbon(pieces, found, height, margin)


def block_means(image: NDArray[Any], k: int) -> NDArray[Any]:
    """Means of k x k blocks, (ceil(H / k), ceil(W / k)); blocks at the right and bottom may be smaller.

    Whole factors take OpenCV's fast path (three times faster than the general area filter; halving is three times
    faster again), and every block knows exactly which pixels it stands for.
    """
    if k == 1:
        return image
    height, width = image.shape[:2]
    full_rows, full_columns = height // k, width // k
    means = np.empty((-(-height // k), -(-width // k), *image.shape[2:]), image.dtype)
    for rows, out_rows in (
        (slice(0, full_rows * k), slice(0, full_rows)),
        (slice(full_rows * k, height), slice(full_rows, None)),
    ):
        for columns, out_columns in (
            (slice(0, full_columns * k), slice(0, full_columns)),
            (slice(full_columns * k, width), slice(full_columns, None)),
        ):
            part, out = image[rows, columns], means[out_rows, out_columns]
            if part.size:
                out[...] = _shrunk(part, (out.shape[1], out.shape[0])).reshape(out.shape)
    return means


def _shrunk(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """``image`` at ``size`` (width, height), halved as often as both sides allow."""
    width, height = image.shape[1] / size[0], image.shape[0] / size[1]
    while width % 2 == 0 and height % 2 == 0 and max(width, height) > 2:
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image, width, height = cv2.resize(image, half, interpolation=cv2.INTER_AREA), width / 2, height / 2
    small: NDArray[Any] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small
