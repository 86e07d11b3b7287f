"""Photos that are small and announce, or hide, far more than they show: each is refused, or read at once."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from bgimage import codec
from bgimage.codec import Limits, decode, probe
from bgimage.errors import BrokenPhoto, DecodeTooSlow, PhotoError, TooManyPixels
from bgimage.jpeg import MAX_SCANS, Jpeg

PIXELS = Image.fromarray(np.full((48, 64, 3), 128, np.uint8))
VALUES = 1 << 20


def saved(format, **settings):
    out = io.BytesIO()
    PIXELS.save(out, format, **settings)
    return out.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def exif(tag):
    """A block whose one tag has a million ratios."""
    entry = struct.pack("<HHII", tag, 5, VALUES, 26)
    return b"II*\0\x08\0\0\0\1\0" + entry + bytes(4) + struct.pack("<II", 6, 1) * VALUES


def with_exif(format, tag):
    block = exif(tag)
    if format == "jpeg":
        data = saved("jpeg")
        parts = [block[at : at + 65_000] for at in range(0, len(block), 65_000)]
        marks = (b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
        return data[:2] + b"".join(marks) + data[2:]
    quiet = (
        block[:10] + struct.pack("<H", 0x9999) + block[12:]
    )  # what Pillow would look into it writes differently
    data = saved(format, exif=quiet)
    assert data.count(quiet) == 1
    data = data.replace(quiet, block)
    if format == "png":
        at = data.index(b"eXIf")
        data = (
            data[: at + 4 + len(block)]
            + struct.pack(">I", zlib.crc32(b"eXIf" + block))
            + data[at + 8 + len(block) :]
        )
    return data


def most_memory(work):
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("tag", [0x0112, 0x011A, 0x9999], ids=["orientation", "resolution", "unknown"])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif"])
def test_exif_of_a_million_values_costs_no_more_than_its_bytes(format, tag):
    data = with_exif(format, tag)
    info, probing = most_memory(lambda: probe(data))
    photo, decoding = most_memory(lambda: decode(data))
    assert photo.pixels.shape == (48, 64, 3) or info.size_hw == (64, 48) == photo.pixels.shape[:2]
    assert max(probing, decoding) < 4 * len(data)
    assert len(photo.exif or b"") < 65_536


@pytest.mark.parametrize("tag", [700, 33_723, 34_377, 65_000])
def test_a_tiff_s_texts_of_a_million_values_cost_no_more_than_their_bytes(tag):
    data = tiff((48, 64), (64, 64))
    count = struct.unpack_from("<H", data, 8)[0]
    table = data[10 : 10 + 12 * count]
    at = len(data)
    entries = sorted(
        [*(table[n : n + 12] for n in range(0, len(table), 12)), struct.pack("<HHII", tag, 5, VALUES, at)],
        key=lambda one: struct.unpack("<H", one[:2]),
    )
    values = struct.pack("<II", 6, 1) * VALUES
    directory = struct.pack("<H", count + 1) + b"".join(entries) + bytes(4)
    bomb = b"II*\0" + struct.pack("<I", at + len(values)) + data[8:] + values + directory
    photo, decoding = most_memory(lambda: decode(bomb))
    assert photo.pixels.shape == (48, 64, 3)
    assert decoding < 5 * len(bomb)


FLOODS = {
    "a jpeg of empty segments": lambda d: d[:2] + b"\xff\xe5\0\2" * 1_000_000 + d[2:],
    "a png of empty chunks": lambda d: d[:33] + chunk(b"teSt", b"") * 1_000_000 + d[33:],
    "a gif of comments": lambda d: _into_gif(d, b"!\xfe\1a\0" * 1_000_000),
    "a gif with one long comment": lambda d: _into_gif(d, b"!\xfe" + b"\1a" * 1_000_000 + b"\0"),
}


def _into_gif(data, blocks):
    at = 13 + 3 * (2 << (data[10] & 7))
    return data[:at] + blocks + data[at:]


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_small_parts_is_broken(kind):
    with pytest.raises(BrokenPhoto):
        probe(FLOODS[kind](saved(kind.split()[1])))


def test_filling_bytes_before_a_jpeg_s_marker_are_passed_over():
    data = saved("jpeg")
    fill = b"\xff" * 20_000_000
    assert probe(data[:2] + fill + data[2:]).size_hw == (48, 64)
    among_pixels = data[:-2] + fill + b"\0" + data[-2:]  # no marker follows them
    assert probe(among_pixels).size_hw == (48, 64)


def progressive(scans, side=64):
    """A JPEG with ``scans`` more scans than it needs, each repeating its last."""
    out = io.BytesIO()
    Image.new("L", (side, side), 128).save(out, "jpeg", progressive=True)
    data = out.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * scans + data[-2:]


def test_a_jpeg_has_at_most_a_hundred_scans_however_small_it_is():
    assert decode(progressive(MAX_SCANS - 10)).pixels.shape == (64, 64, 3)
    with pytest.raises(DecodeTooSlow, match=f"more than {MAX_SCANS} scans"):
        probe(progressive(MAX_SCANS))


def test_a_large_jpeg_has_fewer_scans_than_a_small_one():
    with pytest.raises(DecodeTooSlow, match="max_decode_s"):
        probe(progressive(MAX_SCANS - 10, side=7000))
    assert probe(progressive(0, side=7000)).size_hw == (7000, 7000)


def test_scans_are_counted_inside_the_picture_only():
    data = progressive(0)
    video = b"\xff\xda" * 10_000  # what phones append behind the picture
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 20_000) + b"\xff\xda" * 10_000
    assert decode(data[:2] + comment + data[2:] + video).pixels.shape == (64, 64, 3)


def test_fill_bytes_before_a_marker_hide_no_scans_and_add_none():
    data = progressive(5)
    assert Jpeg.of(data.replace(b"\xff\xda", b"\xff\xff\xff\xda")).scans == Jpeg.of(data).scans > 5


def test_an_end_inside_a_comment_hides_no_scans():
    data = progressive(MAX_SCANS)
    first = data.index(b"\xff\xda")
    scan_end = data.index(b"\xff", first + 20)
    while data[scan_end + 1] in (0, *range(0xD0, 0xD8)):
        scan_end = data.index(b"\xff", scan_end + 2)
    comment = b"\xff\xfe\0\4\xff\xd9"
    with pytest.raises(DecodeTooSlow):
        probe(data[:scan_end] + comment + data[scan_end:])


def tiff(size_hw, tile_hw, bits=8, samples=3):
    """A TIFF of one black tile."""
    packed = zlib.compress(bytes(tile_hw[0] * tile_hw[1] * samples * bits // 8), 9)
    entries = {256: (4, size_hw[1]), 257: (4, size_hw[0]), 258: (3, None), 259: (3, 8)}
    entries |= {262: (3, 2 if samples == 3 else 1), 277: (3, samples)}
    entries |= {322: (4, tile_hw[1]), 323: (4, tile_hw[0]), 324: (4, None), 325: (4, len(packed))}
    after = 8 + 2 + 12 * len(entries) + 4
    depths = struct.pack(f"<{samples}H", *[bits] * samples)
    entries[258] = (3, after if samples > 2 else bits)
    entries[324] = (4, after + len(depths))
    table = b"".join(
        struct.pack("<HHII", tag, kind, samples if tag == 258 else 1, value)
        for tag, (kind, value) in entries.items()
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(4) + depths + packed


@pytest.mark.parametrize(
    ("tile_hw", "bits", "samples"),
    [
        ((8000, 8000), 8, 3),
        ((6000, 6000), 16, 3),
        ((9000, 9000), 8, 1),
        ((1 << 20, 16), 8, 3),
        ((16, 1 << 24), 8, 1),
    ],
)
def test_a_tile_far_larger_than_its_picture_is_refused(tile_hw, bits, samples):
    data = tiff((48, 64), (16, 16), bits, samples)
    for tag, side in (
        (322, tile_hw[1]),
        (323, tile_hw[0]),
    ):  # nothing that large has to be packed to announce it
        data = data.replace(struct.pack("<HHII", tag, 4, 1, 16), struct.pack("<HHII", tag, 4, 1, side))
    for read in (probe, decode):
        with pytest.raises(TooManyPixels, match="64 x 48"):
            read(data)


@pytest.mark.parametrize(("bits", "samples"), [(8, 3), (16, 3), (8, 1)])
def test_a_picture_smaller_than_its_tile_is_read(bits, samples):
    assert decode(tiff((48, 64), (256, 256), bits, samples)).pixels.shape == (48, 64, 3)


def test_a_tiff_s_tables_are_no_longer_than_a_picture_needs():
    data = tiff((48, 64), (256, 256))
    count = 3_000_000
    grown = data.replace(struct.pack("<HHI", 324, 4, 1), struct.pack("<HHI", 324, 4, count)) + bytes(
        4 * count
    )
    with pytest.raises(PhotoError):
        probe(grown)


def test_limits_still_say_first_that_a_picture_is_too_large():
    with pytest.raises(TooManyPixels, match="megapixels"):
        probe(saved("jpeg", progressive=True), Limits(max_pixels=1000))


@pytest.mark.parametrize(("depth", "colour_type"), [(16, 2), (16, 6), (16, 0), (8, 2), (1, 3)])
def test_a_png_too_short_for_its_pixels_is_broken_before_a_decoder_sees_it(depth, colour_type, monkeypatch):
    seen = []
    monkeypatch.setattr(codec.cv2, "imdecode", lambda *_: seen.append("OpenCV"))
    monkeypatch.setattr(PngImageFile, "load", lambda *_: seen.append("Pillow"))
    head = chunk(b"IHDR", struct.pack(">2I5B", 8000, 8000, depth, colour_type, 0, 0, 0))
    body = [head, chunk(b"PLTE", bytes(3)), chunk(b"IDAT", b""), chunk(b"IEND", b"")]
    with pytest.raises(BrokenPhoto, match="cut short"):
        decode(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    assert seen == []


def test_a_png_is_not_unpacked_beyond_its_pixels(monkeypatch):
    seen = []
    monkeypatch.setattr(codec.cv2, "imdecode", lambda *_: seen.append("OpenCV"))
    head = chunk(b"IHDR", struct.pack(">2I5B", 64, 48, 16, 2, 0, 0, 0))
    packed = zlib.compress(bytes(100_000_000), 9)
    with pytest.raises(BrokenPhoto):
        decode(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    assert seen == []


def test_a_blank_png_that_is_as_short_as_can_be_is_read():
    rows = zlib.compress(bytes(2000 * (1 + 2000 * 6)), 9)
    head = chunk(b"IHDR", struct.pack(">2I5B", 2000, 2000, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(data) < 2000 * 2000 * 6 / 1000
    assert decode(data).pixels.shape == (2000, 2000, 3)
