"""From the network's small alpha to a matte at the photo's own resolution.

Guided filter with colour (He, Sun and Tang 2010; fast form: He and Sun 2015, arXiv:1505.00996), twice: at the network's
size, then on the photo shrunk to about 512 pixels (``Photo.middle``), whose linear models (alpha = a . colour + b) are
applied to the pixels of the photo. Windows are small, because an alpha shrunk from a photo is wrong by a pixel and not
by ten; a grey guide makes mattes worse than no guide does (docs/pixels.md has the figures).

Only what lies along the outline is computed. Channels lie in planes, not side by side: products of planes need no
broadcasting, and squares of them stay near the processor.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.arrays import Floats, Matte, levels, planes
from bgimage.codec import Photo
from bgimage.tiles import MIDDLE, boxes, factor, grown

RADIUS = 2
"""Windows are 2 * RADIUS + 1 pixels wide in both stages."""
HALO = 2 * RADIUS + 1
"""Pixels around its own that a model depends on (a window of windows), and one to interpolate."""
FIRST_EDGE, SECOND_EDGE = 0.8, 0.25
"""Weights of a window's outermost rows and columns, against 1 inside, in the two stages."""
EPSILON = np.float32(6e-6)
"""Regularisation of the colours' covariance, colours in 0..1: about (0.6 / 255) squared, the noise of a clean photo."""
STRETCH = np.float32(1.25)
"""Contrast about 0.5 given back between the stages: shrinking and means over windows take it away."""
SURE = 0.03
"""Alpha closer than this to 0 or 1 all around is background or person without a look at the photo."""
SQUARE = 128
"""Side of the squares that are filtered, pixels of their stage."""
PIECE = 128
"""Side of the squares whose models are applied to the photo, pixels of the photo, about."""


def refined(photo: Photo, alpha: Floats, edges: str = "fast") -> Matte:
    """``alpha`` at the photo's resolution, following the photo's edges.

    Linear in pixels; temporary memory is some planes of a quarter of a megapixel.

    Args:
        photo: at its full resolution.
        alpha: float32 (h, w) in [0, 1], small, without letterbox.
        edges: "none" (bilinear) or "fast".

    Returns:
        uint8 (H, W).
    """
    size_hw = (photo.pixels.shape[0], photo.pixels.shape[1])
    if edges == "none" or min(alpha.shape) < 2:
        return bilinear(alpha, size_hw)
    guide = planes(photo.middle)
    return _enlarged(photo, guide, _at_middle(photo, guide, np.ascontiguousarray(alpha, np.float32)))


def bilinear(alpha: Floats, size_hw: tuple[int, int]) -> Matte:
    """``alpha`` enlarged without a look at the photo: uint8 (H, W)."""
    full: Matte = cv2.resize(levels(alpha), size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return full


def _at_middle(photo: Photo, guide: Floats, alpha: Floats) -> Floats:
    """The first stage: ``alpha`` filtered at its own size, its models applied to ``photo.middle``.

    Args:
        photo: at its full resolution.
        guide: ``photo.middle``, float32 (3, h, w) in 0..1.
        alpha: float32 in [0, 1], smaller.

    Returns:
        float32 (h, w) in [0, 1].
    """
    size = guide.shape[:0:-1]
    # What the network is sure of all around is left as it is: two windows, and two pixels for the enlargement.
    around = _square(2 * RADIUS + 2)
    unsure = ((cv2.dilate(alpha, around) >= SURE) & (cv2.erode(alpha, around) <= 1 - SURE)).astype(np.uint8)
    result: Floats = cv2.resize((alpha > 0.5).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    small_guide = planes(cv2.resize(photo.middle, alpha.shape[::-1], interpolation=cv2.INTER_AREA))
    models = linear_models(small_guide, alpha, unsure, FIRST_EDGE)[:, 1:-1, 1:-1]
    # Pixel j of the middle has its centre at (j + 1/2) k of the photo.
    k = factor(photo.pixels.shape[:2], MIDDLE)
    step_y, step_x = (
        k * small / large for small, large in zip(alpha.shape, photo.pixels.shape, strict=False)
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for rows, columns in boxes(cv2.resize(unsure, size, interpolation=cv2.INTER_NEAREST), SQUARE):
        place = np.array(
            [
                [step_x, 0, (columns.start + 0.5) * step_x - 0.5],
                [0, step_y, (rows.start + 0.5) * step_y - 0.5],
            ]
        )
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        here = [
            cv2.warpAffine(model, place, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for model in models
        ]
        found = applied(here, guide[:, rows, columns])
        found -= np.float32(0.5)
        found *= STRETCH
        found += np.float32(0.5)
        np.clip(found, 0, 1, out=result[rows, columns])
    return result


def _enlarged(photo: Photo, guide: Floats, alpha: Floats) -> Matte:
    """The second stage: ``alpha`` filtered on ``photo.middle``, its models applied to the photo where that is soft.

    Args:
        photo: at its full resolution.
        guide: ``photo.middle``, float32 (3, h, w) in 0..1.
        alpha: float32 (h, w) in [0, 1]; changed.

    Returns:
        uint8 (H, W).
    """
    height, width = photo.pixels.shape[:2]
    k = factor((height, width), MIDDLE)
    around = _square(HALO)
    edge = cv2.dilate((alpha > 0).astype(np.uint8), around) & cv2.dilate((alpha < 1).astype(np.uint8), around)
    models = linear_models(guide, alpha, edge, SECOND_EDGE)
    for area in boxes(edge, SQUARE):
        rows, columns = (slice(side.start + 1, side.stop + 1) for side in area)
        alpha[area] = applied(models[:, rows, columns], guide[:, *area])
    small = levels(alpha)
    if k == 1:
        return small
    sure = cv2.compare(small, 127, cv2.CMP_GT)
    left, top, across, down = cv2.boundingRect(
        sure
    )  # all else is 0, and memory that is not touched costs nothing
    sure = np.repeat(sure[top : top + down, left : left + across], k, axis=1)[:, : width - left * k]
    blocks = np.zeros((len(small), k, width), np.uint8)
    blocks[top : top + down, :, left * k : (left + across) * k] = sure[:, None]
    matte: Matte = blocks.reshape(-1, width)[:height]
    soft = cv2.dilate(cv2.inRange(small, 1, 254), _square(1))
    for y, x in boxes(soft, max(1, PIECE // k)):
        piece = np.s_[y.start * k : y.stop * k, x.start * k : x.stop * k]
        matte[piece] = _applied_large(models[:, *grown((y, x), 1)], photo.pixels[piece], k)
    return matte


def linear_models(guide: Floats, alpha: Floats, mask: NDArray[np.uint8], outermost: float) -> Floats:
    """How alpha follows colour around each pixel: the means of the fits of all windows that hold the pixel.

    Args:
        guide: float32 (3, h, w) in 0..1.
        alpha: float32 (h, w) in [0, 1].
        mask: uint8 (h, w), not 0 where models are wanted.
        outermost: weight of a window's outermost rows and columns, against 1 inside.

    Returns:
        float32 (4, h + 2, w + 2): slopes for red, green and blue, and the offset, with a border of one pixel. Farther
        than a pixel from ``mask`` the slopes are 0 and the offset is ``alpha``.
    """
    window = np.ones(2 * RADIUS + 1, np.float32)
    window[[0, -1]] = outermost
    window /= window.sum()
    border = cv2.BORDER_REFLECT_101 if min(alpha.shape) > HALO else cv2.BORDER_REPLICATE
    bordered = [cv2.copyMakeBorder(plane, HALO, HALO, HALO, HALO, border) for plane in (*guide, alpha)]
    inner = np.s_[HALO - 1 : 1 - HALO, HALO - 1 : 1 - HALO]
    models = np.zeros((4, alpha.shape[0] + 2, alpha.shape[1] + 2), np.float32)
    models[3] = bordered[3][inner]
    for area in boxes(mask, SQUARE):
        wide = grown(area, HALO)
        found = _fitted(np.stack([plane[wide] for plane in bordered]), window)
        models[:, *grown(area, 1)] = found[:, *inner]
    return models


def _fitted(channels: Floats, window: Floats) -> Floats:
    """``linear_models`` of one square; what lies less than ``2 * RADIUS`` from its border is not known.

    Args:
        channels: float32 (4, h, w), red, green, blue and alpha.
        window: weights of its rows, and of its columns.

    Returns:
        float32 (4, h, w).
    """
    # r g b a | rr rg rb ra | gg gb ga | bb ba: means, then covariances, which are the rows of a system of equations for
    # the slopes; it is symmetric, so what lies below its diagonal is left out.
    products = (channels * channels[0], channels[1:] * channels[1], channels[2:] * channels[2])
    means = _window_means(np.concatenate([channels, *products]), window)
    colours, red, green, blue = np.split(means, (4, 8, 11))
    for channel, row in enumerate((red, green, blue)):
        row -= colours[channel:] * colours[channel]
        row[0] += EPSILON
    # Elimination, not the inverse by cofactors: on a grey photo the determinant drowns in float32.
    green -= red[1] / red[0] * red[1:]
    blue -= red[2] / red[0] * red[2:]
    np.maximum(green[0], EPSILON, out=green[0])
    blue -= green[1] / green[0] * green[1:]
    np.maximum(blue[0], EPSILON, out=blue[0])
    models = np.empty_like(channels)
    np.divide(blue[1], blue[0], out=models[2])
    np.divide(green[2] - green[1] * models[2], green[0], out=models[1])
    np.divide(red[3] - red[1] * models[1] - red[2] * models[2], red[0], out=models[0])
    np.subtract(colours[3], (models[:3] * colours[:3]).sum(0), out=models[3])
    return _window_means(models, window)


def _window_means(channels: Floats, window: Floats) -> Floats:
    """Means over windows; each is summed by itself, so they do not depend on where a square begins."""
    means = np.empty_like(channels)
    for plane, mean in zip(channels, means, strict=True):
        cv2.sepFilter2D(plane, -1, window, window, mean, borderType=cv2.BORDER_REFLECT_101)
    return means


def applied(models: Iterable[Floats], colours: Floats) -> Floats:
    """alpha = slopes . colour + offset; ``models`` four (h, w), ``colours`` (3, h, w) in 0..1."""
    *slopes, offset = models
    alpha: Floats = slopes[0] * colours[0]
    alpha += offset
    for slope, plane in zip(slopes[1:], colours[1:], strict=True):
        alpha += slope * plane
    return alpha


def _applied_large(models: Floats, pixels: NDArray[Any], k: int) -> Matte:
    """alpha of ``pixels`` (h, w, 3) as uint8; ``models`` (4, ceil(h / k) + 2, ceil(w / k) + 2), bordered."""
    height, width = pixels.shape[:2]
    *slopes, offset = models
    depth = np.iinfo(pixels.dtype).max
    # RGB2GRAY is the fastest sum of three channels that OpenCV has; its weights are taken out beforehand.
    weighted = [slope * np.float32(255 / depth / weight) for slope, weight in zip(slopes, _GREY, strict=True)]
    size = (models.shape[2] * k, models.shape[1] * k)
    inner = np.s_[k : k + height, k : k + width]
    large, offset = (
        cv2.resize(one, size, interpolation=cv2.INTER_LINEAR)[inner]
        for one in (cv2.merge(weighted), 255 * offset)
    )
    explained = cv2.cvtColor(cv2.multiply(large, pixels, dtype=cv2.CV_32F), cv2.COLOR_RGB2GRAY)
    made: Matte = cv2.add(explained, offset, dtype=cv2.CV_8U)  # rounded, and cut to 0..255
    return made


_GREY = (0.299, 0.587, 0.114)
"""Weights of OpenCV's RGB2GRAY (ITU-R BT.601)."""


def _square(reach: int) -> NDArray[np.uint8]:
    """The structuring element of that many pixels to every side."""
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
