"""The parts of a PNG that its picture depends on (ISO/IEC 15948; cICP: PNG third edition, 11.3.2.6).

Decoders get those chunks only. Texts, times and private chunks reach no decoder: damaged or endless, they are not what
a viewer shows.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from bgimage import colour

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_READ = {b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"pHYs", b"eXIf"}
MAX_CHUNKS = 200_000
"""Chunks that are looked at; a photo has hundreds."""


@dataclass
class Png:
    """A PNG taken apart."""

    depth: int
    """Bits a channel."""
    colour_type: int
    """0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    bare: bytes
    """The PNG with what a decoder needs: header, palette (and its transparency), pixels."""
    side: dict[bytes, bytes] = field(repr=False, default_factory=dict)
    """Data of the other chunks that are read, by name; damaged ones are left out."""

    @classmethod
    def of(cls, data: bytes) -> Png:
        """Raises ValueError for more chunks than any photo has."""
        view, at = memoryview(data), 8
        kept, side = [memoryview(_SIGNATURE)], {}
        for _ in range(MAX_CHUNKS):
            if at + 8 > len(data):
                break
            length, name = struct.unpack_from(">I4s", data, at)
            chunk = view[at : at + 12 + length]
            if name in _CRITICAL:
                kept.append(chunk)
            elif name in _READ and name not in side and _whole(chunk):
                side[name] = bytes(chunk[8:-4])
                if name == b"tRNS" and data[25] == 3:
                    kept.append(chunk)
            if name == b"IEND":  # what follows is not PNG any more, and may be long
                break
            at += 12 + length
        else:
            raise ValueError(f"more than {MAX_CHUNKS} chunks")
        return cls(data[24], data[25], b"".join(kept), side)

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
