"""What travels with the pixels besides their colour space: EXIF and resolution.

EXIF is kept by a list. What is not on it stays behind: previews of the old picture (thumbnails, MakerNote, Photoshop's
layers), sizes and positions that describe the old picture, and whatever nobody has thought of.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

from PIL import TiffTags
from PIL.ExifTags import Base

from bgimage.ifd import SHORT, Directory, Tiff, Value, value, written

_ORIENTATION, _EXIF, _GPS = 0x0112, 0x8769, 0x8825
POINTERS = (_EXIF, _GPS)
"""Tags of the first directory that point to another."""
_RESOLUTION = (0x011A, 0x011B, 0x0128)
_NAMES = (
    "ImageDescription Make Model Software DateTime Artist HostComputer Rating RatingPercent Copyright "
    "XPTitle XPComment XPAuthor XPKeywords XPSubject"
)
_TAKEN = (
    "ExifVersion ExposureTime FNumber ExposureProgram SpectralSensitivity ISOSpeedRatings SensitivityType "
    "StandardOutputSensitivity RecommendedExposureIndex ISOSpeed ISOSpeedLatitudeyyy ISOSpeedLatitudezzz "
    "DateTimeOriginal DateTimeDigitized OffsetTime OffsetTimeOriginal OffsetTimeDigitized ShutterSpeedValue "
    "ApertureValue BrightnessValue ExposureBiasValue MaxApertureValue SubjectDistance MeteringMode LightSource Flash "
    "FocalLength SubsecTime SubsecTimeOriginal SubsecTimeDigitized AmbientTemperature Humidity Pressure WaterDepth "
    "Acceleration CameraElevationAngle ExposureIndex SensingMethod FileSource SceneType CustomRendered ExposureMode "
    "WhiteBalance DigitalZoomRatio FocalLengthIn35mmFilm SceneCaptureType GainControl Contrast Saturation Sharpness "
    "SubjectDistanceRange CameraOwnerName BodySerialNumber LensSpecification LensMake LensModel LensSerialNumber"
)
_KEPT: dict[int | None, frozenset[int]] = {
    None: frozenset(int(Base[name]) for name in _NAMES.split()),
    _EXIF: frozenset(int(Base[name]) for name in _TAKEN.split()),
    _GPS: frozenset(range(0x20)),
}
_LONGEST = 2_000
"""Bytes of a value that is kept; with the list's length this keeps a block below the 64 KB that JPEG can hold."""


def _tiff(exif: bytes | None) -> Tiff | None:
    if not exif:
        return None
    try:
        return Tiff(exif.removeprefix(b"Exif\0\0"))
    except ValueError:  # a damaged block is no reason to refuse the photo
        return None


def _directory(tiff: Tiff, at: int) -> Directory:
    try:
        return tiff.directory(at)
    except ValueError:
        return Directory()


def orientation(exif: bytes | None) -> int:
    """EXIF orientation 1..8 of a block; 1 where there is none."""
    tiff = _tiff(exif)
    found = _directory(tiff, tiff.first).number(_ORIENTATION, 1) if tiff else 1
    return found if found in range(1, 9) else 1


def kept_exif(exif: bytes | None, *, gps: bool = True) -> bytes | None:
    """What stays of an EXIF block ("Exif\\0\\0" first), upright; None where nothing does.

    Args:
        exif: a block, with or without "Exif\\0\\0", or a whole TIFF file.
        gps: keep the place.
    """
    tiff = _tiff(exif)
    if not tiff:
        return None
    top = _directory(tiff, tiff.first)
    kept: dict[int | None, dict[int, Value]] = {}
    for name, tags in _KEPT.items():
        if name is None:
            kept[name] = _of(top, tags)
        elif name in top and (gps or name != _GPS):
            kept[name] = _of(_directory(tiff, top.number(name)), tags)
    if _dpi(top):
        kept[None] |= _of(top, frozenset(_RESOLUTION))
    if _ORIENTATION in top:
        kept[None][_ORIENTATION] = value(tiff.order, SHORT, 1)
    if not any(kept.values()):
        return None
    mark = b"II*\0\x08\0\0\0" if tiff.order == "<" else b"MM\0*\0\0\0\x08"
    return b"Exif\0\0" + mark + written(tiff.order, kept, 8)


def _of(directory: Directory, tags: frozenset[int]) -> dict[int, Value]:
    return {
        tag: one
        for tag, one in directory.items()
        if tag in tags and len(one.data) <= _LONGEST and one.kind in _kinds(tag)
    }


def _kinds(tag: int) -> Container[int]:
    """The types that a tag may have: encoders fail at others, such as a name that is a number."""
    known = TiffTags.lookup(tag).type
    return (known,) if known else range(1, 13)


def directories(exif: bytes) -> tuple[str, dict[int | None, Mapping[int, Value]]]:
    """Byte order and directories of a block that ``kept_exif`` made."""
    tiff = Tiff(exif.removeprefix(b"Exif\0\0"))
    top = tiff.directory(tiff.first)
    return tiff.order, {None: top} | {tag: tiff.directory(top.number(tag)) for tag in POINTERS if tag in top}


def exif_dpi(exif: bytes | None) -> tuple[float, float] | None:
    """Horizontal and vertical resolution that an EXIF block or a TIFF's first directory says."""
    tiff = _tiff(exif)
    return _dpi(_directory(tiff, tiff.first)) if tiff else None


def _dpi(directory: Directory) -> tuple[float, float] | None:
    across, down, unit = (directory.numbers(tag, 1) for tag in _RESOLUTION)
    inches = {2: 1.0, 3: 2.54}.get(int(unit[0]) if unit else 2)
    return dpi((across[0] * inches, down[0] * inches)) if across and down and inches else None


def dpi(value: Any) -> tuple[float, float] | None:
    """A resolution that every format can hold, 1 to 65,535 pixels an inch; None for any other."""
    try:
        across, down = (float(one) for one in value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    sane = all(math.isfinite(one) and 1 <= one <= 65_535 for one in (across, down))
    return (across, down) if sane else None
