"""Arrays to image bytes, with profile, EXIF and resolution.

PNG and TIFF are written here: Intel's ISA-L packs the rows ten to twenty times faster than Pillow at its default level
does, at nearly the same size, and both formats may have 16 bits a channel, which Pillow cannot write in colour.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bgimage import metadata
from bgimage._cv import cv2
from bgimage.arrays import eight_bits
from bgimage.errors import OptionError
from bgimage.ifd import LONG, RATIONAL, SHORT, UNDEFINED, Value, value, written

Pixels = NDArray[np.uint8 | np.uint16]


class Picture(Protocol):
    """What the PNG encoder asks of an array; a picture whose rows are made when they are asked for answers too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""

    def __getitem__(self, rows: slice, /) -> Pixels:
        """Rows from top to bottom."""


ENCODERS = ("png", "webp", "avif", "jpeg", "tiff")
"""What ``encode`` writes."""

QUALITY = {"jpeg": 92, "webp": 85, "avif": 75}
"""Quality where none is asked for."""

_LEVEL = 1  # of isal; 2 and 3 are slower and gain less than a hundredth of the size
_BAND = 128  # rows that are filtered and packed at a time; they stay near the processor
_THREADS = 4  # bands in the making at a time, at most


def encode(
    pixels: Pixels | Picture,
    format: str = "png",
    *,
    quality: int | None = None,
    icc: bytes | None = None,
    exif: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> bytes:
    """Image bytes of an array.

    Args:
        pixels: uint8 (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA with straight alpha; uint16 keeps its 16 bits in PNG
            and TIFF and is rounded to 8 for the others. A ``Picture`` is never whole in memory as PNG.
        format: one of ``ENCODERS``.
        quality: 1..100 for JPEG, WebP and AVIF; None: ``QUALITY``.
        icc: colour profile.
        exif: EXIF block that begins with "Exif\\0\\0".
        dpi: resolution, horizontal and vertical.

    Raises:
        OptionError: an unknown format, RGBA as JPEG, or a side that the format cannot have.
    """
    if format not in ENCODERS:
        raise OptionError(f"format={format!r}: use one of {', '.join(ENCODERS)}")
    if format == "jpeg" and pixels.shape[2:] == (4,):
        raise OptionError(
            "format='jpeg' has no transparency; give background= a colour, or use png, webp or avif"
        )
    longest = {"webp": 16_383, "jpeg": 65_500, "avif": 65_536}.get(format)
    if longest is not None and max(pixels.shape[:2]) > longest:
        raise OptionError(
            f"format={format!r}: a side of {max(pixels.shape[:2])} pixels, at most {longest}; use png"
        )
    if format == "png":
        return _png(pixels, icc, exif, dpi)
    pixels = np.ascontiguousarray(pixels[:])
    if format == "tiff":
        return _tiff(pixels, icc, exif, dpi)
    extra: dict[str, Any] = {"icc_profile": icc, "exif": exif, "dpi": dpi}
    settings: dict[str, Any] = {name: value for name, value in extra.items() if value is not None}
    settings["quality"] = quality or QUALITY[format]
    if format == "webp":
        settings["method"] = 1  # 4, the default, takes three times as long for a few hundredths of the size
    if format == "avif":
        settings |= {"speed": 9, "max_threads": 1}
    out = io.BytesIO()
    Image.fromarray(eight_bits(pixels)).save(out, format, **settings)
    return out.getvalue()


def _png(
    pixels: Pixels | Picture, icc: bytes | None, exif: bytes | None, dpi: tuple[float, float] | None
) -> bytes:
    """PNG (ISO/IEC 15948:2004), 8 or 16 bits, grey, RGB or RGBA.

    Bands are made, filtered and packed each by itself, so that threads can share them out; the result does not depend
    on their number.
    """
    from isal import isal_zlib

    height, width = pixels.shape[:2]
    channels = 1 if len(pixels.shape) == 2 else pixels.shape[2]
    colour_type = {1: 0, 3: 2, 4: 6}[channels]
    depth = pixels.dtype.itemsize
    out = [b"\x89PNG\r\n\x1a\n"]

    def chunk(kind: bytes, data: bytes) -> None:
        out.extend((struct.pack(">I", len(data)), kind, data))
        out.append(struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(kind))))

    def packed(top: int) -> tuple[bytes, int, int]:
        """A part of the Deflate stream that ends on a byte; Adler-32 and length of what it unpacks to."""
        rows = _filtered(pixels[top : top + _BAND], channels * depth)
        packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15)
        ends = isal_zlib.Z_FINISH if top + _BAND >= height else isal_zlib.Z_SYNC_FLUSH
        return packer.compress(rows) + packer.flush(ends), isal_zlib.adler32(rows), rows.size

    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth * 8, colour_type, 0, 0, 0))
    if icc:
        chunk(b"iCCP", b"icc\0\0" + isal_zlib.compress(icc))
    if dpi:
        chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1))
    if exif:
        chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    chunk(b"IDAT", b"\x78\x01")
    check = 1
    for part, adler, length in _in_order(packed, range(0, height, _BAND)):
        chunk(b"IDAT", part)
        check = _joined(check, adler, length)
    chunk(b"IDAT", struct.pack(">I", check))
    chunk(b"IEND", b"")
    return b"".join(out)


def _in_order(work: Callable[[int], Any], places: range) -> Iterable[Any]:
    """``map``, by as many threads as OpenCV may use here; NumPy, OpenCV and ISA-L let others run meanwhile."""
    threads = min(len(places), _THREADS)
    if threads > 1:
        threads = min(threads, cv2.getNumThreads())
    if threads < 2:
        return map(work, places)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, places))


def _joined(one: int, other: int, length: int) -> int:
    """Adler-32 of two pieces, one after the other, from theirs and the second one's length (as zlib does it)."""
    low = (one & 0xFFFF) + (other & 0xFFFF) - 1
    high = (one >> 16) + (other >> 16) + length * ((one & 0xFFFF) - 1)
    return (high % 65521) << 16 | low % 65521


def _filtered(part: Pixels, step: int) -> NDArray[np.uint8]:
    """A band of PNG rows: a filter byte, then differences to the pixel on the left (1) or above (2).

    The one is taken that leaves less on a sample of the rows; the first row is always filtered by the left, so that
    bands do not need each other. Average and Paeth save another 4 % and take twice as long.
    """
    big_endian = part.astype(">u2") if part.itemsize == 2 else part
    rows = np.ascontiguousarray(big_endian).reshape(len(part), -1).view(np.uint8)
    band = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    left = len(rows)
    if _rest(rows[4::8, step:], rows[4::8, :-step]) > _rest(rows[4::8], rows[3:-1:8]):
        left = 1
    band[:left, 0], band[left:, 0] = 1, 2
    out = band[:, 1:]
    out[:left, :step] = rows[:left, :step]
    np.subtract(rows[:left, step:], rows[:left, :-step], out=out[:left, step:])
    np.subtract(rows[left:], rows[left - 1 : -1], out=out[left:])
    return band


def _rest(values: NDArray[np.uint8], guesses: NDArray[np.uint8]) -> float:
    """Mean distance of bytes to their guesses; 0.0 for a band too short for a sample."""
    count = min(len(values), len(guesses))
    if not count or not values.shape[1]:
        return 0.0
    distance = (values[:count] - guesses[:count]).view(np.int8)
    return float(np.abs(distance.astype(np.int16)).mean())


def _tiff(pixels: Pixels, icc: bytes | None, exif: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    """TIFF 6.0, in EXIF's byte order, 8 or 16 bits, strips packed by Deflate with horizontal differences."""
    from isal import isal_zlib

    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    order, directories = metadata.directories(exif) if exif else ("<", {})
    strips = []
    for top in range(0, height, _BAND):
        rows = pixels[top : top + _BAND].reshape(-1, width, channels).copy()
        rows[:, 1:] -= pixels[top : top + _BAND].reshape(-1, width, channels)[:, :-1]
        stored = rows.astype(f"{order}u{rows.itemsize}", copy=False)
        strips.append(isal_zlib.compress(stored, _LEVEL))
    main = {tag: one for tag, one in directories.get(None, {}).items() if tag not in metadata.POINTERS}
    main |= {
        256: value(order, LONG, width),
        257: value(order, LONG, height),
        258: value(order, SHORT, *[pixels.itemsize * 8] * channels),
        259: value(order, SHORT, 8),  # Deflate
        262: value(order, SHORT, 1 if channels == 1 else 2),  # grey, black is 0; RGB
        274: value(order, SHORT, 1),  # upright
        277: value(order, SHORT, channels),
        278: value(order, LONG, _BAND),
        317: value(order, SHORT, 2),  # horizontal differences
    }
    main[279] = value(order, LONG, *map(len, strips))
    main[273] = value(order, LONG, *[0] * len(strips))  # their length decides where the strips begin
    if channels == 4:
        main[338] = value(order, SHORT, 2)  # straight alpha
    if icc:
        main[34675] = Value(UNDEFINED, icc, order)
    if dpi:
        main[282], main[283] = (value(order, RATIONAL, round(side * 10_000), 10_000) for side in dpi)
        main[296] = value(order, SHORT, 2)
    parts = {**directories, None: main}
    begin = 8 + len(written(order, parts, 8))
    places = np.cumsum([begin, *map(len, strips[:-1])]).tolist()
    main[273] = value(order, LONG, *places)
    mark = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return b"".join((mark, written(order, parts, 8), *strips))
