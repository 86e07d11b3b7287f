"""A cut-out to what remove.bg answers with: image bytes or JSON, and the headers that describe them."""

from __future__ import annotations

import base64
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bgclient.web.parameters import Wanted
from bgimage.compose import Frame
from bgimage.encode import Pixels, encode

if TYPE_CHECKING:
    from bgclient.results import Cutout
    from bgimage.options import Options

_MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "zip": "application/zip",
}
_REACH = 16
"""Pixels that JPEG's blocks of subsampled colour reach beyond an edge."""


@dataclass(frozen=True)
class Rendered:
    """The result, encoded."""

    data: bytes
    media_type: str
    size_hw: tuple[int, int]
    box: tuple[int, int, int, int] | None
    """Left, top, right, bottom of the people in the result, pixels."""
    expected_iou: float
    """0..1, see ``bgimage.expected``."""

    def headers(self, type_level: str) -> dict[str, str]:
        """remove.bg's headers."""
        height, width = self.size_hw
        left, top, right, bottom = self.box or (0, 0, 0, 0)
        named = {
            "X-Width": width,
            "X-Height": height,
            "X-Foreground-Top": top,
            "X-Foreground-Left": left,
            "X-Foreground-Width": right - left,
            "X-Foreground-Height": bottom - top,
            "X-Credits-Charged": 0,
            "X-Expected-IoU": f"{self.expected_iou:.3f}",
        }
        found = {name: str(value) for name, value in named.items()}
        return found if type_level == "none" else {"X-Type": "person"} | found

    def json(self) -> dict[str, Any]:
        """remove.bg's JSON answer."""
        left, top, right, bottom = self.box or (0, 0, 0, 0)
        return {
            "data": {
                "result_b64": base64.b64encode(self.data).decode(),
                "foreground_top": top,
                "foreground_left": left,
                "foreground_width": right - left,
                "foreground_height": bottom - top,
                "expected_iou": round(self.expected_iou, 3),
            }
        }


def render(cutout: Cutout, size_hw: tuple[int, int], wanted: Wanted, options: Options) -> Rendered:
    """What is answered.

    Only a zip is decoded again, from the PNG that our server made. Where the people are in the picture follows from
    where they are in the photo.

    Args:
        cutout: made with ``options``.
        size_hw: height and width of the upright photo, pixels.
    """
    frame = Frame.of(cutout.box, size_hw, options)
    if wanted.format == "zip":
        format, data = "zip", _zip_of(cutout, wanted.channels)
    else:
        format, data = options.format or "png", cutout.encode()
    placed = cutout.box and frame.box_in(cutout.box)
    return Rendered(data, _MEDIA_TYPES[format], (frame.height, frame.width), placed, cutout.expected_iou)


def wants_json(accept: str) -> bool:
    """True when an Accept header prefers JSON to a picture: the first of the best-liked ranges decides."""
    ranges = []
    for place, part in enumerate(accept.lower().split(",")):
        kind, *parameters = (word.strip() for word in part.split(";"))
        quality = next((_quality(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
        ranges.append((-quality, place, kind))
    for _, _, kind in sorted(ranges):
        if kind == "application/json":
            return True
        if kind.startswith("image/") or kind in ("*/*", "application/zip", "application/octet-stream"):
            return False
    return False


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _zip_of(cutout: Cutout, channels: str) -> bytes:
    """color.jpg and alpha.png. Around the people the colour goes on, so that JPEG does not darken their edges."""
    files = {}
    if channels == "alpha":
        files["alpha.png"] = cutout.encode()
    else:
        made, pixels = cutout.finished, cutout.pixels
        files["color.jpg"] = encode(_spread(pixels), "jpeg", icc=made.icc, exif=made.exif, dpi=made.dpi)
        files["alpha.png"] = encode(np.ascontiguousarray(pixels[..., 3]), "png")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # both are compressed already
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def _spread(pixels: Pixels) -> Pixels:
    """RGB of an RGBA picture whose transparent pixels take the mean of the people's colours near by."""
    import cv2

    weight = pixels[..., 3].astype(np.float32)
    window = (2 * _REACH + 1, 2 * _REACH + 1)
    near = cv2.boxFilter(weight, -1, window)
    colour = pixels[..., :3].copy()
    empty = (pixels[..., 3] == 0) & (near > 0)
    for channel in range(3):
        mean = cv2.boxFilter(pixels[..., channel] * weight, -1, window)
        colour[..., channel][empty] = (mean[empty] / near[empty]).astype(pixels.dtype)
    return colour
