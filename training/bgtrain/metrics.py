"""The errors of a matte, as the segmentation and matting benchmarks name them.

IoU and MAE are plain. Boundary IoU follows Cheng et al. 2021 (arXiv:2103.16562, the authors' code). SAD, MSE,
gradient and connectivity follow Rhemann et al. 2009 (alphamatting.com) in the form of the code published with
Xu et al. 2017, over the whole photo instead of a trimap's unknown region, as portrait benchmarks do.
All take ``alpha`` and ``truth``: float32 (H, W) in [0, 1], of one shape.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Alpha = NDArray[np.float32]
Mask = NDArray[np.bool_]

PERSON = 0.5
"""From this alpha on a pixel counts as person."""
BOUNDARY_SHARE = 0.02
"""Width of the boundary band over the photo's diagonal (Cheng et al. use 2 % for COCO-sized photos)."""
GHOST = (0.1, 0.9)
"""Alphas between these, far from the outline, are a ghost: half-transparent body or background."""
GHOST_REACH = 0.02
"""How far from the true outline that is, over the photo's diagonal."""
CALIBRATION_BINS = 15
"""Equal-width bins of alpha (Guo et al. 2017, arXiv:1706.04599)."""


def mask_of(alpha: Alpha) -> Mask:
    """bool (H, W): where the matte says person."""
    return np.asarray(alpha >= PERSON)


def iou(mask: Mask, truth: Mask) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union if union else 1.0


def boundary(mask: Mask) -> Mask:
    """bool (H, W): the mask's pixels within 2 % of the diagonal of its contour, or of the photo's border."""
    height, width = mask.shape
    reach = max(1, round(BOUNDARY_SHARE * float(np.hypot(height, width))))
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # one square of 2 r + 1 erodes like r passes of the authors' 3x3 kernel
    eroded = cv2.erode(framed, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8), borderValue=1)
    return np.asarray(mask & (eroded[1:-1, 1:-1] == 0))


def boundary_iou(mask: Mask, truth: Mask) -> float:
    """IoU of the two boundary bands: indifferent to size, strict about contours."""
    return iou(boundary(mask), boundary(truth))


def mae(alpha: Alpha, truth: Alpha) -> float:
    """Mean absolute difference, 0..1."""
    return float(np.abs(alpha - truth).mean())


def mse(alpha: Alpha, truth: Alpha) -> float:
    """Mean squared difference, in thousandths (as the benchmarks print it)."""
    return float(np.square(alpha - truth).mean()) * 1e3


def sad(alpha: Alpha, truth: Alpha) -> float:
    """Sum of absolute differences, in thousands; grows with the photo's pixels."""
    return float(np.abs(alpha - truth).sum()) / 1e3


def gradient_error(alpha: Alpha, truth: Alpha, *, sigma: float = 1.4) -> float:
    """Squared difference of the gradient magnitudes under a Gaussian of ``sigma``, summed, in thousands.

    The published code stretches both mattes to min..max first. That would turn the noise of an empty matte
    into a figure, so it is left out.
    """
    return float(np.square(_gradient(alpha, sigma) - _gradient(truth, sigma)).sum()) / 1e3


def _gradient(alpha: Alpha, sigma: float) -> Alpha:
    reach = int(np.ceil(sigma * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * sigma * 1e-2))))
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    slope = -x * smooth
    smooth /= np.linalg.norm(smooth)  # filters of norm 1, as published
    slope /= np.linalg.norm(slope)
    across = cv2.sepFilter2D(alpha, cv2.CV_32F, slope, smooth, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(alpha, cv2.CV_32F, smooth, slope, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.magnitude(across, down), np.float32)


def connectivity_error(alpha: Alpha, truth: Alpha, *, step: float = 0.1, tolerance: float = 0.15) -> float:
    """How far pixels hang loose from what both mattes agree is solid, summed, in thousands.

    The source region is the largest component that both mattes share at a threshold, hence one person: in
    groups everybody else counts as loose in both mattes. Read it for single people.
    """
    # the highest threshold at which a pixel still belongs to the source
    linked = np.full(alpha.shape, -1.0, np.float32)
    both = np.minimum(alpha, truth)
    levels = np.arange(0, 1 + step / 2, step)
    for below, level in itertools.pairwise(levels):
        solid = (both >= level).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=4)
        areas = stats[1:, cv2.CC_STAT_AREA]
        source = labels == 1 + np.argmax(areas) if len(areas) else np.zeros(alpha.shape, bool)
        linked[(linked < 0) & ~source] = below
    linked[linked < 0] = 1.0

    def degree(matte: Alpha) -> Alpha:
        loose = matte - linked
        return np.asarray(1 - loose * (loose >= tolerance), np.float32)

    return float(np.abs(degree(alpha) - degree(truth)).sum()) / 1e3


def marked_area(alpha: Alpha) -> float:
    """Share of the photo marked as person, 0..1: the false area on photos without people."""
    return float(mask_of(alpha).mean())


def far_from_outline(truth: Mask) -> Mask:
    """bool (H, W): pixels farther than ``GHOST_REACH`` from the outline of ``truth``; the photo's border is not one."""
    sides = (truth.astype(np.uint8), (~truth).astype(np.uint8))
    distance = sum(cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_5) for side in sides)
    return np.asarray(distance > GHOST_REACH * float(np.hypot(*truth.shape)))


def ghost(alpha: Alpha, truth: Alpha) -> float:
    """Share of the photo that is half-transparent far from the true outline, 0..1."""
    unsure = (alpha > GHOST[0]) & (alpha < GHOST[1])
    return float((unsure & far_from_outline(mask_of(truth))).mean())


def calibration_bins(alpha: Alpha, truth: Alpha) -> NDArray[np.float64]:
    """float64 (bins, 3): share of pixels, sum of alpha and sum of truth in each bin, over the photo's pixels.

    Sums of them over photos give ``calibration_error`` of a set in which every photo weighs the same.
    """
    place = np.minimum((alpha.ravel() * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    sums = [
        np.bincount(place, weights=weights, minlength=CALIBRATION_BINS)
        for weights in (None, alpha.ravel(), truth.ravel())
    ]
    return np.stack(sums, axis=1).astype(np.float64) / alpha.size


def calibration_error(bins: NDArray[np.float64]) -> float:
    """Expected calibration error, 0..1: how far alpha is from the share of person where it has that value."""
    pixels = bins[..., 0].sum()
    return float(np.abs(bins[..., 1] - bins[..., 2]).sum() / pixels) if pixels else 0.0


@dataclass(frozen=True)
class Scores:
    """All errors of one matte. Higher is better for the first two, lower for the rest."""

    iou: float
    boundary_iou: float
    mae: float
    sad: float
    mse: float
    gradient: float
    connectivity: float
    marked: float
    """Share of the photo marked as person."""
    ghost: float
    """Share of the photo that is half-transparent far from the true outline."""


MEASURES = tuple(Scores.__dataclass_fields__)


def score(alpha: Alpha, truth: Alpha) -> Scores:
    """Every error at once. ``ValueError`` where the shapes differ."""
    if alpha.shape != truth.shape:
        raise ValueError(f"matte of {alpha.shape} against a truth of {truth.shape}; they must have one shape")
    mask, true_mask = mask_of(alpha), mask_of(truth)
    return Scores(
        iou=iou(mask, true_mask),
        boundary_iou=boundary_iou(mask, true_mask),
        mae=mae(alpha, truth),
        sad=sad(alpha, truth),
        mse=mse(alpha, truth),
        gradient=gradient_error(alpha, truth),
        connectivity=connectivity_error(alpha, truth),
        marked=marked_area(alpha),
        ghost=ghost(alpha, truth),
    )
