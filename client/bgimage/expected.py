"""How good a cut-out is expected to be, told from the doubt in the network's own answer.

Were alpha the probability that a pixel belongs to somebody, the cut-out at 0.5 would have about the intersection over
union that ``soft_iou`` gives. Networks are surer than they are right; ``expected_iou.json``, measured on validation
photos by ``python -m bgtrain expected``, says what really came of it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage.people import INSIDE

Floats = NDArray[np.float32]

CURVE = Path(__file__).with_name("expected_iou.json")
"""The measured curve, and of which network it is."""


def soft_iou(alpha: Floats) -> float:
    """Alpha inside the 0.5 contour, over the area inside and the alpha outside; 0 without a person.

    Args:
        alpha: float32 (h, w) in [0, 1], the network's answer for the people that are meant.
    """
    inside = alpha > INSIDE
    area = int(np.count_nonzero(inside))
    if not area:
        return 0.0
    found, missed = float(alpha[inside].sum(dtype=np.float64)), float(alpha[~inside].sum(dtype=np.float64))
    return found / (area + missed)


def expected_iou(alpha: Floats) -> float:
    """The IoU that photos with such an answer had on average, 0..1; 0.0 where no person was found."""
    soft = soft_iou(alpha)
    curve = _curve()
    return float(np.interp(soft, curve["soft_iou"], curve["iou"])) if soft else 0.0


@cache
def _curve() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CURVE.read_text(encoding="utf-8"))
    return found
