"""From the network's small alpha to a matte at the photo's own resolution.

Guided filter with colour (He, Sun and Tang 2010; fast form: He and Sun 2015, arXiv:1505.00996), twice: at the network's
size, then on the photo shrunk to about 512 pixels (``Photo.middle``), whose linear models (alpha = a . colour + b) are
applied to the pixels of the photo. Windows are small, because an alpha shrunk from a photo is wrong by a pixel and not
by ten; a grey guide makes mattes worse than no guide does (docs/pixels.md has the figures).

Only what lies along the outline is computed: in ribbons, its surroundings laid side by side (``tiles.ribbons``). Calls
for many small pieces cost more than their pixels do. Channels lie in planes: products of planes need no
broadcasting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.arrays import Floats, Matte, levels
from bgimage.codec import Photo
from bgimage.tiles import MIDDLE, factor, ribbons

RADIUS = 2
"""Windows are 2 * RADIUS + 1 pixels wide in both stages."""
HALO = 2 * RADIUS + 1
"""Pixels around its own that a model depends on (a window of windows), and one to interpolate."""
PRODUCTS = 13
"""Planes whose means make a fit (``_products``)."""
FIRST_EDGE, SECOND_EDGE = 0.8, 0.25
"""Weights of a window's outermost rows and columns, against 1 inside, in the two stages."""
EPSILON = np.float32(6e-6)
"""Regularisation of the colours' covariance, colours in 0..1: about (0.6 / 255) squared, the noise of a clean photo."""
STRETCH = np.float32(1.25)
"""Contrast about 0.5 given back between the stages: shrinking and means over windows take it away."""
BLUR = 0.36
"""Standard deviation of what is blurred before it is shrunk, pixels, over the root of the squared factor less 1."""
SURE = 0.03
"""Alpha closer than this to 0 or 1 all around is background or person without a look at the photo."""
RIBBON = 32
"""Height of the ribbons that are filtered, without ``HALO``, pixels of their stage."""
STRIP, LENGTH = 32, 512
"""Height and length of the ribbons in which models are applied to the photo, pixels of the photo, about."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
"""What OpenCV's conversion to grey multiplies red, green and blue by. Slopes are divided by it: that conversion is then
the sum over the channels, and takes a tenth of the time of ``cv2.transform``."""


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
    return _enlarged(photo, _at_middle(photo, np.ascontiguousarray(alpha, np.float32)))


def bilinear(alpha: Floats, size_hw: tuple[int, int]) -> Matte:
    """``alpha`` enlarged without a look at the photo: uint8 (H, W)."""
    full: Matte = cv2.resize(levels(alpha), size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return full


def _at_middle(photo: Photo, alpha: Floats) -> Floats:
    """The first stage: ``alpha`` filtered at its own size, its models applied to ``photo.middle``.

    Args:
        photo: at its full resolution.
        alpha: float32 in [0, 1], smaller.

    Returns:
        float32 (h, w) in [0, 1].
    """
    middle = photo.middle
    size = middle.shape[1::-1]
    unsure = _varied(alpha, SURE)
    fitted = linear_models(_shrunk(middle, alpha.shape[::-1]), alpha, unsure, FIRST_EDGE)
    k = factor(photo.pixels.shape[:2], MIDDLE)
    models = [_placed(one[1:-1, 1:-1], photo.pixels.shape, k) for one in fitted]
    # What the network is sure of all around is left as it is.
    result: Floats
    result, unsure = (
        cv2.resize(one, size, interpolation=cv2.INTER_NEAREST)
        for one in ((alpha > 0.5).astype(np.float32), unsure)
    )
    places = np.flatnonzero(unsure > 0)
    found = applied([_taken(one, places) for one in models], _taken(middle, places))
    found -= np.float32(0.5)
    found *= STRETCH
    found += np.float32(0.5)
    result.put(places, found.clip(0, 1))
    return result


def _placed(field: Floats, size_hw: tuple[int, ...], k: int) -> Floats:
    """``field`` (h, w[, c]) of a picture of ``size_hw`` at the place of its blocks of k x k pixels.

    The last blocks may be smaller: the factors are those of the picture, and not of the arrays.
    """
    height, width = (-(-side // k) for side in size_hw[:2])
    # OpenCV rounds the size; one pixel at least, and the last ones again where it falls short
    down, across = (max(side / k, 1) / own for side, own in zip(size_hw[:2], field.shape[:2], strict=True))
    large = cv2.resize(field, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)
    short = (height - large.shape[0], 0, width - large.shape[1])
    placed: Floats = cv2.copyMakeBorder(large, 0, *short, cv2.BORDER_REPLICATE)
    return placed


def _shrunk(image: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """``image`` at ``size`` (width, height), as INTER_AREA does it or, for factors from 1 to 2, a third of its time."""
    least, most = sorted(own / side for own, side in zip(image.shape[1::-1], size, strict=True))
    method = cv2.INTER_AREA
    if least > 1 and most <= 2:
        image, method = cv2.GaussianBlur(image, (3, 3), BLUR * math.sqrt(most**2 - 1)), cv2.INTER_LINEAR
    shrunk: NDArray[np.uint8] = cv2.resize(image, size, interpolation=method)
    return shrunk


def _enlarged(photo: Photo, alpha: Floats) -> Matte:
    """The second stage: ``alpha`` filtered on ``photo.middle``, its models applied to the photo where that is soft.

    Args:
        photo: at its full resolution.
        alpha: float32 (h, w) in [0, 1]; changed.

    Returns:
        uint8 (H, W).
    """
    height, width = photo.pixels.shape[:2]
    k = factor((height, width), MIDDLE)
    edge = _varied(alpha, 0)
    models = linear_models(photo.middle, alpha, edge, SECOND_EDGE)
    places = np.flatnonzero(edge > 0)
    rows, columns = np.divmod(places, alpha.shape[1])
    bordered = (rows + 1) * (alpha.shape[1] + 2) + columns + 1
    alpha.put(places, applied([_taken(one, bordered) for one in models], _taken(photo.middle, places)))
    small = levels(alpha)
    if k == 1:
        return small
    sure = cv2.compare(small, 127, cv2.CMP_GT)
    # all else is 0, and memory that is not touched costs nothing
    left, top, across, down = cv2.boundingRect(sure)
    sure = np.repeat(sure[top : top + down, left : left + across], k, axis=1)[:, : width - left * k]
    blocks = np.zeros((len(small), k, width), np.uint8)
    blocks[top : top + down, :, left * k : (left + across) * k] = sure[:, None]
    matte: Matte = blocks.reshape(-1, width)[:height]
    soft = cv2.inRange(small, 1, 254)
    for ribbon in ribbons(soft, max(1, STRIP // k), 1, LENGTH // k):
        large = [ribbon.enlarged(one, 1, k) for one in models]
        ribbon.put(levels(applied(large, ribbon.taken(photo.pixels, 0, k))), matte, 0, k)
    return matte


def _varied(alpha: Floats, sure: float) -> NDArray[np.uint8]:
    """uint8 (h, w): 1 where the window around a pixel is neither all background nor all person, but for ``sure``."""
    window = _square(RADIUS)
    varied: NDArray[np.bool_] = (cv2.dilate(alpha, window) > sure) & (cv2.erode(alpha, window) < 1 - sure)
    return varied.view(np.uint8)


def linear_models(
    guide: NDArray[np.uint8], alpha: Floats, varied: NDArray[np.uint8], outermost: float
) -> tuple[Floats, Floats]:
    """How alpha follows colour around each pixel: the means of the fits of all windows that hold the pixel.

    Args:
        guide: uint8 (h, w, 3).
        alpha: float32 (h, w) in [0, 1].
        varied: uint8 (h, w), not 0 where models are wanted; elsewhere alpha does not vary in the window around a
            pixel, so that its fit is known: slopes 0, and ``alpha``.
        outermost: weight of a window's outermost rows and columns, against 1 inside.

    Returns:
        float32 (h + 2, w + 2, 3): slopes for red, green and blue in 0..1, over ``GREY``; float32 (h + 2, w + 2): the
        offsets; both with a border of one pixel.
    """
    window = np.ones(2 * RADIUS + 1, np.float32)
    window[[0, -1]] = outermost
    window /= window.sum()
    border = cv2.BORDER_REFLECT_101 if min(alpha.shape) > HALO else cv2.BORDER_REPLICATE
    offsets = cv2.copyMakeBorder(alpha, 1, 1, 1, 1, border)
    slopes = np.zeros((*offsets.shape, 3), np.float32)
    guide, alpha = (cv2.copyMakeBorder(one, HALO, HALO, HALO, HALO, border) for one in (guide, alpha))
    for ribbon in ribbons(varied, RIBBON, HALO):
        products = _products(*(ribbon.taken(one, HALO) for one in (guide, alpha)))
        fits = _fits(_window_means(products, window))
        *found, offset = _window_means(fits, window)[:, HALO - 1 : 1 - HALO]
        ribbon.put(cv2.merge(found), slopes, 1)
        ribbon.put(offset, offsets, 1)
    return slopes, offsets


def _products(guide: NDArray[np.uint8], alpha: Floats) -> Floats:
    """What windows are asked the means of: float32 (PRODUCTS, h, w), in 0..1.

    r g b a | rr rg rb ra | gg gb ga | bb ba: channels, then their products, the rows of a system of equations for the
    slopes; it is symmetric, so what lies below its diagonal is left out.
    """
    made = np.empty((PRODUCTS, *alpha.shape), np.float32)
    for out, plane in zip(made, cv2.split(guide), strict=False):
        np.multiply(plane, np.float32(1 / 255), out=out)
    made[3] = alpha
    for channel, begin in enumerate((4, 8, 11)):
        np.multiply(made[channel:4], made[channel], out=made[begin : begin + 4 - channel])
    return made


def _fits(means: Floats) -> Floats:
    """Slopes and offset of windows, float32 (4, h, w), from the means of their ``_products``."""
    colours, red, green, blue = np.split(means, (4, 8, 11))
    for channel, row in enumerate((red, green, blue)):  # covariances
        row -= colours[channel:] * colours[channel]
        np.maximum(row[0], 0, out=row[0])  # below 0 at a ribbon's border, where planes mix
        row[0] += EPSILON
    # Elimination, not the inverse by cofactors: on a grey photo the determinant drowns in float32.
    green -= red[1] / red[0] * red[1:]
    blue -= red[2] / red[0] * red[2:]
    np.maximum(green[0], EPSILON, out=green[0])
    blue -= green[1] / green[0] * green[1:]
    np.maximum(blue[0], EPSILON, out=blue[0])
    fits = np.empty_like(colours)
    np.divide(blue[1], blue[0], out=fits[2])
    np.divide(green[2] - green[1] * fits[2], green[0], out=fits[1])
    np.divide(red[3] - red[1] * fits[1] - red[2] * fits[2], red[0], out=fits[0])
    np.subtract(colours[3], (fits[:3] * colours[:3]).sum(0), out=fits[3])
    fits[:3] /= GREY
    return fits


def _window_means(channels: Floats, window: Floats) -> Floats:
    """Means over windows of float32 (n, h, w), as one tall picture: at its border, a plane mixes with the next one."""
    means = np.empty_like(channels)
    tall = (-1, channels.shape[2])
    cv2.sepFilter2D(channels.reshape(tall), -1, window, window, means.reshape(tall))
    return means


def applied(models: Sequence[Floats], colours: NDArray[Any]) -> Floats:
    """alpha = slopes . colour + offset, float32 (h, w).

    Args:
        models: of ``linear_models``, float32 (h, w, 3) and (h, w).
        colours: uint8 or uint16 (h, w, 3).
    """
    slopes, offsets = models
    if not colours.size:
        return np.zeros(colours.shape[:2], np.float32)
    explained = cv2.multiply(slopes, colours, scale=1 / np.iinfo(colours.dtype).max, dtype=cv2.CV_32F)
    alpha: Floats = cv2.cvtColor(explained, cv2.COLOR_RGB2GRAY)
    alpha += offsets
    return alpha


def _taken(picture: NDArray[Any], places: NDArray[np.intp]) -> NDArray[Any]:
    """(n, 1[, c]): the pixels at ``places`` of (h, w[, c]), counted from top to bottom."""
    taken: NDArray[Any] = picture.reshape(-1, 1, *picture.shape[2:]).take(places, 0)
    return taken


def _square(reach: int) -> NDArray[np.uint8]:
    """The structuring element of that many pixels to every side."""
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
