"""Where the photo lies in the network's picture, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.codec import Photo, Pixels
from bgimage.contract import Contract


@dataclass(frozen=True)
class Letterbox:
    """The photo's rectangle in the network's picture."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def fit(cls, size_hw: tuple[int, int], contract: Contract) -> Letterbox:
        """The largest centred rectangle with the photo's aspect ratio, or all of it where the contract stretches."""
        height, width = size_hw
        full_height, full_width = contract.size_hw
        if contract.fit == "stretch":
            return cls(0, 0, full_height, full_width)
        scale = min(full_height / height, full_width / width)
        inner_height = min(full_height, max(1, round(height * scale)))
        inner_width = min(full_width, max(1, round(width * scale)))
        return cls(
            (full_height - inner_height) // 2, (full_width - inner_width) // 2, inner_height, inner_width
        )

    @property
    def rows(self) -> slice:
        """Rows of the photo."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Columns of the photo."""
        return slice(self.left, self.left + self.width)


def decode_side(contract: Contract) -> int:
    """Pixels: a photo whose long side is at least this may be decoded reduced (``codec.decode``'s ``at_least``).

    Twice the network's side: what a JPEG's DCT leaves out then moves the network's input by 0.2 grey levels on
    average; at once the side it is 1.1, which shows in the matte.
    """
    return 2 * max(contract.size_hw)


def shrunk(photo: Photo | Pixels, contract: Contract) -> NDArray[np.uint8]:
    """The photo at the size it has in the network's picture, without padding.

    Args:
        photo: a ``Photo`` (its transparency is laid on ``contract.pad_value``; its ``size_hw`` decides the shape, also
            when it was decoded reduced) or uint8 / uint16 (H, W, 3), RGB.

    Returns:
        uint8 (h, w, 3), RGB. ``shrunk`` of the result is the result, so a client may send it instead of the photo.
    """
    whole = photo if isinstance(photo, Photo) else Photo(photo)
    box = Letterbox.fit(whole.size_hw, contract)
    pixels = whole.pixels
    shrinks = pixels.shape[0] > box.height or pixels.shape[1] > box.width
    small = _resized(pixels, box, shrinks)
    if whole.alpha is not None:
        alpha = whole.alpha.astype(np.float32) / np.iinfo(whole.alpha.dtype).max
        paint = contract.pad_value / 255 * np.iinfo(pixels.dtype).max
        laid = paint + alpha[..., None] * (pixels.astype(np.float32) - paint)
        small = _resized(laid, box, shrinks)
    if pixels.dtype == np.uint16:
        small = small / np.float32(257)
    result: NDArray[np.uint8] = (
        small if small.dtype == np.uint8 else np.rint(small).clip(0, 255).astype(np.uint8)
    )
    return result


def _resized(pixels: NDArray[Any], box: Letterbox, shrinks: bool) -> Any:
    if pixels.shape[:2] == (box.height, box.width):
        return pixels
    filter = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, (box.width, box.height), interpolation=filter)


def network_input(photo: Photo | Pixels, contract: Contract) -> NDArray[np.uint8]:
    """What the network sees: uint8 (3, S, S), RGB, the photo letterboxed in the middle of ``contract.pad_value``."""
    small = shrunk(photo, contract)
    box = Letterbox(
        (contract.size_hw[0] - small.shape[0]) // 2,
        (contract.size_hw[1] - small.shape[1]) // 2,
        *small.shape[:2],
    )
    image = np.full((3, *contract.size_hw), contract.pad_value, np.uint8)
    image[:, box.rows, box.columns] = small.transpose(2, 0, 1)
    return image


def crop_letterbox(
    alpha: NDArray[np.float32], size_hw: tuple[int, int], contract: Contract
) -> NDArray[np.float32]:
    """The photo's part of the network's picture.

    Args:
        alpha: float32 (S, S), the network's answer.
        size_hw: the photo's full upright size.

    Returns:
        float32 (h, w), a view.
    """
    box = Letterbox.fit(size_hw, contract)
    return alpha[box.rows, box.columns]
