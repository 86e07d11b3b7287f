"""From the network's small alpha to a matte at the photo's own resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.codec import Photo

Matte = NDArray[np.uint8]


def bilinear(alpha: NDArray[np.float32], size_hw: tuple[int, int]) -> Matte:
    """``alpha`` enlarged without a look at the photo: uint8 (H, W)."""
    full = cv2.resize(alpha, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.rint(full.clip(0, 1) * 255).astype(np.uint8)


def refined(photo: Photo, alpha: NDArray[np.float32], edges: str = "fast") -> Matte:
    """``alpha`` at the photo's resolution with the photo's edges (guided filter, He and Sun 2015, arXiv:1505.00996).

    Args:
        photo: at its full resolution.
        alpha: float32 (h, w) in [0, 1], small, without letterbox.
        edges: "none", "fast" or "fine".

    Returns:
        uint8 (H, W).
    """
    size_hw = photo.pixels.shape[:2]
    if edges == "none":
        return bilinear(alpha, size_hw)
    height, width = alpha.shape
    guide = cv2.resize(photo.pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    guide = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY) / np.iinfo(photo.pixels.dtype).max

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.boxFilter(values, -1, (5, 5), borderType=cv2.BORDER_REFLECT)  # type: ignore[no-any-return]

    mean_guide, mean_alpha = mean(guide), mean(alpha)
    slope = (mean(guide * alpha) - mean_guide * mean_alpha) / (mean(guide * guide) - mean_guide**2 + 1e-4)
    offset = mean(mean_alpha - slope * mean_guide)
    slope = mean(slope)
    whole = (
        cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.iinfo(photo.pixels.dtype).max
    )
    grow = {"dsize": size_hw[::-1], "interpolation": cv2.INTER_LINEAR}
    full = cv2.resize(slope, **grow) * whole + cv2.resize(offset, **grow)
    return np.rint(full.clip(0, 1) * 255).astype(np.uint8)
