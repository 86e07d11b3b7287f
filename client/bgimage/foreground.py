"""The person's own colour where old background shines through.

Multi-scale blur fusion after Forte 2021 (arXiv:2006.14970): foreground and background are weighted means of their
surroundings, corrected by what they fail to explain. Three radii instead of two, both colours corrected, weights
squared (docs/pixels.md has the figures). The smooth means live at about 500 pixels; the correction uses every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bgimage._cv import cv2
from bgimage.codec import Photo, Pixels
from bgimage.matte import Floats, Matte, thrice, unit
from bgimage.tiles import MIDDLE, block_means, boxes, enlarged, factor, grown

RADII = (20, 7, 2)
"""Half widths of the windows, pixels of the means, which lie at half the size of ``photo.middle``."""
SQUARE = 512
"""Side of the squares that are copied, pixels of the photo; colours are estimated in quarters of them."""


@dataclass(frozen=True, eq=False)
class SmoothColours:
    """Local means of foreground and background colour, shrunk by ``k``, in the photo's own units."""

    foreground: Floats
    """float32 (h + 2, w + 2, 3), with a border of one pixel."""
    contrast: Floats
    """Foreground less background, likewise."""
    k: int

    @classmethod
    def of(cls, photo: Photo, matte: Matte) -> SmoothColours:
        """From a photo and its matte, uint8 (H, W)."""
        half = min(2, *photo.middle.shape[:2])
        k = half * factor((matte.shape[0], matte.shape[1]), MIDDLE)
        image, flat = unit(block_means(photo.middle, half)), unit(block_means(matte, k))
        alpha = thrice(flat)
        rest = 1 - alpha
        inside, outside = flat * flat, (1 - flat) * (1 - flat)

        def means(foreground: Floats, background: Floats, radius: int) -> tuple[Floats, Floats]:
            return _weighted_mean(foreground, inside, radius), _weighted_mean(background, outside, radius)

        foreground_mean, background_mean = means(image, image, RADII[0])
        for radius in RADII[1:]:
            unexplained = image - alpha * foreground_mean - rest * background_mean
            foreground = (foreground_mean + alpha * unexplained).clip(0, 1)
            background = (background_mean + rest * unexplained).clip(0, 1)
            foreground_mean, background_mean = means(foreground, background, radius)
        depth = np.float32(np.iinfo(photo.pixels.dtype).max)
        border = (1, 1, 1, 1, cv2.BORDER_REPLICATE)
        return cls(
            cv2.copyMakeBorder(depth * foreground_mean, *border),
            cv2.copyMakeBorder(depth * (foreground_mean - background_mean), *border),
            k,
        )

    def own(self, pixels: Pixels, alpha: Matte, top: int, left: int) -> Pixels:
        """F + alpha (I - alpha F - (1 - alpha) B) = alpha I + (1 - alpha) (F + alpha (F - B)): I where alpha is 1.

        Args:
            pixels: uint8 or uint16 (h, w, 3), a piece of the photo.
            alpha: uint8 (h, w), the same piece of the matte.
            top, left: where the piece lies in the photo.
        """
        k, (height, width) = self.k, alpha.shape
        blocks = slice(top // k, -(-(top + height) // k)), slice(left // k, -(-(left + width) // k))
        here = np.s_[top % k : top % k + height, left % k : left % k + width]
        smooth, contrast = (
            enlarged(field[grown(blocks, 1)], k)[here] for field in (self.foreground, self.contrast)
        )
        share = thrice(alpha)
        guess = cv2.multiply(contrast, share, scale=1 / 255, dtype=cv2.CV_32F)
        guess += smooth
        guess = cv2.multiply(guess, cv2.bitwise_not(share), scale=1 / 255, dtype=cv2.CV_32F)
        seen = cv2.multiply(pixels, share, scale=1 / 255, dtype=cv2.CV_32F)
        own: Pixels = cv2.add(seen, guess, dtype=cv2.CV_8U if pixels.dtype == np.uint8 else cv2.CV_16U)
        return own


def _weighted_mean(colours: Floats, weights: Floats, radius: int) -> Floats:
    """Mean of ``colours`` (h, w, 3) by ``weights`` (h, w) in the window around each pixel."""
    window = (2 * radius + 1, 2 * radius + 1)
    mean: Floats = cv2.blur(colours * thrice(weights), window)
    mean *= thrice(1 / (cv2.blur(weights, window) + np.float32(1e-5)))
    return mean


class Cut:
    """RGBA with straight alpha, made by rows (an ``encode.Picture``): as PNG it is never whole in memory.

    Fully transparent pixels are (0, 0, 0, 0), opaque ones keep their colour exactly.
    """

    def __init__(self, photo: Photo, matte: Matte, decontaminate: bool = True) -> None:
        """Args:
        photo: at its full resolution.
        matte: uint8 (H, W).
        decontaminate: replace the colour of half-transparent pixels by the foreground's share of it.
        """
        self._pixels, self._matte = photo.pixels, matte
        self._opaque = None if photo.alpha is None else photo.alpha == np.iinfo(photo.alpha.dtype).max
        self._smooth = SmoothColours.of(photo, matte) if decontaminate else None
        self.shape = (*matte.shape, 4)
        self.dtype = photo.pixels.dtype

    def __getitem__(self, rows: slice) -> Pixels:
        """(h, W, 4) of the photo's dtype, from top to bottom."""
        first, last, _ = rows.indices(self.shape[0])
        matte, pixels = self._matte[first:last], self._pixels[first:last]
        rgba = np.zeros((*matte.shape, 4), self.dtype)
        for area in boxes(matte, SQUARE):
            alpha, colours = matte[area], pixels[area]
            if alpha.min() == 255:
                rgba[area] = cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA)
                continue
            if self._smooth:
                colours = colours.copy()
                for y, x in boxes(cv2.inRange(alpha, 1, 254), SQUARE // 4):
                    top, left = first + area[0].start + y.start, area[1].start + x.start
                    own = self._smooth.own(colours[y, x], alpha[y, x], top, left)
                    if (
                        self._opaque is not None
                    ):  # a pixel that is half transparent already shows no old background
                        own = np.where(self._opaque[first:last][area][y, x][..., None], own, colours[y, x])
                    colours[y, x] = own
            layer = cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA)
            cv2.insertChannel(alpha if self.dtype == np.uint8 else alpha.astype(np.uint16) * 257, layer, 3)
            rgba[area] = cv2.copyTo(layer, alpha)
        return rgba


def cutout(photo: Photo, matte: Matte, decontaminate: bool = True) -> Pixels:
    """``Cut``, whole: (H, W, 4) of the dtype of ``photo.pixels``."""
    return Cut(photo, matte, decontaminate)[:]
