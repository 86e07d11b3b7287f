"""From the network's small alpha to a matte at the photo's own resolution.

Guided filter with colour (He, Sun and Tang 2010; fast form: He and Sun 2015, arXiv:1505.00996), twice: at the network's
size, then at about 1,000 pixels, whose linear models (alpha = a . colour + b) are applied to every pixel of the photo.
Windows are small (5 x 5), because an alpha shrunk from a photo is wrong by a pixel and not by ten; a grey guide makes
mattes worse than no guide does (docs/pixels.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.codec import Photo
from bgimage.tiles import TILE, block_means, enlarged, factor, squares

Matte = NDArray[np.uint8]
Floats = NDArray[np.float32]

MID = 1024
"""Long side of the second stage, about, in pixels."""
RADIUS = 2
"""Windows are 2 * RADIUS + 1 pixels wide in both stages."""
EPSILON = 1e-5
"""Regularisation of the colours' covariance, colours in 0..1: about (0.8 / 255) squared, the noise of a clean photo."""
STRETCH = 1.2
"""Contrast about 0.5 given back between the stages: shrinking and means over windows take it away."""
SURE = 0.03
"""Alpha closer than this to 0 or 1 all around is background or person without a look at the photo."""


def unit(pixels: NDArray[Any]) -> Floats:
    """uint8 or uint16 as float32 in 0..1."""
    scaled: Floats = np.multiply(pixels, np.float32(1 / np.iinfo(pixels.dtype).max), dtype=np.float32)
    return scaled


def thrice(values: NDArray[Any]) -> NDArray[Any]:
    """(h, w) as (h, w, 3): numpy's broadcasting along three channels is ten times slower than three real ones."""
    three: NDArray[Any] = cv2.cvtColor(values, cv2.COLOR_GRAY2RGB)
    return three


def bilinear(alpha: Floats, size_hw: tuple[int, int]) -> Matte:
    """``alpha`` enlarged without a look at the photo: uint8 (H, W)."""
    levels = np.rint(alpha.clip(0, 1) * 255).astype(np.uint8)
    full: Matte = cv2.resize(levels, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return full


@dataclass(frozen=True, eq=False)
class LinearModels:
    """Guided filter of one guide: how alpha follows colour in the window around each pixel.

    guide: float32 (h, w, 3) in 0..1; windows are 2 * radius + 1 pixels wide.
    """

    guide: Floats
    radius: int
    mean: Floats
    factors: tuple[Floats, ...]
    """The covariance as L D L^T: L's three entries below the diagonal, then D's inverse, each (h, w)."""

    @classmethod
    def of(cls, guide: Floats, radius: int = RADIUS) -> LinearModels:
        """Statistics of the guide; one alpha after the other may then be fitted to it."""

        def window_mean(values: Floats) -> Floats:
            return _window_mean(values, radius)

        red, green, blue = cv2.split(guide)
        mean = window_mean(guide)
        r, g, b = cv2.split(mean)
        rr = window_mean(red * red) - r * r + EPSILON
        gg = window_mean(green * green) - g * g + EPSILON
        bb = window_mean(blue * blue) - b * b + EPSILON
        rg = window_mean(red * green) - r * g
        rb = window_mean(red * blue) - r * b
        gb = window_mean(green * blue) - g * b
        # Not the inverse by cofactors: on a grey photo its determinant drowns in float32.
        low_gr, low_br = rg / rr, rb / rr
        pivot_g = np.maximum(gg - low_gr * rg, EPSILON)
        low_bg = (gb - low_br * rg) / pivot_g
        pivot_b = np.maximum(bb - low_br * rb - low_bg * low_bg * pivot_g, EPSILON)
        return cls(guide, radius, mean, (low_gr, low_br, low_bg, 1 / rr, 1 / pivot_g, 1 / pivot_b))

    def fitted(self, alpha: Floats) -> Floats:
        """float32 (h, w, 4): slopes for red, green, blue and the offset, means of all windows that hold the pixel."""
        mean_alpha = _window_mean(alpha, self.radius)
        covariance = _window_mean(self.guide * thrice(alpha), self.radius) - self.mean * thrice(mean_alpha)
        r, g, b = cv2.split(covariance)
        low_gr, low_br, low_bg, share_r, share_g, share_b = self.factors
        g = g - low_gr * r
        slope_b = (b - low_br * r - low_bg * g) * share_b
        slope_g = g * share_g - low_bg * slope_b
        slopes = (r * share_r - low_gr * slope_g - low_br * slope_b, slope_g, slope_b)
        offset = mean_alpha - sum(
            slope * mean for slope, mean in zip(slopes, cv2.split(self.mean), strict=True)
        )
        return _window_mean(cv2.merge([*slopes, offset]), self.radius)


def _window_mean(values: Floats, radius: int) -> Floats:
    side = 2 * radius + 1
    mean: Floats = cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101)
    return mean


def applied(models: Floats, pixels: Floats) -> Floats:
    """alpha = slopes . colour + offset; ``models`` (h, w, 4), ``pixels`` (h, w, 3) in 0..1."""
    product = cv2.multiply(models, cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA))  # the new fourth channel is 1
    total: Floats = cv2.transform(product, np.ones((1, 4), np.float32))
    return total.reshape(pixels.shape[:2])


def stretched(alpha: Floats) -> Floats:
    """``alpha`` with more contrast about 0.5."""
    return ((alpha - np.float32(0.5)) * np.float32(STRETCH) + np.float32(0.5)).clip(0, 1)


def refined(photo: Photo, alpha: Floats, edges: str = "fast") -> Matte:
    """``alpha`` at the photo's resolution, following the photo's edges.

    Linear in pixels; temporary memory is the photo shrunk to about one megapixel and a few squares.

    Args:
        photo: at its full resolution.
        alpha: float32 (h, w) in [0, 1], small, without letterbox.
        edges: "none" (bilinear), "fast", or "fine" (closed-form matting at the second stage, see ``bgimage.fine``).

    Returns:
        uint8 (H, W).
    """
    size_hw = (photo.pixels.shape[0], photo.pixels.shape[1])
    if edges == "none" or min(alpha.shape) < 2:
        return bilinear(alpha, size_hw)
    alpha = np.ascontiguousarray(alpha, np.float32)
    k = factor(size_hw, MID)
    mid = block_means(photo.pixels, k)
    height, width = alpha.shape
    guide = unit(cv2.resize(mid, (width, height), interpolation=cv2.INTER_AREA))
    small = _Small(LinearModels.of(guide).fitted(alpha), alpha, size_hw, k)
    fine = None
    if edges == "fine":
        from bgimage.fine import closed_form

        fine = closed_form(unit(mid), small.alpha_of(mid))
    return _enlarge(photo.pixels, mid, small, k, fine)


@dataclass(frozen=True, eq=False)
class _Small:
    """The first stage: its models and its alpha at the network's size, and where they lie in the second stage."""

    models: Floats
    alpha: Floats
    size_hw: tuple[int, int]
    k: int

    def at(self, field: Floats, rows: slice, columns: slice) -> Floats:
        """``field`` bilinearly at pixels of the second stage."""
        step_y = self.alpha.shape[0] / self.size_hw[0] * self.k
        step_x = self.alpha.shape[1] / self.size_hw[1] * self.k
        # Pixel j of the second stage has its centre at (j + 1/2) k of the photo.
        place = np.array(
            [
                [step_x, 0, (columns.start + 0.5) * step_x - 0.5],
                [0, step_y, (rows.start + 0.5) * step_y - 0.5],
            ]
        )
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped: Floats = cv2.warpAffine(field, place, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return warped

    def alpha_of(self, mid: NDArray[Any]) -> Floats:
        """The first stage's answer for the whole second stage."""
        whole = slice(0, mid.shape[0]), slice(0, mid.shape[1])
        return stretched(applied(self.at(self.models, *whole), unit(mid)))

    def range_in(self, rows: slice, columns: slice) -> tuple[float, float]:
        """Smallest and largest alpha that can influence these pixels of the second stage."""
        reach = 2 * RADIUS + 2
        bounds = []
        for part, extent, side in ((rows, self.size_hw[0], 0), (columns, self.size_hw[1], 1)):
            step = self.alpha.shape[side] / extent * self.k
            bounds.append(slice(max(0, int(part.start * step) - reach), int(part.stop * step) + reach + 1))
        around = self.alpha[bounds[0], bounds[1]]
        return float(around.min()), float(around.max())


def _enlarge(pixels: NDArray[Any], mid: NDArray[Any], small: _Small, k: int, fine: Floats | None) -> Matte:
    halo = 2 * RADIUS + 1  # a window of windows, and one pixel to interpolate
    edge = (halo, halo, halo, halo)
    padded = cv2.copyMakeBorder(
        mid, *edge, cv2.BORDER_REFLECT_101 if min(mid.shape[:2]) > halo else cv2.BORDER_REPLICATE
    )
    padded_fine = None if fine is None else cv2.copyMakeBorder(fine, *edge, cv2.BORDER_REPLICATE)
    matte = np.zeros(pixels.shape[:2], np.uint8)
    for rows, columns in squares(mid.shape[:2], TILE):
        out = matte[rows.start * k : rows.stop * k, columns.start * k : columns.stop * k]
        lowest, highest = small.range_in(rows, columns)
        if highest < SURE:
            continue
        if lowest > 1 - SURE:
            out[...] = 255
            continue
        wide = slice(rows.start, rows.stop + 2 * halo), slice(columns.start, columns.stop + 2 * halo)
        guide = unit(padded[wide])
        if padded_fine is None:
            reach = (slice(s.start - halo, s.stop - halo) for s in wide)
            alpha = stretched(applied(small.at(small.models, *reach), guide))
        else:
            alpha = np.ascontiguousarray(padded_fine[wide])
        models = LinearModels.of(guide).fitted(alpha)[halo - 1 : 1 - halo, halo - 1 : 1 - halo]
        models = np.ascontiguousarray(enlarged(models, k)[: out.shape[0], : out.shape[1]])
        square = pixels[rows.start * k : rows.stop * k, columns.start * k : columns.stop * k]
        out[...] = np.rint(applied(models, unit(square)).clip(0, 1) * 255)
    return matte
