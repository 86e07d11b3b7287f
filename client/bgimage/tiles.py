"""Work on a large picture in small pieces, beside a copy shrunk by a whole factor.

Only pieces on the edge of a matte need work: the rest is all person or all background. What a piece costs does not
depend on the photo, so time is linear in pixels and temporary memory is constant.
"""

from __future__ import annotations

from collections.abc import Iterator
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


def boxes(mask: NDArray[np.uint8], side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the marked parts of a picture: its squares, each cut down to its pixels that are not 0."""
    for rows, columns in squares((mask.shape[0], mask.shape[1]), side):
        left, top, width, height = cv2.boundingRect(mask[rows, columns])
        if width:
            top, left = top + rows.start, left + columns.start
            yield slice(top, top + height), slice(left, left + width)


def ribbons(
    mask: NDArray[np.uint8], height: int, margin: int, length: int = 512
) -> Iterator[list[tuple[slice, slice]]]:
    """The surroundings of the marked parts of a picture, in pieces that one call can work on side by side.

    Every piece is ``height + 2 * margin`` rows high; its own marked pixels are ``margin`` or more from its borders.

    Args:
        mask: uint8 (h, w), not 0 where marked.
        height: of the strips that the picture is cut into.
        margin: pixels around marked ones.
        length: columns that are enough for one ribbon.

    Yields:
        Rows and columns of the pieces of a ribbon, in a picture that was bordered by ``margin``.
    """
    tops = range(0, mask.shape[0], height)
    strips = np.stack([mask[top : top + height].max(axis=0) for top in tops])
    strips = cv2.copyMakeBorder(strips, 0, 0, margin + 1, margin + 1, cv2.BORDER_CONSTANT)
    marked = cv2.dilate(strips, np.ones((1, 2 * margin + 1), np.uint8)) > 0
    strip, column = np.nonzero(marked[:, 1:] != marked[:, :-1])
    ribbon, found = [], 0
    for number, left, right in zip(
        strip[::2].tolist(), column[::2].tolist(), column[1::2].tolist(), strict=True
    ):
        top = tops[number]
        ribbon.append((slice(top, top + height + 2 * margin), slice(left, right)))
        found += right - left
        if found >= length:
            yield ribbon
            ribbon, found = [], 0
    if ribbon:
        yield ribbon


def grown(area: tuple[slice, slice], margin: int) -> tuple[slice, slice]:
    """``area`` with ``margin`` more pixels on every side, in a picture that was bordered by as many."""
    rows, columns = area
    return slice(rows.start, rows.stop + 2 * margin), slice(columns.start, columns.stop + 2 * margin)


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


def enlarged(patch: NDArray[Any], k: int) -> NDArray[Any]:
    """``patch`` (h, w[, c]) with a border of one pixel, k times larger and without it: blocks back to their pixels."""
    if k == 1:
        return patch[1:-1, 1:-1]
    height, width = patch.shape[:2]
    large = cv2.resize(patch, (width * k, height * k), interpolation=cv2.INTER_LINEAR)
    inner: NDArray[Any] = large[k:-k, k:-k]
    return inner
