"""From the network's small alpha to a matte at the photo's own resolution.

Guided filter with colour (He, Sun and Tang 2010; fast form: He and Sun 2015, arXiv:1505.00996), twice: at the network's
size, then at about 1,000 pixels, whose linear models (alpha = a . colour + b) are applied to every pixel of the photo.
Windows are small (5 x 5), because an alpha shrunk from a photo is wrong by a pixel and not by ten; a grey guide makes
mattes worse than no guide does (docs/pixels.md has the figures).

Channels lie in planes, not side by side: OpenCV filters and enlarges one plane two to five times faster than a third of
three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.codec import Photo
from bgimage.tiles import MIDDLE, boxes, factor, grown

Matte = NDArray[np.uint8]
Floats = NDArray[np.float32]

RADIUS = 2
"""Windows are 2 * RADIUS + 1 pixels wide in both stages."""
EPSILON = np.float32(1e-5)
"""Regularisation of the colours' covariance, colours in 0..1: about (0.8 / 255) squared, the noise of a clean photo."""
STRETCH = 1.2
"""Contrast about 0.5 given back between the stages: shrinking and means over windows take it away."""
SURE = 0.03
"""Alpha closer than this to 0 or 1 all around is background or person without a look at the photo."""
SQUARE = 128
"""Side of the squares that are filtered, pixels of the second stage."""
PIECE = 256
"""Side of the squares whose models are applied to the photo, pixels of the photo, about."""


def unit(pixels: NDArray[Any]) -> Floats:
    """uint8 or uint16 as float32 in 0..1."""
    scaled: Floats = np.multiply(pixels, np.float32(1 / np.iinfo(pixels.dtype).max), dtype=np.float32)
    return scaled


def thrice(values: NDArray[Any]) -> NDArray[Any]:
    """(h, w) as (h, w, 3): numpy's broadcasting along three channels is ten times slower than three real ones."""
    three: NDArray[Any] = cv2.cvtColor(values, cv2.COLOR_GRAY2RGB)
    return three


def planes(pixels: NDArray[Any]) -> Floats:
    """uint8 or uint16 (h, w, 3) as float32 (3, h, w) in 0..1."""
    return unit(np.stack(cv2.split(pixels)))


def bilinear(alpha: Floats, size_hw: tuple[int, int]) -> Matte:
    """``alpha`` enlarged without a look at the photo: uint8 (H, W)."""
    levels = np.rint(alpha.clip(0, 1) * 255).astype(np.uint8)
    full: Matte = cv2.resize(levels, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return full


@dataclass(frozen=True, eq=False)
class LinearModels:
    """Guided filter of one guide: how alpha follows colour in the window around each pixel.

    guide: float32 (3, h, w) in 0..1; windows are 2 * RADIUS + 1 pixels wide.
    """

    guide: Floats
    mean: tuple[Floats, ...]
    factors: tuple[Floats, ...]
    """The covariance as L D L^T: L's three entries below the diagonal, then D's inverse, each (h, w)."""

    @classmethod
    def of(cls, guide: Floats) -> LinearModels:
        """Statistics of the guide; one alpha after the other may then be fitted to it."""
        red, green, blue = guide
        r, g, b = means = tuple(_window_mean(plane) for plane in guide)

        def covariance(one: Floats, other: Floats, mean_one: Floats, mean_other: Floats) -> Floats:
            values = _window_mean(one * other)
            values -= mean_one * mean_other
            return values

        rg, rb, gb = (
            covariance(red, green, r, g),
            covariance(red, blue, r, b),
            covariance(green, blue, g, b),
        )
        rr, gg, bb = (
            covariance(plane, plane, mean, mean) + EPSILON for plane, mean in zip(guide, means, strict=True)
        )
        # Not the inverse by cofactors: on a grey photo its determinant drowns in float32.
        low_gr, low_br = np.divide(rg, rr), np.divide(rb, rr)
        pivot_g: Floats = np.maximum(gg - low_gr * rg, EPSILON)
        low_bg: Floats = np.divide(gb - low_br * rg, pivot_g)
        pivot_b: Floats = np.maximum(bb - low_br * rb - low_bg * low_bg * pivot_g, EPSILON)
        shares = (np.reciprocal(rr), np.reciprocal(pivot_g), np.reciprocal(pivot_b))
        return cls(guide, means, (low_gr, low_br, low_bg, *shares))

    def fitted(self, alpha: Floats) -> Floats:
        """float32 (4, h, w): slopes for red, green, blue and the offset, means of all windows that hold the pixel."""
        mean_alpha = _window_mean(alpha)
        r, g, b = (
            _window_mean(plane * alpha) - mean * mean_alpha
            for plane, mean in zip(self.guide, self.mean, strict=True)
        )
        low_gr, low_br, low_bg, share_r, share_g, share_b = self.factors
        g -= low_gr * r
        slope_b = (b - low_br * r - low_bg * g) * share_b
        slope_g = g * share_g - low_bg * slope_b
        slope_r = r * share_r - low_gr * slope_g - low_br * slope_b
        slopes = (slope_r, slope_g, slope_b)
        offset = mean_alpha
        for slope, mean in zip(slopes, self.mean, strict=True):
            offset -= slope * mean
        return np.stack([_window_mean(plane) for plane in (*slopes, offset)])


def _window_mean(values: Floats) -> Floats:
    """Means over windows; each is summed by itself, so they do not depend on where a piece begins."""
    mean: Floats = cv2.sepFilter2D(values, -1, _ROW, _ROW, borderType=cv2.BORDER_REFLECT_101)
    return mean


_ROW = np.full(2 * RADIUS + 1, 1 / (2 * RADIUS + 1), np.float32)


def applied(models: Floats, pixels: Floats) -> Floats:
    """alpha = slopes . colour + offset; ``models`` (4, h, w), ``pixels`` (3, h, w) in 0..1."""
    alpha: Floats = models[3].copy()
    for slope, plane in zip(models[:3], pixels, strict=True):
        alpha += slope * plane
    return alpha


def stretched(alpha: Floats) -> Floats:
    """``alpha`` with more contrast about 0.5."""
    return ((alpha - np.float32(0.5)) * np.float32(STRETCH) + np.float32(0.5)).clip(0, 1)


def refined(photo: Photo, alpha: Floats, edges: str = "fast") -> Matte:
    """``alpha`` at the photo's resolution, following the photo's edges.

    Linear in pixels; temporary memory is the photo shrunk to about one megapixel and a few squares.

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
    alpha = np.ascontiguousarray(alpha, np.float32)
    return _enlarged(photo, _at_middle(photo, alpha))


def _at_middle(photo: Photo, alpha: Floats) -> Floats:
    """The first stage: ``alpha`` filtered at its own size, its models applied to ``photo.middle``; float32 (h, w)."""
    middle = photo.middle
    size = middle.shape[1::-1]
    guide = cv2.resize(middle, alpha.shape[::-1], interpolation=cv2.INTER_AREA)
    models = np.dstack(list(LinearModels.of(planes(guide)).fitted(alpha)))
    # What the network is sure of all around is left as it is: two windows, and two pixels for the enlargement.
    around = np.ones((4 * RADIUS + 5, 4 * RADIUS + 5), np.uint8)
    unsure = (cv2.dilate(alpha, around) >= SURE) & (cv2.erode(alpha, around) <= 1 - SURE)
    result: Floats = cv2.resize((alpha > 0.5).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    # Pixel j of the middle has its centre at (j + 1/2) k of the photo.
    k = factor(photo.pixels.shape[:2], MIDDLE)
    step_y, step_x = (
        k * small / large for small, large in zip(alpha.shape, photo.pixels.shape, strict=False)
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    marked = cv2.resize(unsure.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    for rows, columns in boxes(marked, SQUARE):
        place = np.array(
            [
                [step_x, 0, (columns.start + 0.5) * step_x - 0.5],
                [0, step_y, (rows.start + 0.5) * step_y - 0.5],
            ]
        )
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        here = cv2.warpAffine(models, place, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        result[rows, columns] = stretched(applied(np.stack(cv2.split(here)), planes(middle[rows, columns])))
    return result


def _enlarged(photo: Photo, alpha: Floats) -> Matte:
    """The second stage: models of ``alpha`` on ``photo.middle``, applied to the photo; uint8 (H, W)."""
    height, width = photo.pixels.shape[:2]
    k = factor((height, width), MIDDLE)
    levels = np.where(alpha > 0.5, np.uint8(255), np.uint8(0))
    wide = cv2.resize(levels, (levels.shape[1] * k, levels.shape[0]), interpolation=cv2.INTER_NEAREST)
    matte: Matte = np.repeat(wide[:, :width], k, axis=0)[:height]
    halo = 2 * RADIUS + 1  # a window of windows, and one pixel to interpolate
    around = np.ones((2 * halo + 1, 2 * halo + 1), np.uint8)
    edge = cv2.dilate((alpha > 0).astype(np.uint8), around) & cv2.dilate((alpha < 1).astype(np.uint8), around)
    border = (
        halo,
        halo,
        halo,
        halo,
        cv2.BORDER_REFLECT_101 if min(alpha.shape) > halo else cv2.BORDER_REPLICATE,
    )
    padded_middle, padded_alpha = (cv2.copyMakeBorder(one, *border) for one in (photo.middle, alpha))
    for rows, columns in boxes(edge, SQUARE):
        wide_area = grown((rows, columns), halo)
        guide = LinearModels.of(planes(padded_middle[wide_area]))
        models = guide.fitted(np.ascontiguousarray(padded_alpha[wide_area]))
        models = models[:, halo - 1 : 1 - halo, halo - 1 : 1 - halo]
        for y, x in boxes(edge[rows, columns], max(1, PIECE // k)):
            top, left = (rows.start + y.start) * k, (columns.start + x.start) * k
            piece = np.s_[top : top + (y.stop - y.start) * k, left : left + (x.stop - x.start) * k]
            matte[piece] = _levels(models[:, *grown((y, x), 1)], photo.pixels[piece], k)
    return matte


def _levels(models: Floats, pixels: NDArray[Any], k: int) -> Matte:
    """alpha of ``pixels`` (h, w, 3) as uint8; ``models`` (4, ceil(h / k) + 2, ceil(w / k) + 2), bordered."""
    scale = np.full((4, 1, 1), 255 / np.iinfo(pixels.dtype).max, np.float32)
    scale[3] = 255
    tall = (models * scale).reshape(-1, models.shape[2])  # one under the other: their borders keep them apart
    if k > 1:
        tall = cv2.resize(tall, (tall.shape[1] * k, tall.shape[0] * k), interpolation=cv2.INTER_LINEAR)
    height, width = pixels.shape[:2]
    *slopes, alpha = tall.reshape(4, -1, tall.shape[1])[:, k : k + height, k : k + width]
    red, green, blue = (
        cv2.multiply(slope, plane, dtype=cv2.CV_32F)
        for slope, plane in zip(slopes, cv2.split(pixels), strict=True)
    )
    alpha += red
    alpha += green
    levels: Matte = cv2.add(alpha, blue, dtype=cv2.CV_8U)  # rounded, and cut to 0..255
    return levels
