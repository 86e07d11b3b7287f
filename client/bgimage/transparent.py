"""Photos that are transparent already: cut-outs that are cut again, logos, stickers.

What lies under alpha 0 is not part of the picture, whatever colours a program left there; and the photo's own edge is
not the network's to draw a second time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.arrays import Floats, three_channels, unit
from bgimage.codec import Photo
from bgimage.tiles import MIDDLE, block_means, factor

REACH = 3
"""Pixels of the network's answer within which its edge and the photo's own are the same edge."""
OWN_EDGE = 0.9
"""The photo's own edge is where its alpha falls below this share of the highest around."""
CUT_OUT = 0.1
"""A photo of which this share is transparent is a cut-out already, and not a picture with round corners."""
KNOWN = 0.9
"""A part of a cut-out that the network knows to this share for people stays as it is."""
SEEN = 0.02
"""Alpha from which on a pixel belongs to a part."""
_BAND = 64  # rows of blocks at a time


def visible(photo: Photo) -> Photo:
    """``photo`` whose colours under alpha 0 go on from those that can be seen around them."""
    if photo.alpha is None or photo.alpha.all():
        return photo
    size_hw = (photo.pixels.shape[0], photo.pixels.shape[1])
    k = factor(size_hw, MIDDLE)
    sums, shares = [], []
    for top in range(0, size_hw[0], _BAND * k):
        share = unit(photo.alpha[top : top + _BAND * k])
        colours = photo.pixels[top : top + _BAND * k].astype(np.float32)
        sums.append(block_means(colours * three_channels(share), k))
        shares.append(block_means(share, k))
    smooth = _spread(np.concatenate(sums), np.concatenate(shares))
    pixels = cv2.resize(np.rint(smooth).astype(photo.pixels.dtype), size_hw[::-1])
    cv2.copyTo(photo.pixels, (photo.alpha > 0).astype(np.uint8), pixels)
    return dataclasses.replace(photo, pixels=pixels)


def _spread(sums: Floats, shares: Floats) -> Floats:
    """Mean colours, float32 (h, w, 3), from sums (h, w, 3) by shares (h, w); the nearest ones where a share is 0."""
    known = shares > 1e-3
    colours: Floats = np.divide(sums, np.maximum(shares, np.float32(1e-3))[..., None])
    if known.all() or max(shares.shape) == 1:
        return colours
    half = tuple(-(-side // 2) for side in shares.shape[::-1])
    coarse = _spread(*(cv2.resize(one, half, interpolation=cv2.INTER_AREA) for one in (sums, shares)))
    around = cv2.resize(coarse, shares.shape[::-1], interpolation=cv2.INTER_LINEAR)
    colours[~known] = around[~known]
    return colours


def beneath(matte: Floats, alpha: NDArray[Any]) -> Floats:
    """The network's answer without the photo's own edge in it: their product is then that edge, and not its square.

    Args:
        matte: float32 (h, w) in [0, 1], what the network makes of the photo laid on grey.
        alpha: uint8 or uint16 (H, W), the photo's own.

    Returns:
        float32 (h, w) in [0, 1]: near the photo's own edge the highest answer around, else ``matte``; 1 in parts of a
        cut-out that are people already, so that to cut it again changes nothing.
    """
    small = unit(cv2.resize(alpha, matte.shape[::-1], interpolation=cv2.INTER_AREA))
    around = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    share = small / np.maximum(
        cv2.dilate(small, around), np.float32(1e-3)
    )  # below 1 on the photo's own edge alone
    near = cv2.erode(share, around) < OWN_EDGE
    highest = cv2.dilate(np.ascontiguousarray(matte), around, iterations=2)
    result: Floats = np.where(near, highest, matte)
    seen = small > SEEN
    if seen.mean() <= 1 - CUT_OUT:
        count, parts = cv2.connectedComponents(seen.astype(np.uint8))
        people, all_of_it = (np.bincount(parts.ravel(), one.ravel(), count) for one in (matte * small, small))
        known = people >= KNOWN * all_of_it
        known[0] = False  # what is not seen
        result[cv2.dilate(known[parts].astype(np.uint8), around, iterations=2) > 0] = (
            1  # and where refinement looks from
        )
    return result
