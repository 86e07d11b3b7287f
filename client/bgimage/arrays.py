"""Names and conversions of the arrays that the stages of ``finish`` hand to each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2

Matte = NDArray[np.uint8]
"""(H, W): the alpha image."""
Floats = NDArray[np.float32]


def unit(pixels: NDArray[Any]) -> Floats:
    """uint8 or uint16 as float32 in 0..1."""
    scaled: Floats = np.multiply(pixels, np.float32(1 / np.iinfo(pixels.dtype).max), dtype=np.float32)
    return scaled


def levels(alpha: Floats) -> Matte:
    """Alpha in 0..1, and cut to it, as uint8."""
    made: Matte = cv2.multiply(alpha, 255.0, dtype=cv2.CV_8U)  # rounded, and cut to 0..255
    return made


def planes(pixels: NDArray[Any]) -> Floats:
    """uint8 or uint16 (h, w, 3) as float32 (3, h, w) in 0..1."""
    separate = np.empty((3, *pixels.shape[:2]), np.float32)
    scale = np.float32(1 / np.iinfo(pixels.dtype).max)
    for out, plane in zip(separate, cv2.split(pixels), strict=True):
        np.multiply(plane, scale, out=out)
    return separate


def eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 as it is, uint16 rounded."""
    if pixels.dtype == np.uint8:
        return pixels
    rounded: NDArray[np.uint8] = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    return rounded


def three_channels(values: NDArray[Any]) -> NDArray[Any]:
    """(h, w) as (h, w, 3): numpy's broadcasting along three channels is ten times slower than three real ones."""
    three: NDArray[Any] = cv2.cvtColor(values, cv2.COLOR_GRAY2RGB)
    return three
