"""What a photo carries besides pixels, profile and EXIF, and what no cut-out of ours keeps.

XMP and credentials (C2PA) describe or sign the picture as it was; a gain map (ISO 21496-1, Android's Ultra HDR,
Apple's) holds the brightness of pixels that are there no more. Carried over, each would say something untrue.
"""

from __future__ import annotations

_SIGNS: dict[str, tuple[bytes, ...]] = {
    # the namespace that a JPEG's segment begins with, the id of every XMP packet
    "XMP": (b"http://ns.adobe.com/xap/1.0/\0", b"W5M0MpCehiHzreSzNTczkc9d", b"<x:xmpmeta"),
    # the type of C2PA's superbox, whatever file holds it (C2PA 2.1, 11.1.4.2)
    "C2PA": (bytes.fromhex("6332706100110010800000aa00389b71"),),
    "HDR gain map": (
        b"urn:iso:std:iso:ts:21496:-1",
        b"http://ns.adobe.com/hdr-gain-map/1.0/",
        b"urn:com:apple:photo:2020:aux:hdrgainmap",
        b"http://ns.apple.com/HDRGainMap/1.0/",
    ),
}
_START_OF_SCAN = 0xDA


def dropped(data: bytes, format: str) -> tuple[str, ...]:
    """Of "XMP", "C2PA" and "HDR gain map" those that the file shows signs of.

    The signs are looked for as they stand in the bytes: what a PNG compresses is not seen.
    """
    end = _end_of_header(data) if format == "jpeg" else len(data)
    return tuple(
        name for name, signs in _SIGNS.items() if any(data.find(sign, 0, end) >= 0 for sign in signs)
    )


def _end_of_header(data: bytes) -> int:
    """Where a JPEG's pixels begin: none of the signs lies behind, and most of the bytes do."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _START_OF_SCAN:
            return at
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return len(data)
