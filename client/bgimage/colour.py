"""Colour spaces: ICC profiles read, made and applied; what PNG and AVIF say of colours without one, as a profile.

Pixels keep their numbers and get the profile that says what they mean. Grey and CMYK alone are converted, because no
RGB profile describes them.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bgimage._cv import cv2
from bgimage.errors import UnknownFormat

SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""x, y of white, red, green and blue."""
_PRIMARIES = {  # ITU-T H.273, table 2; 2 (unspecified) and what is not here are taken for sRGB's
    1: SRGB_PRIMARIES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (0.3127, 0.3290, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}  # table 3; browsers show every other curve without HDR as sRGB's
_WHITE_NITS = (
    203.0  # ITU-R BT.2408: the white of paper; what shines brighter is cut, as on a screen without HDR
)
MAX_PROFILE = 16 << 20
"""Bytes of a profile; a longer one is dropped. JPEG can hold as much."""


def of_gamma(gamma: float | None, primaries: tuple[float, ...] | None) -> bytes | None:
    """The profile that a PNG's gAMA and cHRM stand for (ISO/IEC 15948, 11.3.3); None for sRGB.

    Args:
        gamma: exponent from light to numbers, such as 0.45455; None: sRGB's curve.
        primaries: x, y of white, red, green and blue; None: sRGB's.
    """
    curve = None if gamma is None or abs(gamma * 2.2 - 1) < 0.01 else _para(1 / gamma)
    return _profile(primaries or SRGB_PRIMARIES, curve)


def of_code_points(primaries: int, transfer: int) -> bytes | None:
    """The profile that ``cICP`` or ``nclx`` stands for (ITU-T H.273); None for sRGB."""
    if transfer in _GAMMAS:
        curve = _para(_GAMMAS[transfer])
    elif transfer in (16, 18):
        signal = np.linspace(0, 1, 4096)
        light = _pq(signal) / _WHITE_NITS if transfer == 16 else _hlg(signal) / _hlg(np.float64(0.75))
        curve = _table(light)
    else:
        curve = None
    return _profile(_PRIMARIES.get(primaries, SRGB_PRIMARIES), curve)


def _pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light in candela a square metre of a PQ signal (SMPTE ST 2084)."""
    power = signal ** (1 / 78.84375)
    light: NDArray[np.float64] = 10_000 * (
        np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    ) ** (1 / 0.1593017578125)
    return light


def _hlg(signal: Any) -> Any:
    """Scene light of an HLG signal, 0..1 (ITU-R BT.2100)."""
    high = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(signal <= 0.5, signal**2 / 3, high)


def nclx(data: bytes) -> bytes | None:
    """The profile that the first colour box of a HEIC or AVIF stands for (ISO/IEC 14496-12, 12.1.5)."""
    at = data.find(b"colrnclx", 0, 1 << 20)
    if at < 0 or at + 12 > len(data):
        return None
    return of_code_points(*struct.unpack_from(">2H", data, at + 8))


def _para(gamma: float) -> bytes:
    """A curve number ** gamma (ICC.1:2022, 10.18)."""
    return struct.pack(">4s4xHxxi", b"para", 0, round(gamma * 65536))


def _table(light: NDArray[np.float64]) -> bytes:
    levels = np.rint(light.clip(0, 1) * 65535).astype(">u2")
    head = struct.pack(">4s4xI", b"curv", len(levels))
    return head + bytes(levels.tobytes())


_SRGB_CURVE = struct.pack(
    ">4s4xHxx5i", b"para", 3, *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)


def _profile(primaries: tuple[float, ...], curve: bytes | None) -> bytes | None:
    """An RGB profile of three primaries and one curve (ICC.1:2022); None for sRGB or for impossible primaries."""
    if curve is None and np.abs(np.subtract(primaries, SRGB_PRIMARIES)).max() < 0.002:
        return None
    x, y = np.array(primaries).reshape(4, 2).T
    if not (np.isfinite(primaries).all() and y.min() > 0.001):
        return None
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    white, corners = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(corners)) < 1e-6:
        return None
    # Bradford's adaptation to D50, the profile's white (ICC.1:2022, annex E)
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapt = np.linalg.inv(cone) @ np.diag((cone @ d50) / (cone @ white)) @ cone
    columns = adapt @ (corners * np.linalg.solve(corners, white))

    def xyz_tag(values: Any) -> bytes:
        return struct.pack(">4s4x3i", b"XYZ ", *(round(float(v) * 65536) for v in values))

    def text_tag(text: str) -> bytes:
        head = struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", 2 * len(text), 28)
        return bytes(head + text.encode("utf-16-be"))

    tags = {b"desc": text_tag("RGB"), b"cprt": text_tag("CC0"), b"wtpt": xyz_tag(d50)}
    tags |= {name: xyz_tag(columns[:, n]) for n, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= {b"rTRC": curve or _SRGB_CURVE}
    table, heap, at = [], [], 128 + 4 + 12 * (len(tags) + 2)
    for name, data in tags.items():
        table.append(struct.pack(">4sII", name, at, len(data)))
        if name == b"rTRC":
            table += [struct.pack(">4sII", other, at, len(data)) for other in (b"gTRC", b"bTRC")]
        heap.append(data + bytes(-len(data) % 4))
        at += len(heap[-1])
    head = struct.pack(">I4sI4s4s4s12x4s", at, bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    head += bytes(68 - len(head)) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(table)) + b"".join(table + heap)


def kind(profile: bytes | None) -> str:
    """ "RGB", "GRAY", "CMYK" ...: what a profile describes; "" where there is none to use."""
    if not profile or not 128 <= len(profile) <= MAX_PROFILE:
        return ""
    return profile[16:20].decode("latin-1").strip()


def grey_in_srgb(levels: NDArray[Any], curve: NDArray[np.float64]) -> NDArray[Any]:
    """Grey levels, uint8 or uint16, whose light is ``curve`` (linear 0..1 over 0..1), as sRGB's."""
    depth = np.iinfo(levels.dtype).max
    light = np.interp(np.linspace(0, 1, depth + 1), np.linspace(0, 1, len(curve)), curve).clip(0, 1)
    table = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    converted: NDArray[Any] = np.rint(table * depth).astype(levels.dtype)[levels]
    return converted


_FORMS: tuple[Callable[..., tuple[float, ...]], ...] = (
    lambda g: (g, 1, 0, 0, 0, 0, 0),
    lambda g, a, b: (g, a, b, 0, -b / a, 0, 0),
    lambda g, a, b, c: (g, a, b, 0, -b / a, c, c),
    lambda g, a, b, c, d: (g, a, b, c, d, 0, 0),
    lambda *all_seven: all_seven,
)
"""Parametric curves 0 to 4 as (a x + b) ** g + e from d on, c x + f below (ICC.1:2022, table 68)."""


def grey_curve(profile: bytes | None) -> NDArray[np.float64] | None:
    """Light over grey level, both 0..1, of a grey profile (its tag kTRC; ICC.1:2022, 10.6 and 10.18), or None."""
    if kind(profile) != "GRAY" or profile is None:
        return None
    try:
        count = min(struct.unpack_from(">I", profile, 128)[0], 100)
        entries = [struct.unpack_from(">4sII", profile, 132 + 12 * n) for n in range(count)]
        tag = next(profile[at : at + size] for name, at, size in entries if name == b"kTRC")
        level = np.linspace(0, 1, 65_536)
        number: int = struct.unpack_from(">I", tag, 8)[0]
        if tag[:4] == b"curv" and number < 2:
            gamma: float = struct.unpack_from(">H", tag, 12)[0] / 256 if number else 1
            return np.asarray(level**gamma)
        if tag[:4] == b"curv":
            return np.frombuffer(tag, ">u2", number, 12) / 65_535
        if tag[:4] == b"para":
            form = struct.unpack_from(">H", tag, 8)[0]
            numbers = struct.unpack_from(f">{(1, 3, 4, 5, 7)[form]}i", tag, 12)
            g, a, b, c, d, e, f = _FORMS[form](*(n / 65_536 for n in numbers))
            return np.asarray(np.where(level >= d, np.maximum(a * level + b, 0) ** g + e, c * level + f))
    except (struct.error, StopIteration, ValueError, IndexError, ZeroDivisionError):
        pass  # a damaged profile: show the numbers as they are
    return None


def grey_as_rgb(levels: NDArray[Any], icc: bytes | None) -> NDArray[Any]:
    """Grey (H, W) as RGB (H, W, 3), in sRGB where a grey profile says what the levels mean."""
    curve = grey_curve(icc)
    return np.repeat((levels if curve is None else grey_in_srgb(levels, curve))[..., None], 3, axis=2)


def rgb_of(image: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """RGB (H, W, 3) and alpha (H, W) of any Pillow image, uint8 or uint16; alpha None where it is opaque."""
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        levels = levels if levels.dtype == np.uint16 else np.clip(levels, 0, 65535)
        return grey_as_rgb(levels.astype(np.uint16), icc), None
    if image.mode == "F":
        raise UnknownFormat(
            "floating-point pixels have no agreed range; save the photo with 8 or 16 bits a channel"
        )
    if image.mode in ("CMYK", "LAB"):
        return np.asarray(cmyk_to_srgb(image) if image.mode == "CMYK" else lab_to_srgb(image)), None
    if image.has_transparency_data:
        rgba = np.asarray(_in_mode(image, "RGBA"))
        grey = image.mode in ("L", "LA")
        pixels = grey_as_rgb(rgba[..., 0], icc) if grey else np.ascontiguousarray(rgba[..., :3])
        return pixels, np.ascontiguousarray(rgba[..., 3])
    if image.mode in ("1", "L"):
        return grey_as_rgb(np.asarray(image.convert("L")), icc), None
    return np.asarray(_in_mode(image, "RGB")), None


def _in_mode(image: Any, mode: str) -> Any:
    """``image`` itself where it has that mode: Pillow would copy it."""
    return image if image.mode == mode else image.convert(mode)


def cmyk_to_srgb(image: Any) -> Image.Image:
    """A CMYK image in sRGB, by its own profile where it has a usable one."""
    profile = image.info.get("icc_profile")
    if kind(profile) == "CMYK":
        from PIL import ImageCms

        try:
            return _transformed(image, profile, None)
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")  # type: ignore[no-any-return]


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """A CIE L*a*b* image (D50) in sRGB."""
    return _transformed(image, None, None)


def to_srgb(pixels: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) in the RGB space of ``profile``, as sRGB; unchanged where the profile cannot be read."""
    return pixels if is_srgb(profile) else _converted(pixels, profile, None)


def from_srgb(pixels: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) sRGB in the RGB space of ``profile``; unchanged where the profile cannot be read."""
    return pixels if is_srgb(profile) else _converted(pixels, None, profile)


@functools.lru_cache(maxsize=16)
def is_srgb(profile: bytes) -> bool:
    """True where a profile gives every colour the number that sRGB gives it, whatever its name is."""
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, len(steps), 3)
    return bool(cv2.absdiff(_converted(cube, profile, None), cube).max() <= 1)


def _converted(pixels: NDArray[np.uint8], own: bytes | None, other: bytes | None) -> NDArray[np.uint8]:
    from PIL import ImageCms

    try:
        return np.asarray(_transformed(Image.fromarray(pixels), own, other))
    except (ImageCms.PyCMSError, OSError):  # a damaged profile: show the numbers as they are
        return pixels


def _transformed(image: Any, own: bytes | None, other: bytes | None) -> Image.Image:
    """``image`` from one profile to the other, RGB; None stands for sRGB, or for L*a*b* where the image is."""
    from PIL import ImageCms

    def opened(profile: bytes | None, name: Literal["LAB", "sRGB"]) -> Any:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile) if profile else ImageCms.createProfile(name))

    source = opened(own, "LAB" if image.mode == "LAB" else "sRGB")
    changed = ImageCms.profileToProfile(image, source, opened(other, "sRGB"), outputMode="RGB")
    assert changed is not None  # only a change in place returns nothing
    return changed
