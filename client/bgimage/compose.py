"""What lies under and around the people: colours, pictures, blur, shadow, frame.

Layers are mixed on the encoded values, as browsers, Photoshop and Pillow do: our "on white" is then the picture
that our PNG gives on white anywhere. The blurred background alone is computed in linear light, because it imitates a
lens, and in a lens bright lamps win.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.arrays import Floats, Matte, three_channels, unit
from bgimage.encode import Picture
from bgimage.options import Options
from bgimage.tiles import bands, block_means, factor, squares

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""

_SQUARE = 256


def over(layer: Picture, backdrop: NDArray[Any] | tuple[int, ...]) -> NDArray[Any]:
    """``layer`` on an opaque ``backdrop``: opaque RGB.

    Args:
        layer: uint8 or uint16 (H, W, 4), straight alpha; its rows are asked for some at a time, from top to bottom.
        backdrop: (H, W, 3) of the same dtype, or three numbers 0 to the dtype's maximum.

    Returns:
        (H, W, 3): round(alpha * layer + (1 - alpha) * backdrop).
    """
    depth = np.iinfo(layer.dtype).max
    height, width = layer.shape[:2]
    under = np.broadcast_to(np.asarray(backdrop, layer.dtype), (height, width, 3))
    result = np.empty((height, width, 3), layer.dtype)
    for rows in bands(height, _SQUARE):
        whole, below, out = layer[rows], under[rows], result[rows]
        for area in squares(whole.shape[:2], _SQUARE):
            alpha = np.ascontiguousarray(whole[area][..., 3])
            lowest, highest = alpha.min(), alpha.max()
            if highest == 0:
                out[area] = below[area]
            elif lowest == depth:
                out[area] = whole[area][..., :3]
            else:
                ground = below[area].astype(np.float32)
                mixed = ground + unit(three_channels(alpha)) * (
                    whole[area][..., :3].astype(np.float32) - ground
                )
                out[area] = np.rint(mixed)
    return result


def over_sheer(layer: NDArray[Any], colour: tuple[int, ...], opacity: NDArray[Any] | float) -> NDArray[Any]:
    """``layer`` on a half-transparent sheet of one colour: RGBA, straight alpha.

    Args:
        layer: uint8 or uint16 (H, W, 4), straight alpha.
        colour: three numbers 0 to the dtype's maximum.
        opacity: 0..1 of the sheet, a number or float32 (H, W).
    """
    depth = np.iinfo(layer.dtype).max
    sheet = np.broadcast_to(np.asarray(opacity, np.float32), layer.shape[:2])
    result = np.empty_like(layer)
    for area in squares(layer.shape[:2], _SQUARE):
        share, below = unit(layer[area][..., 3]), sheet[area]
        below = (1 - share) * below
        total = share + below
        weight = (share / np.maximum(total, np.float32(1e-6)))[..., None]
        paint = np.asarray(colour, np.float32)
        result[area][..., :3] = np.rint(paint + weight * (layer[area][..., :3].astype(np.float32) - paint))
        result[area][..., 3] = np.rint(total.clip(0, 1) * depth)
        result[area][result[area][..., 3] == 0] = 0
    return result


@dataclass(frozen=True)
class Frame:
    """The result's rectangle, and where the photo's pixels go in it: x -> scale * x + left, likewise y."""

    width: int
    height: int
    scale: float = 1.0
    left: float = 0.0
    top: float = 0.0

    @classmethod
    def of(cls, box: Box | None, size_hw: tuple[int, int], options: Options) -> Frame:
        """The frame that crop, margin, canvas, scale, position and max_pixels ask for.

        Args:
            box: of the people, photo pixels; None (no person): the whole photo.
            size_hw: of the photo.
        """
        height, width = size_hw
        box_left, box_top, right, bottom = box or (0, 0, width, height)
        box_width, box_height = right - box_left, bottom - box_top
        frame = cls(width, height)
        if options.crop and box:
            m_top, m_right, m_bottom, m_left = options.margins((box_height, box_width))
            width, height = box_width + m_left + m_right, box_height + m_top + m_bottom
            frame = cls(width, height, 1, m_left - box_left, m_top - box_top)
        position = "center" if options.scale and options.position == "original" else options.position
        if options.canvas or options.scale or position != "original":
            canvas_width, canvas_height = options.canvas or (frame.width, frame.height)
            if options.scale:
                scale = min(
                    options.scale * canvas_width / box_width, options.scale * canvas_height / box_height
                )
            else:
                scale = min(1.0, canvas_width / frame.width, canvas_height / frame.height)
            if position == "original":
                left = (canvas_width - scale * frame.width) / 2 + scale * frame.left
                top = (canvas_height - scale * frame.height) / 2 + scale * frame.top
            else:
                across, down = (0.5, 0.5) if isinstance(position, str) else position
                left = across * (canvas_width - scale * box_width) - scale * box_left
                top = down * (canvas_height - scale * box_height) - scale * box_top
            frame = cls(canvas_width, canvas_height, scale, left, top)
        if options.max_pixels and frame.width * frame.height > options.max_pixels:
            less = (options.max_pixels / (frame.width * frame.height)) ** 0.5
            frame = cls(
                max(1, int(frame.width * less)),
                max(1, int(frame.height * less)),
                frame.scale * less,
                frame.left * less,
                frame.top * less,
            )
        return frame

    def keeps(self, size_hw: tuple[int, int]) -> bool:
        """True where the frame is the photo itself."""
        return self == Frame(size_hw[1], size_hw[0])

    def placed(self, layer: NDArray[Any]) -> NDArray[Any]:
        """``layer`` (H, W[, 4]) of the photo's size in the frame; empty (zero) around it."""
        if self.keeps((layer.shape[0], layer.shape[1])):
            return layer
        result = np.zeros((self.height, self.width, *layer.shape[2:]), layer.dtype)
        rows = self._span(layer.shape[0], self.top, self.height)
        columns = self._span(layer.shape[1], self.left, self.width)
        piece = layer[rows, columns]
        if not piece.size:
            return result
        # Both ends are rounded, not the length: so ``box_in`` agrees.
        top, bottom = (round(self.top + row * self.scale) for row in (rows.start, rows.stop))
        left, right = (round(self.left + column * self.scale) for column in (columns.start, columns.stop))
        if self.scale != 1:
            piece = scaled(piece, (max(1, right - left), max(1, bottom - top)))
        piece = piece[max(0, -top) :, max(0, -left) :]
        target = result[
            max(0, top) : max(0, top) + piece.shape[0], max(0, left) : max(0, left) + piece.shape[1]
        ]
        target[...] = piece[: target.shape[0], : target.shape[1]]
        return result

    def _span(self, extent: int, offset: float, length: int) -> slice:
        """The photo's rows or columns that the frame shows."""
        start = max(0, int(np.floor(-offset / self.scale)))
        return slice(min(start, extent), max(0, min(extent, int(np.ceil((length - offset) / self.scale)))))

    def box_in(self, box: Box) -> Box:
        """A box of the photo in pixels of the frame, cut at its sides."""
        left, top, right, bottom = box
        return (
            min(max(round(left * self.scale + self.left), 0), self.width),
            min(max(round(top * self.scale + self.top), 0), self.height),
            min(max(round(right * self.scale + self.left), 0), self.width),
            min(max(round(bottom * self.scale + self.top), 0), self.height),
        )


def scaled(layer: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """``layer`` (H, W) or RGBA (H, W, 4) at another ``size`` (width, height); colours are weighted by their alpha."""
    shrinks = size[0] < layer.shape[1] or size[1] < layer.shape[0]
    filter = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    if layer.ndim == 2:
        resized: NDArray[Any] = cv2.resize(layer, size, interpolation=filter)
        return resized
    depth = np.iinfo(layer.dtype).max
    result = np.empty((size[1], size[0], 4), layer.dtype)
    share = unit(layer[..., 3])
    small = cv2.resize(share, size, interpolation=filter).clip(0, 1)
    result[..., 3] = np.rint(small * depth)
    for channel in range(3):  # one at a time, to spare memory
        weighted = cv2.resize(share * layer[..., channel], size, interpolation=filter)
        result[..., channel] = np.rint((weighted / np.maximum(small, np.float32(1e-6))).clip(0, depth))
    result[result[..., 3] == 0] = 0
    return result


def filling(picture: NDArray[Any], size_hw: tuple[int, int]) -> NDArray[Any]:
    """``picture`` (h, w, 3) scaled to cover ``size_hw``, aspect kept, centred, the rest cut off."""
    height, width = size_hw
    scale = max(height / picture.shape[0], width / picture.shape[1])
    cut_height = min(picture.shape[0], max(1, round(height / scale)))
    cut_width = min(picture.shape[1], max(1, round(width / scale)))
    top, left = (picture.shape[0] - cut_height) // 2, (picture.shape[1] - cut_width) // 2
    cut = picture[top : top + cut_height, left : left + cut_width]
    filter = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    covered: NDArray[Any] = cv2.resize(cut, (width, height), interpolation=filter)
    return covered


def blurred(pixels: NDArray[Any], matte: Matte, radius: float, frame: Frame) -> NDArray[Any]:
    """The photo's background out of focus, as an opaque backdrop of the frame: (frame.height, frame.width, 3).

    The people do not bleed into it: means are weighted by the background's share. Blurred in linear light, on a copy
    shrunk so far that the radius still spans four pixels.

    Args:
        pixels: uint8 or uint16 (H, W, 3).
        matte: uint8 (H, W).
        radius: standard deviation in photo pixels; 0: 1.5 % of the long side.
    """
    radius = radius or 0.015 * max(matte.shape)
    k = max(factor(matte.shape, 2048), int(radius / 4), 1)
    k = min(k, *matte.shape)
    light = _light(pixels, k)
    share = (1 - unit(block_means(matte, k))) ** 4  # half-covered pixels show the people's colours too
    sigma = max(radius / k, 0.5)
    total = _spread(light * share[..., None], sigma)
    weight = _spread(share, sigma)[..., None]
    wide = _spread(total, 8 * sigma) / (_spread(weight[..., 0], 8 * sigma)[..., None] + np.float32(1e-6))
    mean = (total + np.float32(1e-3) * wide) / (weight + np.float32(1e-3))
    encoded = np.rint(_encoded(mean.clip(0, 1)) * np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    # A pixel x of the frame is photo pixel (x - left) / scale, whose block is (that + 1/2) / k - 1/2.
    step = 1 / (frame.scale * k)
    place = np.array(
        [
            [step, 0, (0.5 - frame.left) * step - 0.5],
            [0, step, (0.5 - frame.top) * step - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    backdrop: NDArray[Any] = cv2.warpAffine(
        encoded, place, (frame.width, frame.height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return backdrop


def _light(pixels: NDArray[Any], k: int) -> Floats:
    """Block means of the linear light of ``pixels``, in bands: float32."""
    depth = np.iinfo(pixels.dtype).max
    table = _linear(np.arange(depth + 1, dtype=np.float32) / np.float32(depth))
    step = k * max(1, 64 // k)
    bands = (pixels[top : top + step] for top in range(0, pixels.shape[0], step))
    return np.concatenate([block_means(table[band], k) for band in bands])


def _spread(values: Floats, sigma: float) -> Floats:
    spread: Floats = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return spread


def _linear(encoded: Floats) -> Floats:
    """sRGB (IEC 61966-2-1) to linear light, both 0..1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def _encoded(linear: Floats) -> Floats:
    """Inverse of ``_linear``."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


def shadow(alpha: Matte | NDArray[np.uint16], strength: float) -> Floats:
    """Opacity of a soft shadow a little below what ``alpha`` (H, W) shows: float32 (H, W) in 0..strength."""
    size_hw = (alpha.shape[0], alpha.shape[1])
    k = factor(size_hw, 512)
    small = unit(block_means(alpha, k))
    reach = 0.02 * max(small.shape)
    down = np.array([[1, 0, 0], [0, 1, -1.5 * reach]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    lower = cv2.warpAffine(small, down, small.shape[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT)
    soft = _spread(lower, max(reach, 0.5)) * np.float32(strength)
    full: Floats = cv2.resize(soft, (small.shape[1] * k, small.shape[0] * k), interpolation=cv2.INTER_LINEAR)
    return full[: size_hw[0], : size_hw[1]]
