"""A second look: the people's part of a photo alone, through the network at its full input size.

People who are small in the photo are then larger in what the network sees. What that gains was measured by
``python -m bgtrain closer``. The mean with the mirrored photo's answer was measured, too; it is not worth its time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.arrays import Floats
from bgimage.codec import Photo
from bgimage.compose import Box
from bgimage.contract import Contract
from bgimage.geometry import Letterbox, crop_letterbox

SEEN = 0.1
"""Alpha from which a pixel counts for the people's box: what the network doubts is looked at again, too."""
MARGIN = 0.1
"""Room around the box on each side, over its own sides; with a quarter the gain on validation photos was smaller."""


@dataclass(frozen=True, eq=False)
class Closer:
    """The part of a photo that is looked at again."""

    photo: Photo
    """The part alone."""
    box: Box
    """Left, top, right, bottom, pixels of the whole photo."""

    @classmethod
    def on(cls, photo: Photo, small: Floats) -> Closer | None:
        """Where ``small``, float32 (h, w) in [0, 1], finds somebody in ``photo``; None: nowhere, or everywhere."""
        rows, columns = (np.flatnonzero(small.max(axis) > SEEN) for axis in (1, 0))
        if not rows.size:
            return None
        (top, bottom), (left, right) = (
            _widened(seen, inner, full)
            for seen, inner, full in zip((rows, columns), small.shape, photo.size_hw, strict=True)
        )
        if (bottom - top, right - left) == tuple(photo.size_hw):
            return None
        part = np.s_[top:bottom, left:right]
        alpha = None if photo.alpha is None else photo.alpha[part]
        return cls(Photo(photo.pixels[part], alpha), (left, top, right, bottom))

    def whole(self, alpha: Floats, size_hw: tuple[int, int], contract: Contract) -> Floats:
        """The network's answer to the part, float32 (S, S), as its answer to the whole photo: 0 outside the part."""
        found = crop_letterbox(alpha, self.photo.size_hw, contract)
        inner = Letterbox.fit(size_hw, contract)
        left, top, right, bottom = (
            round(value * side / full)
            for value, side, full in zip(
                self.box, (inner.width, inner.height) * 2, size_hw[::-1] * 2, strict=True
            )
        )
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        shrinks = found.shape[0] > bottom - top
        filter = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        answer = np.zeros(contract.size_hw, np.float32)
        place = answer[inner.rows, inner.columns][top:bottom, left:right]
        place[:] = cv2.resize(found, place.shape[::-1], interpolation=filter)
        return answer


def _widened(seen: NDArray[np.intp], inner: int, full: int) -> tuple[int, int]:
    """First and last pixel of ``full`` that ``seen``, indices below ``inner``, and the margin cover."""
    first, last = seen[0] / inner, (seen[-1] + 1) / inner
    room = (last - first) * MARGIN
    return int(max(0.0, first - room) * full), int(np.ceil(min(1.0, last + room) * full))
