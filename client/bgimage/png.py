"""The parts of a PNG that its picture depends on (ISO/IEC 15948; cICP: PNG third edition, 11.3.2.6).

Decoders get those chunks only. Texts, times and private chunks reach no decoder: damaged or endless, they are not what
a viewer shows. The same goes for what follows the last pixel, and for the checksums of the pixels.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bgimage import colour

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_READ = {b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"pHYs", b"eXIf"}
MAX_CHUNKS = 200_000
"""Chunks that are looked at; a photo has hundreds."""
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type (third edition, table 8)."""
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced picture: first column and row, steps across and down (third edition, 8.1)."""
_PIECE = 1 << 14
"""Bytes that are inflated at a time, to at most 1032 times as many."""


@dataclass
class Png:
    """A PNG taken apart."""

    depth: int
    """Bits a channel."""
    colour_type: int
    """0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    head: bytes = field(repr=False)
    """What stands before the pixels: header, palette and its transparency."""
    packed: list[memoryview] = field(repr=False)
    """The pixels, as each chunk holds them; the last one may be cut short."""
    side: dict[bytes, bytes] = field(repr=False, default_factory=dict)
    """Data of the other chunks that are read, by name; damaged ones are left out."""

    @classmethod
    def of(cls, data: bytes) -> Png:
        """Raises ValueError for more chunks than any photo has."""
        view, at = memoryview(data), 8
        head, packed, side = [memoryview(_SIGNATURE)], [], {}
        for _ in range(MAX_CHUNKS):
            if at + 8 > len(data):
                break
            length, name = struct.unpack_from(">I4s", data, at)
            chunk = view[at : at + 12 + length]
            if name == b"IDAT":
                packed.append(view[at + 8 : at + 8 + length])
            elif name in (b"IHDR", b"PLTE"):
                head.append(chunk)
            elif name in _READ and name not in side and _whole(chunk) and not (packed and name != b"eXIf"):
                side[name] = bytes(chunk[8:-4])
                if name == b"tRNS" and data[25] == 3:
                    head.append(chunk)
            if name == b"IEND":  # what follows is not PNG any more, and may be long
                break
            at += 12 + length
        else:
            raise ValueError(f"more than {MAX_CHUNKS} chunks")
        return cls(data[24], data[25], b"".join(head), packed, side)

    @property
    def bare(self) -> bytes:
        """The PNG with what a decoder needs, its pixels as they came."""
        return self._with(*self.packed)

    def checked(self) -> bytes:
        """``bare`` whose pixels are all there and end where they do, with right checksums.

        Raises:
            ValueError: pixels are missing, or what follows them does not end.
        """
        from isal import isal_zlib

        rows, needed = self._rows()
        packed, check, length = b"".join(self.packed), 1, 0
        inflater = isal_zlib.decompressobj(-15)
        for at in range(2, len(packed), _PIECE):  # behind zlib's header
            part = inflater.decompress(packed[at : at + _PIECE])
            here = rows[slice(*np.searchsorted(rows, (length, length + len(part))))] - length
            if (np.frombuffer(part, np.uint8)[here] > 4).any():
                raise ValueError("a filter that does not exist")
            check, length = isal_zlib.adler32(part, check), length + len(part)
            if inflater.eof and length >= needed:
                end = min(at + _PIECE, len(packed)) - len(inflater.unused_data)
                return self._with(b"\x78\x01", packed[2:end], check.to_bytes(4, "big"))
            if inflater.eof or length > 2 * needed + _PIECE:
                break
        raise ValueError(f"{length} bytes of pixels, {needed} are needed")

    def _with(self, *packed: bytes | memoryview) -> bytes:
        pixels = b"".join(packed)
        mark = zlib.crc32(pixels, zlib.crc32(b"IDAT")).to_bytes(4, "big")
        return b"".join((self.head, struct.pack(">I4s", len(pixels), b"IDAT"), pixels, mark, _END))

    def _rows(self) -> tuple[NDArray[np.int64], int]:
        """Where each row begins in the unpacked pixels, with the byte that names its filter; and where they end."""
        width, height, interlaced = *struct.unpack_from(">2I", self.head, 16), self.head[28]
        bits, begins, end = self.depth * CHANNELS[self.colour_type], [], 0
        for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
            columns, count = -(-(width - left) // across), -(-(height - top) // down)
            if columns > 0 and count > 0:
                step = 1 + -(-columns * bits // 8)
                begins.append(end + step * np.arange(count))
                end += step * count
        return np.concatenate(begins), end

    @property
    def exif(self) -> bytes | None:
        """The EXIF block; it may stand before or behind the pixels."""
        return self.side.get(b"eXIf")

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels an inch."""
        data = self.side.get(b"pHYs", b"")
        if len(data) != 9 or data[8] != 1:
            return None
        across, down = struct.unpack(">2I", data[:8])
        return across * 0.0254, down * 0.0254

    @property
    def icc(self) -> bytes | None:
        """The profile of the colours, by rank of the chunks (PNG third edition, 4.3); None for sRGB."""
        code_points = self.side.get(b"cICP", b"")
        if len(code_points) == 4:
            return colour.of_code_points(code_points[0], code_points[1])
        _, _, packed = self.side.get(b"iCCP", b"").partition(b"\0")
        if packed:
            try:
                profile = zlib.decompressobj().decompress(packed[1:], colour.MAX_PROFILE + 1)
            except zlib.error:
                profile = b""
            if colour.kind(profile):
                return profile
        if b"sRGB" in self.side:
            return None
        gamma, corners = self.side.get(b"gAMA", b""), self.side.get(b"cHRM", b"")
        level = int.from_bytes(gamma, "big") / 100_000 if len(gamma) == 4 else None
        if level is not None and not 0.1 <= level <= 10:
            level = None
        points = tuple(n / 100_000 for n in struct.unpack(">8I", corners)) if len(corners) == 32 else None
        return colour.of_gamma(level, points)

    @property
    def key(self) -> tuple[int, ...] | None:
        """The one level (grey) or colour (RGB) that is transparent, as it is stored; None without one."""
        count = {0: 1, 2: 3}.get(self.colour_type, 0)
        data = self.side.get(b"tRNS", b"")
        if not count or len(data) != 2 * count:
            return None
        mask = (1 << self.depth) - 1
        return tuple(level & mask for level in struct.unpack(f">{count}H", data))


def _whole(chunk: memoryview) -> bool:
    return len(chunk) >= 12 and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
