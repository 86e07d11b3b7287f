"""What a cut-out says of itself: EXIF by a list, nothing of the old picture, values that every format can hold."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from bgimage import metadata
from bgimage.codec import decode
from bgimage.contract import Contract
from bgimage.encode import ENCODERS, encode
from bgimage.finish import finish
from bgimage.ifd import MAX_ENTRIES, SHORT, UNDEFINED, Tiff, Value, value, written
from bgimage.options import Options

CONTRACT = Contract()
PREVIEW = b"\xff\xd8\xff\xdbthe old background"


def block(main, order="<", **others):
    """An EXIF block; ``others`` are directories by pointer, e8769=..."""
    mark = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    directories = {None: main} | {int(name[1:], 16): entries for name, entries in others.items()}
    return b"Exif\0\0" + mark + written(order, directories, 8)


def cut(data, **options):
    return finish(decode(data), np.ones(CONTRACT.size_hw, np.float32), CONTRACT, Options(**options))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("format", ENCODERS)
def test_exif_is_kept_by_a_list_and_nothing_of_the_old_picture_with_it(format, order, saved, corners):
    hidden = Value(UNDEFINED, PREVIEW * 40, order)
    main = {
        0x010F: Value(2, b"Maker\0", order),
        0x0112: value(order, SHORT, 6),
        0x501B: hidden,
        37_724: hidden,
        700: hidden,
    }
    taken = {
        0x829A: Value(5, (b"\1\0\0\0\x7d\0\0\0" if order == "<" else b"\0\0\0\1\0\0\0\x7d"), order),
        0x927C: hidden,
        0x9286: hidden,
        0xA002: value(order, SHORT, 60),
        0xA003: value(order, SHORT, 40),
    }
    place = {1: Value(2, b"N\0", order)}
    exif = block(main, order, e8769=taken, e8825=place)
    for kept, gone in (({}, []), ({"drop_gps": True}, [1]), ({"keep_metadata": False}, None)):
        data = cut(saved(corners, "PNG", exif=exif), format=format, background="white", **kept).encode()
        assert PREVIEW not in data
        said = Image.open(io.BytesIO(data)).getexif()
        if gone is None:
            assert 0x010F not in said
            continue
        assert said[0x010F] == "Maker"
        assert said.get(0x0112, 1) == 1
        assert dict(said.get_ifd(0x8769)) == {0x829A: 1 / 125}
        assert dict(said.get_ifd(0x8825)) == ({} if gone else {1: "N"})


def test_layers_and_previews_of_a_tiff_stay_behind(saved, corners):
    layers = {37_724: PREVIEW * 40, 0x010F: "Maker"}
    done = cut(saved(corners, "TIFF", tiffinfo=layers))
    for format in ENCODERS:
        if format != "jpeg":
            assert PREVIEW not in done.encode(format)
    assert Image.open(io.BytesIO(done.encode())).getexif()[0x010F] == "Maker"


@pytest.mark.parametrize("ratio", [(2**32 - 1, 1), (1, 0), (0, 1), (1, 2**32 - 1)])
def test_a_resolution_that_no_format_can_hold_is_dropped(ratio, saved, corners):
    exif = block({0x011A: value("<", 4, *ratio), 0x011B: value("<", 4, *ratio), 0x0128: value("<", SHORT, 2)})
    exif = exif.replace(b"\x1a\1\4\0\2\0\0\0", b"\x1a\1\5\0\1\0\0\0").replace(
        b"\x1b\1\4\0\2\0\0\0", b"\x1b\1\5\0\1\0\0\0"
    )
    data = saved(corners, "PNG", exif=exif)
    data = saved(Image.open(io.BytesIO(data)).convert("RGB"), "WEBP", exif=exif)
    for format in ENCODERS:
        assert cut(data, format=format, background="white").encode()
    jpeg = saved(corners, "JPEG", exif=exif)
    start = jpeg.index(b"\xff\xe0")
    jpeg = jpeg[:start] + jpeg[start + 18 :]  # without JFIF's own resolution
    assert decode(jpeg).dpi is None
    for format in ENCODERS:
        assert cut(jpeg, format=format, background="white").encode()


def test_the_resolution_of_the_photo_is_kept_where_it_has_one(saved, corners):
    for format in ("PNG", "JPEG", "TIFF"):
        photo = decode(saved(corners, format, dpi=(300, 200)))
        np.testing.assert_allclose(photo.dpi, (300, 200), atol=0.02)
        assert decode(saved(corners, format)).dpi is None
    done = cut(saved(corners, "JPEG", dpi=(300, 200)))
    for format in ("png", "tiff"):
        said = Image.open(io.BytesIO(done.encode(format))).info["dpi"]
        assert [round(float(side)) for side in said] == [300, 200]


@pytest.mark.parametrize("format", ENCODERS)
def test_exif_of_any_size_fits_into_every_format(format, saved, corners):
    long = {tag: Value(2, b"x" * 1_900 + b"\0", "<") for tag in range(0x9003, 0x9300)}
    exif = block(
        {0x010E: Value(2, b"y" * 70_000, "<")}, e8769=long | {0x927C: Value(UNDEFINED, bytes(66_000), "<")}
    )
    data = cut(saved(corners, "PNG", exif=exif), format=format, background="white").encode()
    assert Image.open(io.BytesIO(data)).size == (60, 40)
    assert len(metadata.kept_exif(exif)) < 65_000


def exif_entry(tag, kind, value):
    """A block of one tag, in eight bytes behind its directory."""
    return b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", tag, kind, 1, 26) + bytes(4) + value


@pytest.mark.parametrize("format", ENCODERS)
def test_a_name_that_is_a_number_is_dropped_in_every_format(format):
    for kind, number in ((12, struct.pack("<d", 1.5)), (10, struct.pack("<2i", 1, 2)), (16, bytes(8))):
        kept = metadata.kept_exif(exif_entry(0x010E, kind, number))
        assert kept is None
        encode(np.zeros((4, 4, 3), np.uint8), format, exif=kept)


@pytest.mark.parametrize("pointer", [0x8769, 0x8825])
def test_a_directory_at_an_offset_of_64_bits_is_not_there(pointer):
    for offset in (bytes([255] * 8), bytes([0] * 7 + [0x7F])):
        assert metadata.kept_exif(exif_entry(pointer, 16, offset)) is None


def test_a_damaged_block_costs_no_photo(saved, corners):
    for exif in (
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0nothing",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(40),
    ):
        photo = decode(saved(corners, "WEBP", lossless=True, exif=exif))
        assert photo.pixels.shape == (40, 60, 3)
        assert photo.exif is None


def test_a_directory_of_millions_of_values_is_read_without_them():
    many = Value(5, bytes(8_000_000), "<")
    assert metadata.kept_exif(block({0x9999: many, 0x0112: value("<", SHORT, 6)})) is not None
    assert metadata.orientation(block({0x9999: many, 0x0112: value("<", SHORT, 6)})) == 6
    tiff = Tiff(block({tag: value("<", SHORT, 1) for tag in range(2 * MAX_ENTRIES)})[6:])
    assert len(tiff.directory(8)) == MAX_ENTRIES


def test_xmp_turns_no_photo(saved, corners):
    """Viewers turn by EXIF alone."""
    xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    assert decode(saved(corners, "JPEG", xmp=xmp)).pixels.shape == (40, 60, 3)
