"""Closed-form matting in the uncertain band (Levin, Lischinski and Weiss 2008), by pymatting.

Where a contour is wrong by more than a pixel, a filter can only follow it; solving for alpha from what is surely person
and surely background forgets it. pymatting needs numba, which is why this is an extra.
"""

from __future__ import annotations

import logging
import sys

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.errors import OptionError
from bgimage.matte import Floats
from bgimage.tiles import block_means

BAND = 0.05
"""Alpha closer than this to 0 or 1 is known, unless something uncertain is near."""
REACH = 2
"""Pixels around the uncertain ones that are solved too: where the small alpha lost a strand."""
MOST = 200_000
"""Pixels that are solved for at most; the picture is halved where the band has more, which bounds time and memory."""
TOLERANCE = 1e-4
"""Residual, against the right-hand side, at which the solver stops; alpha then no longer moves by a level."""
STEPS = 2000
"""Steps of the solver at most; it takes about 4."""
SHIFTS = (1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Shares of the diagonal that the preconditioner adds, one after the other until it exists; 0 often fails."""


def closed_form(image: NDArray[np.uint8], alpha: Floats) -> Floats:
    """``alpha`` at the size of ``image``, solved where it is uncertain.

    Args:
        image: uint8 (h, w, 3).
        alpha: float32 in [0, 1], smaller.

    Returns:
        float32 (h, w) in [0, 1]. Where ``alpha`` is sure of nothing there is nothing to solve from: it comes back
        enlarged.

    Raises:
        OptionError: pymatting is not installed, or finds no solution.
    """
    try:
        from pymatting import cf_laplacian, cg, ichol
    except ImportError as error:
        raise OptionError(
            "edges='fine' needs pymatting; pip install 'bgclient[fine]', or use fast"
        ) from error
    height, width = image.shape[:2]
    given: Floats = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR).clip(0, 1)
    around = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    band = cv2.dilate(((given > BAND) & (given < 1 - BAND)).astype(np.uint8), around)
    count = cv2.countNonZero(band)
    if count > MOST:
        half = closed_form(block_means(image, 2), alpha)
        return cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[no-any-return]
    result: Floats = np.rint(given)
    left, top, across, down = cv2.boundingRect(band)
    area = np.s_[max(0, top - 2) : top + down + 2, max(0, left - 2) : left + across + 2]
    known = band[area].ravel() == 0
    fixed = result[area].ravel().astype(np.float64)
    if not count or not (fixed[known] == 0).any() or not (fixed[known] == 1).any():
        return given
    laplacian = cf_laplacian(image[area] / 255, is_known=known.reshape(band[area].shape)).tocsr()
    rows = laplacian[~known]
    matrix, towards = rows[:, ~known].tocsc(), -rows[:, known] @ fixed[known]
    start = given[area].ravel()[~known].astype(np.float64)
    # A failed try is reported with print(), and a program's stdout may be the picture.
    vars(sys.modules[ichol.__module__])["print"] = logging.getLogger(__name__).debug
    try:
        solved = cg(matrix, towards, start, TOLERANCE, TOLERANCE, STEPS, M=ichol(matrix, shifts=SHIFTS))
    except ValueError as error:
        raise OptionError("edges='fine' finds no solution for this photo; use fast") from error
    fixed[~known] = solved.clip(0, 1)
    result[area] = fixed.reshape(band[area].shape)
    return result
