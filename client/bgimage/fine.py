"""Closed-form matting in the uncertain band (Levin, Lischinski and Weiss 2008), by box filters alone.

The matting Laplacian times an alpha is the alpha minus its own guided filter (He, Sun and Tang 2010, "Fast matting
using large kernel matting Laplacian matrices"), so conjugate gradients need neither a sparse matrix nor a compiler.
"""

from __future__ import annotations

import numpy as np

from bgimage._cv import cv2
from bgimage.matte import Floats, LinearModels, applied, stretched

BAND = 0.02
"""Alpha closer than this to 0 or 1 is known, unless the band is near."""
RADIUS = 1
"""Windows of 3 x 3 pixels, as in the paper; larger ones blur strands together."""
REACH = 2
"""Pixels around the uncertain ones that are solved too: where the small alpha lost a strand."""
FAITH = 0.02
"""Weight of the given alpha inside the band; the Laplacian's own weights are about 1."""
STEPS = 40
"""Conjugate gradient steps at most; the error then no longer moves by a level."""
TOLERANCE = 1e-3
"""Residual, against the first, at which to stop."""


def closed_form(image: Floats, alpha: Floats) -> Floats:
    """``alpha`` solved again where it is uncertain, so that it follows colour locally.

    Args:
        image: float32 (3, h, w) in 0..1.
        alpha: float32 (h, w) in [0, 1].

    Returns:
        float32 (h, w) in [0, 1]; equal to ``alpha`` outside the band.
    """
    side = 2 * REACH + 1
    uncertain = ((alpha > BAND) & (alpha < 1 - BAND)).astype(np.uint8)
    band = cv2.dilate(uncertain, np.ones((side, side), np.uint8))
    if not band.any():
        return alpha
    left, top, width, height = cv2.boundingRect(band)
    around = np.s_[max(0, top - 8) : top + height + 8, max(0, left - 8) : left + width + 8]
    free = band[around].astype(np.float32)
    models = LinearModels.of(np.ascontiguousarray(image[:, *around]), RADIUS)

    def system(values: Floats) -> Floats:
        """(Laplacian + FAITH) times ``values``."""
        return values * np.float32(1 + FAITH) - applied(models.fitted(values), models.guide)

    given = np.ascontiguousarray(alpha[around])
    solution = given.copy()
    residual = free * (np.float32(FAITH) * given - system(solution))
    direction = residual
    power = first = float(np.vdot(residual, residual))
    for _ in range(STEPS):
        if power <= TOLERANCE**2 * first:
            break
        image_of = free * system(direction)
        step = np.float32(power / float(np.vdot(direction, image_of)))
        solution = solution + step * direction
        residual = residual - step * image_of
        before, power = power, float(np.vdot(residual, residual))
        direction = residual + np.float32(power / before) * direction
    result = alpha.copy()
    result[around] = np.where(free > 0, stretched(solution), given)
    return result
