"""The person's own colour where old background shines through.

Multi-scale blur fusion after Forte 2021 (arXiv:2006.14970): foreground and background are weighted means of their
surroundings, corrected by what they fail to explain. Three radii instead of two, both colours corrected, weights
squared (docs/pixels.md has the figures). The smooth means live at 128, 256 and 512 pixels, the last ones along the
outline alone; the correction uses every pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.arrays import Floats, Matte, planes, three_channels, unit
from bgimage.codec import Photo, Pixels
from bgimage.tiles import MIDDLE, block_means, boxes, enlarged, factor, grown

COARSE = ((4, 5), (2, 4))
"""Of the first means: pixels of ``photo.middle`` in the width of one of theirs, and half the width of their windows."""
RADIUS = 2
"""Half the width of the last means' windows, pixels of ``photo.middle``."""
SQUARE = 512
"""Side of the squares that are copied, pixels of the photo; colours are estimated in quarters of them."""


@dataclass(frozen=True, eq=False)
class SmoothColours:
    """Local means of foreground and background colour along the outline, shrunk by ``k``, in the photo's own units."""

    foreground: Floats
    """float32 (h + 2, w + 2, 3), with a border of one pixel; away from the outline, the photo."""
    contrast: Floats
    """Foreground less background, likewise; away from the outline, 0."""
    k: int

    @classmethod
    def of(cls, photo: Photo, matte: Matte) -> SmoothColours:
        """From a photo and its matte, uint8 (H, W)."""
        k = factor((matte.shape[0], matte.shape[1]), MIDDLE)
        image, alpha = photo.middle, block_means(matte, k)
        depth = np.float32(np.iinfo(photo.pixels.dtype).max)
        foreground = np.multiply(image, depth / 255, dtype=np.float32)
        contrast = np.zeros_like(foreground)
        outline = cv2.dilate(cv2.inRange(alpha, 1, 254), np.ones((3, 3), np.uint8))
        coarse = _coarse_means(image, alpha) if outline.any() else []
        for area in boxes(outline, SQUARE // 4):
            wide = tuple(slice(max(0, side.start - RADIUS), side.stop + RADIUS) for side in area)
            inner = tuple(
                slice(side.start - outer.start, side.stop - outer.start)
                for side, outer in zip(area, wide, strict=True)
            )
            means = _means(planes(image[wide]), unit(alpha[wide]), RADIUS, [one[:, *wide] for one in coarse])
            inside, outside = (cv2.merge(list(depth * one[:, *inner])) for one in means)
            foreground[area], contrast[area] = inside, inside - outside
        border = (1, 1, 1, 1, cv2.BORDER_REPLICATE)
        return cls(cv2.copyMakeBorder(foreground, *border), cv2.copyMakeBorder(contrast, *border), k)

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
        share = three_channels(alpha)
        guess = cv2.multiply(contrast, share, scale=1 / 255, dtype=cv2.CV_32F)
        guess += smooth
        guess = cv2.multiply(guess, cv2.bitwise_not(share), scale=1 / 255, dtype=cv2.CV_32F)
        seen = cv2.multiply(pixels, share, scale=1 / 255, dtype=cv2.CV_32F)
        own: Pixels = cv2.add(seen, guess, dtype=cv2.CV_8U if pixels.dtype == np.uint8 else cv2.CV_16U)
        return own


def _coarse_means(image: NDArray[np.uint8], alpha: Matte) -> list[Floats]:
    """Means of foreground and background over wide windows, each float32 (3, h, w) in 0..1; ``image`` is (h, w, 3)."""
    means: list[Floats] | None = None
    for shrink, radius in COARSE:
        small, share = planes(block_means(image, shrink)), unit(block_means(alpha, shrink))
        means = [_doubled(one) for one in _means(small, share, radius, means)]
    return means or []


def _doubled(colours: Floats) -> Floats:
    """float32 (3, h, w) at twice the size."""
    return np.stack([cv2.resize(plane, None, fx=2, fy=2) for plane in colours])


def _means(image: Floats, alpha: Floats, radius: int, wider: Sequence[Floats] | None) -> Floats:
    """Means of foreground and background around each pixel, corrected by what wider ones do not explain.

    Args:
        image: float32 (3, h, w) in 0..1.
        alpha: float32 (h, w) in [0, 1].
        radius: half the width of the windows.
        wider: both means over wider windows, float32 (3, h, w), or a little larger; None: the image stands for both.

    Returns:
        float32 (2, 3, h, w) in 0..1.
    """
    shares = np.stack([alpha, 1 - alpha])
    weights: Floats = shares * shares
    if wider is None:
        sums: Floats = image * weights[:, None]
    else:
        sums = np.empty((2, *image.shape), np.float32)
        wider = [one[:, : alpha.shape[0], : alpha.shape[1]] for one in wider]
        unexplained = image - shares[0] * wider[0]
        unexplained -= shares[1] * wider[1]
        for found, share, weight, one in zip(sums, shares, weights, wider, strict=True):
            np.multiply(share, unexplained, out=found)
            found += one
            np.clip(found, 0, 1, out=found)
            found *= weight
    window = (2 * radius + 1, 2 * radius + 1)
    for colours, weight in zip(sums, weights, strict=True):
        whole = 1 / (cv2.blur(weight, window) + np.float32(1e-5))
        for plane in colours:
            np.multiply(cv2.blur(plane, window), whole, out=plane)
    return sums


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
            alpha, colours, out = matte[area], pixels[area], rgba[area]
            if alpha.min() == 255:
                cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA, out)
                continue
            cv2.copyTo(cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA), alpha, out)
            for y, x in boxes(cv2.inRange(alpha, 1, 254), SQUARE // 4):
                soft, own = alpha[y, x], colours[y, x]
                if self._smooth:
                    top, left = first + area[0].start + y.start, area[1].start + x.start
                    own = self._smooth.own(own, soft, top, left)
                    if (
                        self._opaque is not None
                    ):  # where the photo is half transparent no old background shows
                        opaque = self._opaque[first:last][area][y, x][..., None]
                        own = np.where(opaque, own, colours[y, x])
                layer = cv2.cvtColor(own, cv2.COLOR_RGB2RGBA)
                cv2.insertChannel(soft if self.dtype == np.uint8 else soft.astype(np.uint16) * 257, layer, 3)
                cv2.copyTo(layer, soft, out[y, x])
        return rgba


def cutout(photo: Photo, matte: Matte, decontaminate: bool = True) -> Pixels:
    """``Cut``, whole: (H, W, 4) of the dtype of ``photo.pixels``."""
    return Cut(photo, matte, decontaminate)[:]
