"""What a photo carries and a cut-out does not keep is said."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from bgimage.codec import decode, photo_from
from bgimage.contract import Contract
from bgimage.dropped import dropped
from bgimage.finish import finish

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
C2PA_TYPE = bytes.fromhex("6332706100110010800000aa00389b71")
C2PA = struct.pack(">I4sI4s", 45, b"jumb", 37, b"jumd") + C2PA_TYPE + b"\3c2pa\0"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


def saved(format, **options):
    file = io.BytesIO()
    PICTURE.save(file, format, **options)
    return file.getvalue()


def with_segment(jpeg, marker, body):
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + jpeg[2:]


def png_with_xmp():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return saved("PNG", pnginfo=info)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (saved("JPEG"), []),
        (saved("JPEG", exif=Image.Exif()), []),
        (saved("JPEG", xmp=XMP), ["XMP"]),
        (saved("WEBP", xmp=XMP), ["XMP"]),
        (png_with_xmp(), ["XMP"]),
        (with_segment(saved("JPEG"), 0xEB, b"JP\0\1\0\0\0\1" + C2PA), ["C2PA"]),
        (with_segment(saved("JPEG"), 0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"), ["HDR gain map"]),
        (
            with_segment(
                saved("JPEG"),
                0xE1,
                b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"/>',
            ),
            ["XMP", "HDR gain map"],
        ),
    ],
)
def test_what_is_dropped_is_named(data, names):
    photo = decode(data)
    assert list(photo.dropped) == names
    found = finish(photo, np.ones((320, 320), np.float32), Contract())
    assert json.loads(found.facts())["dropped"] == names
    assert decode(found.encode()).dropped == (), "and it is gone"


def test_an_array_carries_nothing():
    assert photo_from(np.zeros((4, 4, 3), np.uint8)).dropped == ()


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\xff\xff", b"\xff\xd8\xff\xe1\0\0" * 9]
)
def test_a_broken_header_ends_the_search(data):
    assert dropped(data, "jpeg") == ()
