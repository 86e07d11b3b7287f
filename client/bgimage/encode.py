"""Arrays to image bytes, with profile, EXIF and resolution."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bgimage.errors import OptionError

Pixels = NDArray[np.uint8 | np.uint16]

ENCODERS = ("png", "webp", "avif", "jpeg", "tiff")
"""What ``encode`` writes."""


def encode(
    pixels: Pixels,
    format: str = "png",
    *,
    quality: int | None = None,
    icc: bytes | None = None,
    exif: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> bytes:
    """Image bytes of ``pixels``: uint8 (uint16 for PNG and TIFF) (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA."""
    if format not in ENCODERS:
        raise OptionError(f"format={format!r}: use one of {', '.join(ENCODERS)}")
    if format == "jpeg" and pixels.ndim == 3 and pixels.shape[2] == 4:
        raise OptionError(
            "format='jpeg' has no transparency; give background= a colour, or use png, webp or avif"
        )
    extra: dict[str, Any] = {"icc_profile": icc, "exif": exif, "dpi": dpi}
    settings: dict[str, Any] = {k: v for k, v in extra.items() if v is not None}
    if format == "png":
        settings["compress_level"] = 1
    elif quality is not None or format == "jpeg":
        settings["quality"] = quality or 92
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **settings)
    return out.getvalue()
