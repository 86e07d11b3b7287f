"""Photo bytes to upright RGB arrays: libjpeg-turbo for JPEG, Pillow for the rest, OpenCV where 16 bits matter.

The format is told from the first bytes and only its own decoder is tried. Limits are checked against the header,
before a pixel is decoded.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import math
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bgimage import colour, metadata
from bgimage._cv import cv2
from bgimage.arrays import eight_bits
from bgimage.dropped import dropped
from bgimage.encode import Pixels, encode
from bgimage.errors import (
    BatchTooLarge,
    BgError,
    BrokenPhoto,
    DecodeTooSlow,
    EmptyPhoto,
    MissingCodec,
    PhotoTooLarge,
    SideTooLong,
    TooManyPixels,
    UnknownFormat,
)
from bgimage.jpeg import MAX_SCANS, Jpeg
from bgimage.once import cached_property
from bgimage.png import CHANNELS, Png
from bgimage.tiff import Layout
from bgimage.tiles import MIDDLE, block_means, factor

__all__ = [
    "FORMATS",
    "Limits",
    "Photo",
    "PhotoInfo",
    "Pixels",
    "check_batch",
    "decode",
    "encode",
    "photo_from",
    "probe",
    "sniff",
]

FORMATS = ("jpeg", "png", "webp", "avif", "heic", "tiff", "bmp", "gif")
"""What ``decode`` reads; HEIC with the extra ``heif``."""

_PLUGINS = {
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "avif": ("bgimage.avif", "AvifPhoto"),
    "heic": ("pillow_heif", "HeifImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
}


_RAW_FILES = (
    (0, b"FUJIFILMCCD-RAW"),
    (0, b"IIRO"),
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"IIU\0"),
    (0, b"FOVb"),
    (0, b"\0MRM"),
    (4, b"ftypcrx "),
)
"""Offsets and first bytes of raw files that are not TIFF."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a photo may cost, and those of one request together. Each has its own error."""

    max_bytes: int = 64 * 1024 * 1024
    """Encoded size, else ``PhotoTooLarge``."""
    max_pixels: int = 64_000_000
    """Width times height, told from the header, else ``TooManyPixels``."""
    max_side: int = 32_767
    """Longest side in pixels (OpenCV's filters stop at 32,767), else ``SideTooLong``."""
    max_batch_bytes: int = 64 * 1024 * 1024
    """Encoded sizes of the photos of one request together, else ``BatchTooLarge``; one alone has ``max_bytes``."""
    max_batch_pixels: int = 128_000_000
    """Pixels of the photos of one request together, else ``BatchTooLarge``; one alone has ``max_pixels``."""
    max_decode_s: float = 20.0
    """Seconds of decoding, else ``DecodeTooSlow``: a JPEG's scans are estimated beforehand, block-wise decoders (PNG,
    GIF, BMP) are stopped on the way; WebP, AVIF, HEIC, TIFF and PNG of 16 bits decode in one call that ``max_pixels``
    alone bounds."""

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"Limits.{field}={value}: must be above 0")


@dataclass(frozen=True)
class PhotoInfo:
    """What the header says."""

    format: str
    """One of ``FORMATS``."""
    size_hw: tuple[int, int]
    """Height and width after EXIF orientation, pixels."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo, upright."""

    pixels: Pixels
    """uint8 or uint16 (H, W, 3), RGB, in the colour space that ``icc`` names (sRGB without one)."""
    alpha: Pixels | None = None
    """Transparency that the photo already had: same dtype, (H, W)."""
    icc: bytes | None = None
    """RGB profile of ``pixels``."""
    exif: bytes | None = None
    """EXIF block ("Exif\\0\\0" first), orientation reset to 1, thumbnail of the old picture removed."""
    dpi: tuple[float, float] | None = None
    """Resolution, horizontal and vertical."""
    format: str | None = None
    """Format it came in, one of ``FORMATS``; None when made from an array."""
    size_hw: tuple[int, int] = (0, 0)
    """Full upright size, also when ``pixels`` were decoded reduced; defaults to the size of ``pixels``."""
    dropped: tuple[str, ...] = ()
    """What else the file held and no cut-out keeps: "XMP", "C2PA", "HDR gain map" (``bgimage.dropped``)."""

    def __post_init__(self) -> None:
        if self.size_hw == (0, 0):
            object.__setattr__(self, "size_hw", self.pixels.shape[:2])

    @cached_property
    def middle(self) -> NDArray[np.uint8]:
        """Means of k x k blocks, k = ``tiles.factor(shape, tiles.MIDDLE)``: uint8 (h, w, 3), kept once made."""
        pixels = eight_bits(self.pixels)  # first: a photo with 16 bits then has the matte of its 8-bit twin
        means: NDArray[np.uint8] = block_means(pixels, factor((pixels.shape[0], pixels.shape[1]), MIDDLE))
        return means


class _TimedBytes(io.BytesIO):
    """Bytes that stop answering at a deadline; Pillow's block-wise decoders read 64 KiB at a time."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        super().__init__(data)
        self._limit_s = limits.max_decode_s
        self._deadline = time.monotonic() + limits.max_decode_s

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._deadline:
            raise DecodeTooSlow(
                f"decoding took more than max_decode_s={self._limit_s:g} s; send a smaller photo"
            )
        return super().read(size)


def sniff(data: bytes) -> str:
    """Name of the format that the first bytes announce, one of ``FORMATS``; ``UnknownFormat`` for any other."""
    head = data[:64]
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:2] == b"BM":
        return "bmp"
    if head[4:8] == b"ftyp":
        box = int.from_bytes(head[:4], "big")
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(box, 64), 4))}
        if brands & {b"avif", b"avis"}:
            return "avif"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "heic"
    if any(head[at:].startswith(mark) for at, mark in _RAW_FILES):
        raise UnknownFormat(
            "a raw file (CR3, RAF, ORF, RW2 or the like) is not read here; develop it and send the JPEG or TIFF"
        )
    raise UnknownFormat(
        f"{len(data)} bytes that begin with {data[:8].hex(' ')}: not one of {', '.join(FORMATS)}"
    )


def _open(data: bytes, format: str, limits: Limits) -> Any:
    """Pillow image whose header is read and whose pixels are not.

    The format's own plugin is called, not ``Image.open``: no other decoder gets to see the bytes, and Pillow's
    process-wide pixel limit and its warning stay out of the way of ``Limits``.
    """
    if format == "webp":
        _check_size(_webp_size_hw(data), limits)  # Pillow's plugin allocates the canvas when it opens
    try:
        return _plugin(format)(_TimedBytes(data, limits))
    except BgError:
        raise
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"{format.upper()} of more pixels than max_pixels={limits.max_pixels}") from error
    except Exception as error:  # whatever hostile bytes make of a foreign parser
        raise BrokenPhoto(
            f"{format.upper()} header of {len(data)} bytes cannot be read; save the photo again"
        ) from error


def _plugin(format: str) -> Any:
    module, name = _PLUGINS[format]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingCodec(f"{format.upper()} needs {module}; pip install 'bgclient[heif]'") from error


def _webp_size_hw(data: bytes) -> tuple[int, int]:
    """Canvas size from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    chunk = data[12:16]
    if chunk == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if chunk == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        return height & 0x3FFF, width & 0x3FFF
    raise BrokenPhoto(f"WEBP of {len(data)} bytes has no picture in it; save the photo again")


def _webp_frame(data: bytes) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of an animation's first frame (RFC 9649, section 2.7.1.1); None for a still."""
    at = 12
    for _ in range(16):  # header, profile, background colour: the first frame comes soon
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"ANMF":
            left, top, width, height = (
                int.from_bytes(data[at + n : at + n + 3], "little") for n in (8, 11, 14, 17)
            )
            return 2 * left, 2 * top, 2 * left + width + 1, 2 * top + height + 1
        at += 8 + size + size % 2
    return None


def _check_size(size_hw: tuple[int, int], limits: Limits) -> None:
    height, width = size_hw
    if min(height, width) < 1 or max(height, width) > limits.max_side:
        raise SideTooLong(
            f"{width} x {height} pixels: a side must be 1 to max_side={limits.max_side}; scale it down"
        )
    if height * width > limits.max_pixels:
        raise TooManyPixels(
            f"{width} x {height} = {height * width / 1e6:.1f} megapixels, "
            f"allowed are {limits.max_pixels / 1e6:g}; scale it down"
        )


def _check_scans(scans: int, size_hw: tuple[int, int], limits: Limits) -> None:
    """Refuse a JPEG whose scans alone would take too long: a few bytes each, each visits every block."""
    if scans > MAX_SCANS:
        raise DecodeTooSlow(f"a JPEG of more than {MAX_SCANS} scans; save the photo again")
    seconds = scans * size_hw[0] * size_hw[1] * _S_PER_PIXEL_AND_SCAN
    if seconds > limits.max_decode_s:
        raise DecodeTooSlow(
            f"{scans} scans over {size_hw[0] * size_hw[1] / 1e6:.1f} megapixels would take more than "
            f"max_decode_s={limits.max_decode_s:g} s; save the photo again"
        )


_S_PER_PIXEL_AND_SCAN = 1e-8
"""An empty refinement scan was measured to take 1.3 to 2.6 ms of a core a megapixel. Four times that on a machine that
does other things too; a photo's ten scans still leave 200 megapixels."""


@dataclass
class _Header:
    """A photo after every check that needs no pixels."""

    format: str
    size_hw: tuple[int, int]
    """As stored, before orientation."""
    orientation: int
    read: Callable[[int | None], tuple[Pixels, Pixels | None, int]]
    """Pixels, alpha and the orientation still to be applied; of a JPEG maybe reduced (see ``decode``)."""
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    scans: int = 0
    """Of a JPEG."""
    stored_bytes: int = 0
    """That the samples of a TIFF take before they are pixels."""

    @property
    def upright_hw(self) -> tuple[int, int]:
        return self.size_hw[::-1] if self.orientation >= 5 else self.size_hw


def _header(data: bytes, limits: Limits) -> _Header:
    if not data:
        raise EmptyPhoto("0 bytes; send the whole file")
    if len(data) > limits.max_bytes:
        raise PhotoTooLarge(
            f"{len(data)} bytes, allowed are {limits.max_bytes}; scale it down or compress it more"
        )
    format = sniff(data)
    try:
        header = _HEADERS.get(format, _other)(data, format, limits)
    except BgError:
        raise
    except Exception as error:  # whatever hostile bytes make of a parser
        raise BrokenPhoto(
            f"{format.upper()} header of {len(data)} bytes cannot be read; save the photo again"
        ) from error
    _check_size(header.size_hw, limits)
    if header.scans:
        _check_scans(header.scans, header.size_hw, limits)
    most = max(_SMALL_BYTES, 16 * math.prod(header.size_hw))
    if header.stored_bytes > most:
        raise TooManyPixels(
            f"{format.upper()} of {header.size_hw[1]} x {header.size_hw[0]} pixels that are stored in "
            f"{header.stored_bytes} bytes; save the photo again"
        )
    return header


_SMALL_BYTES = 64 * 1024 * 1024
"""That every TIFF may need, however small its picture is: a tile is a power of two, a picture is not."""


def _jpeg(data: bytes, format: str, limits: Limits) -> _Header:
    parts = Jpeg.of(data)
    image = _open(parts.bare, format, limits)
    size_hw = (image.height, image.width)
    turned = metadata.orientation(parts.exif)

    def read(at_least: int | None) -> tuple[Pixels, Pixels | None, int]:
        pixels = _decode_jpeg(parts.bare, image.mode, size_hw, at_least, limits)
        if image.mode == "L":
            pixels = colour.grey_as_rgb(np.ascontiguousarray(pixels[..., 0]), icc)
        return pixels, None, turned

    icc = image.info.get("icc_profile")
    dpi = image.info.get("dpi") or parts.dpi
    return _Header(format, size_hw, turned, read, icc, parts.exif, dpi, scans=parts.scans)


_MOST_INFLATED = 1032
"""Bytes that deflate can make of one: at least two bits stand for at most 258 bytes (RFC 1951)."""


def _png(data: bytes, format: str, limits: Limits) -> _Header:
    parts = Png.of(data)
    image = _open(parts.bare, format, limits)
    turned, icc = metadata.orientation(parts.exif), parts.icc

    def read(_: int | None) -> tuple[Pixels, Pixels | None, int]:
        row_bytes = image.width * parts.depth * CHANNELS[parts.colour_type] // 8
        if image.height * row_bytes > _MOST_INFLATED * len(data):
            raise ValueError("the pixels are not in it")  # before memory is made for them
        if parts.depth == 16 and parts.colour_type in (2, 4, 6):
            pixels, alpha = _decode_deep(parts.checked())
        else:
            loaded = _loaded(image, parts, limits)
            if parts.colour_type == 0:
                grey = np.asarray(loaded.convert("L") if loaded.mode == "1" else loaded)
                pixels, alpha = (
                    np.repeat(grey.astype(grey.dtype.newbyteorder("="))[..., None], 3, axis=2),
                    None,
                )
            else:
                pixels, alpha = colour.rgb_of(loaded)
        if parts.key is not None:
            full = np.iinfo(pixels.dtype).max
            key = np.array(parts.key) * (full // ((1 << parts.depth) - 1))
            alpha = np.where((pixels == key).all(-1), 0, full).astype(pixels.dtype)
        if parts.colour_type in (0, 4):
            pixels = colour.grey_as_rgb(np.ascontiguousarray(pixels[..., 0]), icc)
        return pixels, alpha, turned

    return _Header(format, (image.height, image.width), turned, read, icc, parts.exif, parts.dpi)


def _loaded(image: Any, parts: Png, limits: Limits) -> Any:
    """A PNG with its pixels. Wrong checksums are forgiven, as every viewer does; missing pixels are not."""
    try:
        image.load()
    except BgError:
        raise
    except Exception:
        image = _open(parts.checked(), "png", limits)
        image.load()
    last = np.asarray(image.crop((0, max(0, image.height - 2), image.width, image.height)))
    if not last.reshape(len(last), -1).any(1).all():  # Pillow leaves missing rows at 0, and says nothing
        parts.checked()
    return image


def _tiff(data: bytes, format: str, limits: Limits) -> _Header:
    layout = Layout.of(data)

    def opened(data: bytes) -> Any:
        image = _plugin(format)(_TimedBytes(data, limits))
        image.info.pop("dpi", None)
        return image

    def read(_: int | None) -> tuple[Pixels, Pixels | None, int]:
        return layout.read(data, opened)

    icc = layout.icc if layout.photometric in (2, 3, 6) else None
    dpi = metadata.exif_dpi(data)
    stored = layout.stored_bytes
    return _Header(format, layout.size_hw, layout.orientation, read, icc, data, dpi, stored_bytes=stored)


MAX_GIF_BLOCKS = 10_000
"""Blocks of at most 255 bytes before a GIF's first frame: comments and XMP."""


def _check_gif(data: bytes) -> None:
    """ValueError for a GIF with more blocks before its picture than any has (GIF89a, 15 and 24)."""
    at = 13 + (3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 0)
    extends = False
    for _ in range(MAX_GIF_BLOCKS):
        if extends:
            extends, at = data[at] > 0, at + 1 + data[at]
        elif data[at] == ord("!"):
            extends, at = True, at + 2
        else:
            return
    raise ValueError(f"more than {MAX_GIF_BLOCKS} blocks before the picture")


def _other(data: bytes, format: str, limits: Limits) -> _Header:
    if format == "gif":
        _check_gif(data)
    image = _open(data, format, limits)
    exif = image.info.get("exif")
    turned = image.turned if format == "avif" else metadata.orientation(exif)

    def read(_: int | None) -> tuple[Pixels, Pixels | None, int]:
        frame = image.tile[0][1] if format == "gif" and image.tile else None
        if format == "webp" and image.mode == "RGB":
            frame = _webp_frame(data)
        pixels, alpha = colour.rgb_of(image)
        if frame and frame != (0, 0, *image.size):  # outside its first frame an animation is transparent
            inside = np.zeros(pixels.shape[:2], np.uint8)
            left, top, right, bottom = frame
            inside[top:bottom, left:right] = 255 if alpha is None else alpha[top:bottom, left:right]
            alpha = inside
        return pixels, alpha, turned

    icc = image.info.get("icc_profile")
    if not icc and format in ("avif", "heic"):
        icc = colour.nclx(data)
    return _Header(format, (image.height, image.width), turned, read, icc, exif, image.info.get("dpi"))


_HEADERS: dict[str, Callable[[bytes, str, Limits], _Header]] = {"jpeg": _jpeg, "png": _png, "tiff": _tiff}


def probe(data: bytes, limits: Limits | None = None) -> PhotoInfo:
    """Format and upright size from the header alone. Raises the same ``PhotoError`` as ``decode`` would."""
    header = _header(data, limits or Limits())
    return PhotoInfo(header.format, header.upright_hw)


def check_batch(photos: Sequence[bytes], limits: Limits | None = None) -> None:
    """Refuse the photos of one request that cost too much together, by their headers. A single one may pass.

    Raises:
        BatchTooLarge: more bytes or pixels than ``limits`` allow.
        PhotoError: what ``probe`` says of one of them.
    """
    limits = limits or Limits()
    if len(photos) < 2:
        return
    size = sum(map(len, photos))
    if size > limits.max_batch_bytes:
        raise BatchTooLarge(
            f"{len(photos)} photos of {size} bytes together, allowed are {limits.max_batch_bytes} in one request; "
            "send them in several"
        )
    pixels = sum(math.prod(probe(photo, limits).size_hw) for photo in photos)
    if pixels > limits.max_batch_pixels:
        raise BatchTooLarge(
            f"{len(photos)} photos of {pixels / 1e6:.1f} megapixels together, "
            f"allowed are {limits.max_batch_pixels / 1e6:g} in one request; send them in several"
        )


def decode(data: bytes, limits: Limits | None = None, *, at_least: int | None = None) -> Photo:
    """The first frame of a photo, upright, with what has to survive of its metadata.

    Args:
        data: the whole file.
        limits: what it may cost; ``Limits()`` by default.
        at_least: pixels; a JPEG may then be decoded at 1/2, 1/4 or 1/8 of its size (in the DCT, which is faster) as
            long as its long side stays at least this long.

    Raises:
        PhotoError: one of its kinds, see ``bgimage.errors``.
    """
    header = _header(data, limits or Limits())
    format = header.format
    try:
        pixels, alpha, orientation = header.read(at_least)
        # a damaged HEIC may decode to another size
        expected = header.upright_hw if orientation == 1 else header.size_hw
        if not (at_least and format == "jpeg") and pixels.shape[:2] != expected:
            raise ValueError(f"{pixels.shape[:2]} pixels where the header says {expected}")
    except BgError:
        raise
    except Exception as error:  # whatever hostile bytes make of a foreign decoder
        raise BrokenPhoto(
            f"{format.upper()} of {len(data)} bytes is cut short or damaged; save the photo again"
        ) from error
    return Photo(
        pixels=_upright(pixels, orientation),
        alpha=None if alpha is None else _upright(alpha, orientation),
        icc=header.icc if colour.kind(header.icc) == "RGB" else None,
        exif=metadata.kept_exif(header.exif),
        dpi=metadata.dpi(header.dpi),
        format=format,
        size_hw=header.upright_hw,
        dropped=dropped(data, format),
    )


def _decode_jpeg(
    data: bytes, mode: str, size_hw: tuple[int, int], at_least: int | None, limits: Limits
) -> Pixels:
    """RGB of a JPEG of that mode of Pillow's; grey is left as it is stored."""
    import simplejpeg

    factor = 1
    if at_least is not None:
        factor = max(f for f in (1, 2, 4, 8) if f == 1 or max(size_hw) >= f * at_least)
    side_hw = (-(-size_hw[0] // factor), -(-size_hw[1] // factor))
    smaller = {}
    if factor > 1:
        smaller = {"min_height": side_hw[0], "min_width": side_hw[1], "min_factor": factor}

    def by_turbojpeg(data: bytes, strict: bool = False) -> Pixels:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=strict, **smaller)
        return pixels

    def by_pillow(data: bytes) -> Pixels:
        image = _open(data, "jpeg", limits)
        if mode == "CMYK":
            return np.asarray(colour.cmyk_to_srgb(image))
        image.draft("RGB", side_hw[::-1])
        return np.asarray(image.convert("RGB"))

    said = "subsampling"
    if mode in ("L", "RGB"):
        try:
            return by_turbojpeg(data, strict=True)
        except ValueError as error:
            said = str(error)
    end = b"\xff\xd9"
    if "subsampling" in said:  # sampling factors that TurboJPEG has no name for, and CMYK
        try:
            return by_pillow(data)
        except OSError:  # no last marker; nothing is missing if what follows does not change the pixels
            pixels = by_pillow(data + end)
            if np.array_equal(pixels, by_pillow(data + bytes(range(1, 255)) + end)):
                return pixels
            raise
    if "remature end of JPEG" in said:
        # Without its last marker a JPEG may still have all its pixels; cut short, this raises once more.
        data += end
        try:
            return by_turbojpeg(data, strict=True)
        except ValueError as error:
            said = str(error)
    if "remature end" in said:
        raise ValueError(said)
    # Stray bytes between markers and the like: every viewer shows such a photo.
    return by_turbojpeg(data)


def _decode_deep(data: bytes) -> tuple[Pixels, Pixels | None]:
    """A PNG of 16 bits a channel, which Pillow would cut to 8: RGB, RGBA, or grey with alpha."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise BrokenPhoto(f"16-bit photo of {len(data)} bytes is cut short or damaged; save the photo again")
    if decoded.shape[2] == 3:
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), None
    return cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGB), np.ascontiguousarray(decoded[..., 3])


def _upright(array: Pixels, orientation: int) -> Pixels:
    """``array`` (H, W[, 3]) turned and mirrored as EXIF orientation 1..8 says (Exif 2.32, tag 0x0112)."""
    if orientation == 1:
        return array
    if orientation in (5, 6, 7, 8):
        array = cv2.transpose(array)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return array if flip is None else cv2.flip(array, flip)


def _unread_file(image: Image.Image) -> bytes | None:
    """The bytes of an image that Pillow has opened and nobody has read or changed since.

    They say more than Pillow hands on: 16 bits a channel, what is transparent, what the colours mean.
    """
    file: Any = getattr(image, "fp", None)
    if file is None or image.format not in ("JPEG", "PNG", "TIFF", "GIF"):
        return None
    try:
        at = file.tell()
        file.seek(0)
        data: bytes = file.read()
        file.seek(at)
        fresh = Image.open(io.BytesIO(data))
    except (OSError, ValueError):  # closed, or a stream that is gone
        return None
    said, meant = ((one.mode, one.size, one.tell(), one.info, dict(one.getexif())) for one in (image, fresh))
    return data if said == meant else None


def _of_pillow(source: Image.Image) -> Photo:
    data = _unread_file(source)
    if data is not None:
        own = Limits(max_bytes=len(data), max_pixels=max(1, source.width * source.height))
        return dataclasses.replace(decode(data, own), format=None)
    tags = getattr(source, "tag_v2", None) or {}
    bits = tags.get(258, (8,))[0]
    if tags and (
        50706 in tags or bits > 16 or tags.get(339, (1,))[0] == 2 or (bits > 8 and tags.get(284) == 2)
    ):
        raise UnknownFormat(
            "Pillow reads this kind of TIFF wrongly, or a raw file's preview only; give the file"
        )
    try:
        source.load()  # a TIFF is turned upright by that, and no longer says that it was turned
        pixels, alpha = colour.rgb_of(source)
    except BgError:
        raise
    except Exception as error:
        raise BrokenPhoto(f"this {source.format or 'PIL'} image is cut short or damaged ({error})") from error
    if source.mode.startswith("I") and tags:  # Pillow hands on what a TIFF stores, whatever it means
        pixels = np.rint(pixels * (65_535 / ((1 << bits) - 1))).astype(np.uint16) if bits < 16 else pixels
        pixels = 65_535 - pixels if tags.get(262) == 0 else pixels
    try:
        exif: bytes | None = source.getexif().tobytes()
    except Exception:  # a damaged block, or values that their own type cannot hold
        exif = None
    orientation = metadata.orientation(exif)
    icc = source.info.get("icc_profile")
    return Photo(
        pixels=_upright(pixels, orientation),
        alpha=None if alpha is None else _upright(alpha, orientation),
        icc=icc if colour.kind(icc) == "RGB" else None,
        exif=metadata.kept_exif(exif),
        dpi=metadata.dpi(source.info.get("dpi")),
    )


def photo_from(source: Any) -> Photo:
    """A photo from pixels already in memory.

    Args:
        source: a ``Photo``; a PIL image (turned upright, profile and EXIF kept); or an array, uint8 or uint16,
            (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA with straight alpha.

    Raises:
        UnknownFormat: anything else.
        SideTooLong: an array with an empty side.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, Image.Image):
        return _of_pillow(source)
    if not isinstance(source, np.ndarray):
        raise UnknownFormat(
            f"a {type(source).__name__} is not a photo; give bytes, a PIL image or a numpy array"
        )
    if source.dtype not in (np.uint8, np.uint16):
        raise UnknownFormat(f"array of {source.dtype}; give uint8 (0..255) or uint16 (0..65535)")
    if source.ndim == 2:
        source = np.repeat(source[..., None], 3, axis=2)
    if source.ndim != 3 or source.shape[2] not in (3, 4):
        raise UnknownFormat(f"array of shape {source.shape}; give (H, W), (H, W, 3) or (H, W, 4)")
    if 0 in source.shape:
        raise SideTooLong(f"array of shape {source.shape}: a side is empty")
    alpha = np.ascontiguousarray(source[..., 3]) if source.shape[2] == 4 else None
    return Photo(pixels=np.ascontiguousarray(source[..., :3]), alpha=alpha)
