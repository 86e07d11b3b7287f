"""What travels with the pixels: EXIF, colour profile, resolution."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION, _GPS = 0x0112, 0x8825
_TIFF_LAYOUT = {
    *range(0x00FE, 0x010A),
    0x010A,
    *range(0x0111, 0x011A),
    0x011C,
    *range(0x0120, 0x0126),
    0x013D,
}
_TIFF_LAYOUT |= {*range(0x0140, 0x0161), *range(0x0200, 0x0215), 0x02BC, 0x83BB, 0x8649, 0x8773}
"""Tags of a TIFF's first directory that describe its own strips, tiles, tables and embedded blocks."""


def _exif(image: Any) -> Image.Exif | None:
    try:
        exif: Image.Exif = Image.Image.getexif(image)  # a PNG's own method decodes the pixels first
        len(exif)
    except Exception:  # a damaged block is no reason to refuse the photo
        return None
    return exif


def orientation(image: Any) -> int:
    """EXIF orientation 1..8 of a Pillow image; 1 where there is none."""
    exif = _exif(image)
    value = exif.get(_ORIENTATION, 1) if exif else 1
    return value if value in range(1, 9) else 1


def upright_exif(image: Any) -> bytes | None:
    """The image's EXIF block with orientation 1 and without its thumbnail, which would show the old background."""
    exif = _exif(image)
    if not exif:
        return None
    if _ORIENTATION in exif:
        exif[_ORIENTATION] = 1
    if image.format == "TIFF":
        for tag in _TIFF_LAYOUT & set(exif):
            del exif[tag]
    if not exif:
        return None
    try:
        return exif.tobytes()
    except Exception:  # a value that its own type cannot hold
        return None


def without_gps(exif: bytes) -> bytes:
    """``exif`` without its GPS directory."""
    block = Image.Exif()
    block.load(exif)
    if _GPS in block:
        del block[_GPS]
    return block.tobytes()


def rgb_profile(image: Any) -> bytes | None:
    """The image's ICC profile where it describes RGB; a CMYK or grey one does not fit the converted pixels."""
    profile: bytes | None = image.info.get("icc_profile")
    return profile if profile and len(profile) >= 128 and profile[16:20] == b"RGB " else None


def cmyk_to_srgb(image: Any) -> Image.Image:
    """A CMYK image in sRGB, by its own profile where it has a usable one."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if profile and profile[16:20] == b"CMYK":
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except ImageCms.PyCMSError:
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")  # type: ignore[no-any-return]


def dpi(image: Any) -> tuple[float, float] | None:
    """Horizontal and vertical resolution, where the file says a positive one."""
    value = image.info.get("dpi")
    if not value:
        return None
    across, down = float(value[0]), float(value[1])
    return (across, down) if across > 0 and down > 0 else None


def to_srgb(pixels: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) in the RGB space of ``profile``, as sRGB; unchanged where the profile cannot be read."""
    return _converted(pixels, profile, to_srgb=True)


def from_srgb(pixels: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) sRGB in the RGB space of ``profile``; unchanged where the profile cannot be read."""
    return _converted(pixels, profile, to_srgb=False)


def _converted(pixels: NDArray[np.uint8], profile: bytes, *, to_srgb: bool) -> NDArray[np.uint8]:
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return pixels
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        pair = (own, srgb) if to_srgb else (srgb, own)
        changed = ImageCms.profileToProfile(Image.fromarray(pixels), *pair, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a damaged profile: show the numbers as they are
        return pixels
    return pixels if changed is None else np.asarray(changed)
