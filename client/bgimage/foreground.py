"""The person's own colour where old background shines through.

Multi-scale blur fusion after Forte 2021 (arXiv:2006.14970): foreground and background are weighted means of their
surroundings, corrected by what they fail to explain. Three radii instead of two, both colours corrected, weights
squared (docs/pixels.md has the figures). The smooth means live at 128, 256 and 512 pixels, the last two along the
outline alone, in ribbons (``tiles.Ribbon``); the correction uses every pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.arrays import Floats, Matte, planes, three_channels, unit
from bgimage.codec import Photo, Pixels
from bgimage.tiles import MIDDLE, Ribbon, bands, block_means, factor, ribbons

RADII = (5, 4, 2)
"""Half the width of the windows at a quarter and half of the size of ``photo.middle``, and at its own."""
STRIP, LENGTH = 32, 512
"""Height and length of the ribbons in which colours are estimated and applied, pixels, about."""
BAND = 128
"""Rows that are made at a time."""


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
        around = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        foreground = np.multiply(around, depth / 255, dtype=np.float32)
        contrast = np.zeros_like(foreground)
        outline = cv2.dilate(cv2.inRange(alpha, 1, 254), np.ones((3, 3), np.uint8))
        if outline.any():
            for ribbon, (inside, outside) in _means_along(outline, image, alpha):
                ribbon.put(cv2.merge(list(depth * inside)), foreground[1:-1, 1:-1], 0, 2)
                ribbon.put(cv2.merge(list(depth * (inside - outside))), contrast[1:-1, 1:-1], 0, 2)
        return cls(foreground, contrast, k)

    def own(self, ribbon: Ribbon, top: int, pixels: Pixels, alpha: Matte) -> Pixels:
        """F + alpha (I - alpha F - (1 - alpha) B) = alpha I + (1 - alpha) (F + alpha (F - B)): I where alpha is 1.

        Args:
            ribbon: pieces of the photo below the row of blocks ``top``.
            pixels: uint8 or uint16 (h, w, 3), the ribbon of the photo.
            alpha: uint8 (h, w), that of the matte.
        """
        smooth, contrast = (ribbon.enlarged(one[top:], 1, self.k) for one in (self.foreground, self.contrast))
        share = three_channels(alpha)
        guess = cv2.multiply(contrast, share, scale=1 / 255, dtype=cv2.CV_32F)
        guess += smooth
        guess = cv2.multiply(guess, cv2.bitwise_not(share), scale=1 / 255, dtype=cv2.CV_32F)
        seen = cv2.multiply(pixels, share, scale=1 / 255, dtype=cv2.CV_32F)
        own: Pixels = cv2.add(seen, guess, dtype=cv2.CV_8U if pixels.dtype == np.uint8 else cv2.CV_16U)
        return own


def _means_along(
    outline: NDArray[np.uint8], image: NDArray[np.uint8], alpha: Matte
) -> Iterator[tuple[Ribbon, Floats]]:
    """Means of foreground and background colour, each corrected by what wider ones do not explain.

    Args:
        outline: uint8 (h, w), not 0 where they are wanted.
        image: uint8 (h, w, 3).
        alpha: uint8 (h, w).

    Yields:
        Ribbons of blocks of two pixels, and float32 (2, 3, h, w) in 0..1 for each.
    """
    wide, medium, near = RADII
    quarter, half = ([block_means(one, shrink) for one in (image, alpha)] for shrink in (4, 2))
    # Windows and interpolation use borders up; what is left of each is what the next means need.
    widest = _joined(_means([_bordered(one, wide + 4) for one in quarter], wide, None))[:, wide:-wide]
    wider = np.zeros((half[1].shape[0] + 4, half[1].shape[1] + 4, 6), np.float32)
    half = [_bordered(one, 6) for one in half]
    for ribbon in ribbons(outline, STRIP // 4, 4, LENGTH // 4, k=4):
        pieces = [ribbon.taken(one, 3, 2) for one in half]
        ribbon.put(_joined(_means(pieces, medium, ribbon.enlarged(widest, 4, 2))), wider, 1, 2)
    whole = [_bordered(one, 2) for one in (image, alpha)]
    for ribbon in ribbons(outline, STRIP // 2, 2, LENGTH // 2, k=2):
        pieces = [ribbon.taken(one, 1, 2) for one in whole]
        yield ribbon, _means(pieces, near, ribbon.enlarged(wider, 2, 2))


def _bordered(picture: NDArray[Any], border: int) -> NDArray[Any]:
    sides = (border, border, border, border)
    bordered: NDArray[Any] = cv2.copyMakeBorder(picture, *sides, cv2.BORDER_REFLECT_101)
    return bordered


def _joined(means: Floats) -> Floats:
    """(2, 3, h, w) as (h, w, 6)."""
    joined: Floats = cv2.merge([*means[0], *means[1]])
    return joined


def _means(pieces: Sequence[NDArray[np.uint8]], radius: int, wider: Floats | None) -> Floats:
    """Means of foreground and background around each pixel, corrected by what wider ones do not explain.

    Args:
        pieces: the image, uint8 (h, w, 3), and the matte, uint8 (h, w).
        radius: half the width of the windows.
        wider: both means over wider windows, float32 (h, w, 6) in 0..1; None: the image stands for both.

    Returns:
        float32 (2, 3, h - 2 * radius, w) in 0..1; the outermost ``radius`` columns are of no use.
    """
    colours, share = planes(pieces[0]), unit(pieces[1])
    shares = np.stack([share, 1 - share])[:, None]
    weighted = np.empty((2, 4, *share.shape), np.float32)
    weights, sums = weighted[:, :1], weighted[:, 1:]
    np.multiply(shares, shares, out=weights)
    if wider is None:
        np.multiply(colours, weights, out=sums)
    else:
        both = np.stack(cv2.split(wider)).reshape(2, 3, *share.shape)
        unexplained = colours - shares[0] * both[0]
        unexplained -= shares[1] * both[1]
        np.multiply(shares, unexplained, out=sums)
        sums += both
        np.clip(sums, 0, 1, out=sums)
        sums *= weights
    # As one tall picture: at its border, a plane mixes with the next one.
    tall = cv2.blur(weighted.reshape(-1, share.shape[1]), (2 * radius + 1, 2 * radius + 1))
    means = tall.reshape(weighted.shape)[:, :, radius:-radius]
    result: Floats = means[:, 1:] * (1 / (means[:, :1] + np.float32(1e-5)))
    return result


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
        if last - first <= BAND:
            return self._band(first, last)
        rgba = np.empty((last - first, *self.shape[1:]), self.dtype)
        for part in bands(last - first, BAND):
            rgba[part] = self._band(first + part.start, first + part.stop)
        return rgba

    def _band(self, first: int, last: int) -> Pixels:
        k = self._smooth.k if self._smooth else 1
        top = first // k  # of the blocks of ``SmoothColours``
        rows = slice(top * k, last)
        matte, pixels = self._matte[rows], self._pixels[rows]
        rgba: Pixels = cv2.copyTo(cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA), matte)
        strips = max(1, round(len(matte) / STRIP))
        for ribbon in ribbons(cv2.inRange(matte, 1, 254), -(-len(matte) // strips // k), 1, LENGTH // k, k=k):
            soft, own = (ribbon.taken(one, 0, k) for one in (matte, pixels))
            if self._smooth:
                seen, own = own, self._smooth.own(ribbon, top, own, soft)
                if self._opaque is not None:  # where the photo is half transparent no old background shows
                    own = np.where(ribbon.taken(self._opaque[rows], 0, k)[..., None], own, seen)
            layer = cv2.cvtColor(own, cv2.COLOR_RGB2RGBA)
            cv2.insertChannel(soft if self.dtype == np.uint8 else soft.astype(np.uint16) * 257, layer, 3)
            ribbon.put(cv2.copyTo(layer, soft), rgba, 0, k)
        return rgba[first - rows.start :]


def cutout(photo: Photo, matte: Matte, decontaminate: bool = True) -> Pixels:
    """``Cut``, whole: (H, W, 4) of the dtype of ``photo.pixels``."""
    return Cut(photo, matte, decontaminate)[:]
