"""TIFF photos of every layout that has one meaning: depths, planes, tiles, grey, CMYK, L*a*b*, extra samples.

Pillow reads layouts of up to 8 bits a channel, pixel by pixel. Of all others it is asked for the unpacked bytes
only, by a directory that calls a row of them a row of grey pixels; what the bytes mean is decided here. A layout that
is neither is refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bgimage import colour
from bgimage.arrays import eight_bits
from bgimage.errors import BrokenPhoto, UnknownFormat
from bgimage.ifd import LONG, LONG8, MAX_VALUES, SHORT, Directory, Tiff, Value, value, written

_RAW_PHOTOMETRIC = {32803, 34892}  # sensor pixels; linear raw (TIFF/EP, DNG)
_CHANNELS = {0: 1, 1: 1, 2: 3, 5: 4, 8: 3}  # WhiteIsZero, BlackIsZero, RGB, CMYK, L*a*b*
_PACKINGS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, Deflate, PackBits, LZMA, Zstandard
_TABLES = {*range(0x00FE, 0x0156), 530, 532}
"""Tags that describe the picture."""
_PICTURE = {*_TABLES, 347, *range(512, 533), 34675}
"""Those, and what JPEG in TIFF and colours need: all that Pillow gets to see."""
_TEXTS = {1, 2, 6, 7}
"""Types that readers keep as the bytes they are."""
_LONGEST = 8 * MAX_VALUES
_MODES = {"1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"}


@dataclass
class Layout:
    """The first picture of a TIFF, by its tags (TIFF 6.0)."""

    tags: Directory
    order: str
    size_hw: tuple[int, int]
    """As stored, before orientation."""
    bits: int
    """A sample."""
    samples: int
    """A pixel."""
    photometric: int

    @classmethod
    def of(cls, data: bytes) -> Layout:
        """Raises ``UnknownFormat`` for a raw file, ``BrokenPhoto`` where there is no picture."""
        try:
            tiff = Tiff(data)
            tags = tiff.directory(tiff.first)
        except ValueError as error:
            raise BrokenPhoto(
                f"TIFF header of {len(data)} bytes cannot be read; save the photo again"
            ) from error
        if _is_raw(tiff, tags):
            raise UnknownFormat(
                "a raw file (DNG, NEF, ARW or the like): only its small preview is a picture; develop it and send "
                "the JPEG or TIFF"
            )
        if any(
            tags[tag].kind not in _TEXTS and len(tags[tag].data) > _LONGEST for tag in tags.keys() & _TABLES
        ):
            raise BrokenPhoto("TIFF with a table longer than any picture needs; save the photo again")
        bits = tags.numbers(258)
        samples = tags.number(277, 1)
        alike = len(set(bits[:samples])) < 2
        return cls(
            tags,
            tiff.order,
            (tags.number(257), tags.number(256)),
            (int(bits[0]) if bits else 1) if alike else 0,
            samples,
            tags.number(262, 1),
        )

    @property
    def stored_bytes(self) -> int:
        """Memory for the samples as they are stored: libtiff takes whole tiles, however little of them is picture."""
        across, down = (max(1, self.tags.number(tag)) if 322 in self.tags else 1 for tag in (322, 323))
        height, width = (
            -(-side // piece) * piece for side, piece in zip(self.size_hw, (down, across), strict=True)
        )
        return height * width * self.samples * max(8, self.bits) // 8

    @property
    def orientation(self) -> int:
        """As EXIF's, 1..8."""
        found = self.tags.number(0x0112, 1)
        return found if found in range(1, 9) else 1

    @property
    def icc(self) -> bytes | None:
        """The colour profile."""
        return bytes(self.tags[34675].data) if 34675 in self.tags else None

    @property
    def alpha_kind(self) -> int:
        """0 without transparency, 1 premultiplied, 2 straight (ExtraSamples; unsaid, one sample more is alpha)."""
        if 338 not in self.tags:
            return 2 if self.samples == _CHANNELS.get(self.photometric, 0) + 1 else 0
        extra = self.tags.numbers(338)
        return int(extra[0]) if extra and extra[0] in (1, 2) else 0

    def refusal(self, what: str) -> UnknownFormat:
        """The error for a layout that is not read."""
        return UnknownFormat(f"TIFF with {what} is not read here; save it with 8 or 16 bits a channel as RGB")

    def read(
        self, data: bytes, opened: Callable[[bytes], Any]
    ) -> tuple[NDArray[Any], NDArray[Any] | None, int]:
        """RGB (H, W, 3), alpha (H, W) and the orientation that is still to be applied.

        Args:
            data: the file.
            opened: Pillow's TIFF reader, whose errors are of Pillow's kinds.
        """
        if not set(self.tags.numbers(339)) <= {1, 3, 4}:
            raise self.refusal("signed pixels")
        chunky = self.tags.number(284, 1) != 2
        if (self.bits <= 8 and chunky) or self.tags.number(259, 1) not in _PACKINGS:
            try:
                image = opened(self._bare(data, {tag: self.tags[tag] for tag in self.tags.keys() & _PICTURE}))
            except (SyntaxError, KeyError):  # a layout that Pillow does not know
                image = None
            if image is not None and image.mode in _MODES:
                image.load()  # it turns the picture itself
                return *colour.rgb_of(image), 1
        levels = self._levels(data, opened)
        base = _CHANNELS[self.photometric]
        depth = np.iinfo(levels.dtype).max
        alpha = np.ascontiguousarray(levels[..., base]) if self.alpha_kind else None
        colours = np.ascontiguousarray(levels[..., :base])
        if self.photometric == 0:
            colours = depth - colours
        if alpha is not None and self.alpha_kind == 1:
            whole = np.rint(colours * (np.float32(depth) / np.maximum(alpha, 1))[..., None])
            colours = whole.clip(0, depth).astype(levels.dtype)
        rgb = self._rgb(colours)
        if alpha is not None and rgb.dtype == np.uint8:  # converted colours have 8 bits
            alpha = eight_bits(alpha)
        return rgb, alpha, self.orientation

    def _rgb(self, colours: NDArray[Any]) -> NDArray[Any]:
        """RGB of grey (H, W, 1), RGB, CMYK or L*a*b* samples."""
        if colours.shape[2] == 1:
            return colour.grey_as_rgb(colours[..., 0], self.icc)
        if self.photometric == 8:  # a and b are signed; Pillow keeps them 128 higher
            lab = colours
            if colours.dtype == np.uint16:
                signed = np.rint(colours.view(np.int16) / np.float32(256)).clip(-128, 127)
                lab = signed.astype(np.int8).view(np.uint8)
                lab[..., 0] = eight_bits(colours[..., 0])
            lab = lab ^ np.array([0, 128, 128], np.uint8)
            bands = [Image.fromarray(np.ascontiguousarray(lab[..., n])) for n in range(3)]
            return np.asarray(colour.lab_to_srgb(Image.merge("LAB", bands)))
        if self.photometric == 5:
            inks = eight_bits(colours)
            bands = [Image.fromarray(np.ascontiguousarray(inks[..., n])) for n in range(4)]
            image = Image.merge("CMYK", bands)
            image.info["icc_profile"] = self.icc
            return np.asarray(colour.cmyk_to_srgb(image))
        return np.ascontiguousarray(colours)

    def _levels(self, data: bytes, opened: Callable[[bytes], Any]) -> NDArray[Any]:
        """All samples over their full range: uint8 (H, W, samples) up to 8 bits, uint16 above."""
        tags = self.tags
        formats = set(tags.numbers(339)) or {1}
        if 3 in formats:
            raise self.refusal("floating-point pixels, which have no agreed range,")
        if self.photometric not in _CHANNELS:
            raise self.refusal(
                f"colours of kind {self.photometric} (PhotometricInterpretation) in this layout"
            )
        if self.photometric == 5 and tags.number(332, 1) != 1:
            raise self.refusal("inks other than CMYK")
        if not (1 <= self.bits <= 16 or self.bits == 32):
            raise self.refusal(f"{self.bits or 'different numbers of'} bits a channel")
        if tags.number(259, 1) not in _PACKINGS or tags.number(317, 1) not in (1, 2):
            raise self.refusal(f"compression {tags.number(259, 1)} in this layout")
        if tags.number(317, 1) == 2 and self.bits not in (8, 16, 32):
            raise self.refusal(f"differences of {self.bits} bits")
        needed = _CHANNELS[self.photometric] + bool(self.alpha_kind)
        if not needed <= self.samples <= 64:
            raise self.refusal(f"{self.samples} samples a pixel")
        if tags.number(284, 1) != 2:
            return self._plane(data, opened, 0, 1, self.samples)[..., :needed]
        planes = [self._plane(data, opened, n, self.samples, 1) for n in range(needed)]
        return np.concatenate(planes, axis=2)

    def _plane(
        self, data: bytes, opened: Callable[[bytes], Any], number: int, planes: int, samples: int
    ) -> NDArray[Any]:
        """Samples of one of ``planes`` planes: (H, W, samples)."""
        tags, order = self.tags, self.order
        height, width = self.size_hw
        tiled = 322 in tags
        piece = tags.number(322) if tiled else width
        across = -(-width // max(1, piece))
        row = -(-piece * samples * self.bits // 8)  # bytes of a row of a tile or strip
        offsets, counts = (tags.numbers(tag) for tag in ((324, 325) if tiled else (273, 279)))
        each = len(offsets) // planes
        here = slice(number * each, (number + 1) * each)
        entries: dict[int, Value] = {
            256: value(order, LONG, row * across),
            257: value(order, LONG, height),
            258: value(order, SHORT, 8),
            262: value(order, SHORT, 1),
            277: value(order, SHORT, 1),
            324 if tiled else 273: value(order, LONG, *map(int, offsets[here])),
        }
        entries |= {tag: tags[tag] for tag in (259, 266, 278, 323) if tag in tags}
        if counts:
            entries[325 if tiled else 279] = value(order, LONG, *map(int, counts[here]))
        if tiled:
            entries[322] = value(order, LONG, row)
        rows = np.asarray(opened(self._bare(data, entries)))
        levels = self._unpacked(rows.reshape(height, across, row), piece * samples)
        if tags.number(317, 1) == 2:
            steps = levels.reshape(height, across, piece, samples)
            levels = np.cumsum(steps, axis=2, dtype=steps.dtype)
        whole = levels.reshape(height, across * piece, samples)[:, :width]
        if self.bits == 32:
            return (whole >> 16).astype(np.uint16)
        top, full = (1 << self.bits) - 1, 255 if self.bits <= 8 else 65_535
        if top == full:
            return whole
        table = np.rint(np.arange(top + 1) * (full / top))
        return np.asarray(table.astype(np.uint8 if full == 255 else np.uint16)[whole])

    def _bare(self, data: bytes, entries: dict[int, Value]) -> bytes:
        """The file with a directory of these entries; it has no other. A BigTIFF becomes a classic one."""
        long = {tag: one for tag, one in entries.items() if one.kind == LONG8}
        entries = entries | {
            tag: value(self.order, LONG, *map(int, one.first(MAX_VALUES))) for tag, one in long.items()
        }
        at = len(data) + len(data) % 2
        mark = (b"II" if self.order == "<" else b"MM") + struct.pack(self.order + "HI", 42, at)
        return mark + data[8:] + bytes(at - len(data)) + written(self.order, {None: entries}, at)

    def _unpacked(self, rows: NDArray[np.uint8], count: int) -> NDArray[Any]:
        """``count`` samples of each row of bytes (..., row), as stored."""
        if self.bits in (8, 16, 32):
            native = rows.view(f"{self.order}u{self.bits // 8}")
            return native.astype(native.dtype.newbyteorder("="), copy=False)
        weights = 1 << np.arange(self.bits)[::-1]
        levels = np.empty((*rows.shape[:2], count), np.uint16)
        for line, bytes_of_line in enumerate(rows):  # bits need eight times the memory of bytes
            bits = np.unpackbits(bytes_of_line, axis=-1)[:, : count * self.bits]
            levels[line] = bits.reshape(-1, count, self.bits) @ weights
        return levels


def _is_raw(tiff: Tiff, tags: Directory) -> bool:
    """True for a file whose photo is sensor data, whatever pictures it holds besides."""
    if 50706 in tags or bytes(tiff.data[8:10]) == b"CR":  # DNGVersion; Canon's mark
        return True
    places = [int(at) for at in tags.numbers(330, 16)]
    directories, at = [tags], tags.next
    for _ in range(16):
        if not at:
            break
        places.append(at)
        try:
            at = tiff.directory(at).next
        except ValueError:
            break
    for place in places:
        try:
            directories.append(tiff.directory(place))
        except ValueError:
            continue
    return any(one.number(262) in _RAW_PHOTOMETRIC for one in directories)
