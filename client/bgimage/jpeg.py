"""The segments of a JPEG that its picture depends on (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from bgimage import metadata

MAX_SEGMENTS = 4_096
"""Segments before the pixels; a photo has tens, a large profile and EXIF some hundreds."""
MAX_EXIF = 256 * 1024
"""Bytes of EXIF, gathered from segments of 64 KB each; what follows is left out."""
MAX_SCANS = 100
"""Scans of a picture, as libtiff has it for the JPEG in a TIFF; a progressive photo has about ten."""
_FILL = re.compile(b"\xff+")
_MARKER = re.compile(b"\xff([^\xff\x00\xd0-\xd7])")
"""A marker that ends the entropy-coded data of a scan, without the fill bytes before it. A search that begins with a
repeated byte takes ten times as long, and of fill bytes alone the square of their number."""
_APPLICATIONS = {0xE0: (b"JFIF\0", 16), 0xE2: (b"ICC_PROFILE\0", 16), 0xEE: (b"Adobe", 14)}
"""By marker: how a segment that matters begins, and its least length."""


@dataclass
class Jpeg:
    """A JPEG taken apart."""

    bare: bytes
    """Without comments and application data, but for density, profile and the kind of CMYK."""
    exif: bytes | None
    scans: int
    """How often the decoder goes over the picture, at most ``MAX_SCANS`` + 1."""

    @classmethod
    def of(cls, data: bytes) -> Jpeg:
        """Raises ValueError for more segments than any photo has."""
        view, at = memoryview(data), 2
        kept, exif = [view[:2]], b""
        for _ in range(MAX_SEGMENTS):
            fill = _FILL.search(data, at)
            if not fill or fill.end() + 3 > len(data):
                break  # no marker any more: let the decoder judge what is left
            at = fill.end()
            marker = data[at]
            if marker in (0xDA, 0xD9, 0x00) or 0xD0 <= marker <= 0xD7:
                at -= 1
                break
            length = struct.unpack_from(">H", data, at + 1)[0]
            end = at + 1 + length
            segment = view[at - 1 : end]
            begins, least = _APPLICATIONS.get(marker, (b"-", 0))
            if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (
                length >= least and bytes(segment[4:18]).startswith(begins)
            ):
                kept.append(segment)
            elif marker == 0xE1 and bytes(segment[4:10]) == b"Exif\0\0" and len(exif) < MAX_EXIF:
                exif += segment[10 if exif else 4 :]
            at = end
        else:
            raise ValueError(f"more than {MAX_SEGMENTS} segments before the pixels")
        kept.append(view[at:])
        return cls(b"".join(kept), exif or None, _scans(data, at))

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels an inch that EXIF says; Pillow reads JFIF's."""
        return metadata.exif_dpi(self.exif)


def _scans(data: bytes, at: int) -> int:
    """Scans from offset ``at`` to the picture's end. ValueError for more segments than any photo has."""
    scans = 0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if not found or found[1] == b"\xd9" or found.end() + 2 > len(data):
            return scans
        scans += found[1] == b"\xda"
        if scans > MAX_SCANS:
            return scans
        at = found.end() + struct.unpack_from(">H", data, found.end())[0]
    raise ValueError(f"more than {MAX_SEGMENTS} segments between the scans")
