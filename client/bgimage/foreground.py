"""The person's own colour where old background shines through.

Multi-scale blur fusion after Forte 2021 (arXiv:2006.14970): foreground and background are weighted means of their
surroundings, corrected by what they fail to explain. Three radii instead of two, both colours corrected, weights
squared (docs/pixels.md has the figures). The smooth means live at about 500 pixels; the correction uses every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.matte import Floats, Matte, thrice, unit
from bgimage.tiles import block_means, enlarged, factor, squares

SIDE = 512
"""Long side at which the means are taken, about."""
RADII = (20, 7, 2)
"""Half widths of the windows, pixels at that size."""
SQUARE = 16
"""Side of the squares that are worked on, pixels at that size."""


@dataclass(frozen=True, eq=False)
class SmoothColours:
    """Local means of foreground and background colour, shrunk by ``k``: float32 (h + 2, w + 2, 3) in 0..1, bordered."""

    foreground: Floats
    background: Floats
    k: int

    @classmethod
    def of(cls, pixels: NDArray[Any], matte: Matte) -> SmoothColours:
        """From a photo, uint8 or uint16 (H, W, 3), and its matte, uint8 (H, W)."""
        k = factor(matte.shape, SIDE)
        image, flat = unit(block_means(pixels, k)), unit(block_means(matte, k))
        alpha = thrice(flat)
        rest = 1 - alpha
        inside, outside = flat * flat, (1 - flat) * (1 - flat)
        foreground = background = image
        for radius in RADII:
            foreground_mean = _weighted_mean(foreground, inside, radius)
            background_mean = _weighted_mean(background, outside, radius)
            unexplained = image - alpha * foreground_mean - rest * background_mean
            foreground = (foreground_mean + alpha * unexplained).clip(0, 1)
            background = (background_mean + rest * unexplained).clip(0, 1)
        border = (1, 1, 1, 1, cv2.BORDER_REPLICATE)
        return cls(
            cv2.copyMakeBorder(foreground_mean, *border), cv2.copyMakeBorder(background_mean, *border), k
        )

    def own_colours(self, pixels: NDArray[Any], alpha: Matte, rows: slice, columns: slice) -> NDArray[Any]:
        """F + alpha (I - alpha F - (1 - alpha) B) of one square: I where alpha is 1.

        Args:
            pixels: uint8 or uint16 (h, w, 3), a square of the photo.
            alpha: uint8 (h, w), the same square of the matte.
            rows, columns: the square in the shrunk picture.
        """
        wide = slice(rows.start, rows.stop + 2), slice(columns.start, columns.stop + 2)
        height, width = alpha.shape
        own, other = (
            enlarged(field[wide], self.k)[:height, :width] for field in (self.foreground, self.background)
        )
        share = unit(thrice(alpha))
        unexplained = unit(pixels) - other - share * (own - other)
        colour = (own + share * unexplained).clip(0, 1) * np.float32(np.iinfo(pixels.dtype).max)
        result: NDArray[Any] = np.rint(colour).astype(pixels.dtype)
        return result


def _weighted_mean(colours: Floats, weights: Floats, radius: int) -> Floats:
    """Mean of ``colours`` (h, w, 3) by ``weights`` (h, w) in the window around each pixel."""
    window = (2 * radius + 1, 2 * radius + 1)
    mean: Floats = cv2.blur(colours * thrice(weights), window)
    mean *= thrice(1 / (cv2.blur(weights, window) + np.float32(1e-5)))
    return mean


def cutout(pixels: NDArray[Any], matte: Matte, decontaminate: bool = True) -> NDArray[Any]:
    """RGBA with straight alpha; fully transparent pixels are (0, 0, 0, 0), opaque ones keep their colour exactly.

    Args:
        pixels: uint8 or uint16 (H, W, 3), RGB.
        matte: uint8 (H, W).
        decontaminate: replace the colour of half-transparent pixels by the foreground's share of it.

    Returns:
        (H, W, 4) of the dtype of ``pixels``.
    """
    rgba = np.zeros((*matte.shape, 4), pixels.dtype)
    words = rgba.view(np.uint32 if pixels.dtype == np.uint8 else np.uint64)[..., 0]  # a pixel each
    smooth = SmoothColours.of(pixels, matte) if decontaminate else None
    k = smooth.k if smooth else factor(matte.shape, SIDE)
    for rows, columns in squares((-(-matte.shape[0] // k), -(-matte.shape[1] // k)), SQUARE):
        area = np.s_[rows.start * k : rows.stop * k, columns.start * k : columns.stop * k]
        alpha = matte[area]
        lowest, highest = int(alpha.min()), int(alpha.max())
        if highest == 0:
            continue
        colours = pixels[area]
        if lowest < 255 and smooth:
            colours = smooth.own_colours(colours, alpha, rows, columns)
        shown = alpha if pixels.dtype == np.uint8 else alpha.astype(np.uint16) * 257
        cv2.mixChannels(
            [np.ascontiguousarray(colours), np.ascontiguousarray(shown)], [rgba[area]], _RGB_AND_ALPHA
        )
        if lowest == 0:
            np.multiply(words[area], alpha > 0, out=words[area])
    return rgba


_RGB_AND_ALPHA = [0, 0, 1, 1, 2, 2, 3, 3]
