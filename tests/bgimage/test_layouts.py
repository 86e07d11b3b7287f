"""Every layout of pixels is read right or refused by name: TIFF, PNG, JPEG and GIF as few programs write them."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bgimage.codec import decode, photo_from, probe
from bgimage.errors import BrokenPhoto, UnknownFormat
from bgimage.ifd import LONG, SHORT, UNDEFINED, Value, value, written

HW = (37, 45)
PHOTOMETRIC = {"minisblack": 1, "miniswhite": 1, "rgb": 3}


def tiff(rows, bits, order="<", **tags):
    """A TIFF of one strip, written by hand: ``rows`` are its bytes; tags as t258=(8, 8, 8)."""
    height, width = tags.pop("hw")
    entries = {
        256: value(order, LONG, width),
        257: value(order, LONG, height),
        258: value(order, SHORT, *np.atleast_1d(bits).tolist()),
    }
    entries |= {int(tag[1:]): value(order, SHORT, *np.atleast_1d(one).tolist()) for tag, one in tags.items()}
    entries |= {273: value(order, LONG, 0), 279: value(order, LONG, len(rows))}
    entries[273] = value(order, LONG, 8 + len(written(order, {None: entries}, 8)))
    mark = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return mark + written(order, {None: entries}, 8) + rows


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("kind", PHOTOMETRIC)
def test_a_tiff_is_read_exactly_in_planes_tiles_and_with_extra_samples(bits, kind):
    tifffile = pytest.importorskip("tifffile")
    random, base = np.random.default_rng(0), PHOTOMETRIC[kind]
    for order, extra, planes, tile, packing, differences in itertools.product(
        "<>", ((), (0,), (2,), (0, 2)), (1, 2), (None, (32, 16)), (None, "zlib"), (False, True)
    ):
        samples = base + len(extra)
        if (differences and not packing) or (samples == 1 and planes == 2):
            continue
        stored = random.integers(0, 2**bits, (*HW, samples), f"u{bits // 8}")
        out = io.BytesIO()
        tifffile.imwrite(
            out,
            stored[..., 0] if samples == 1 else stored if planes == 1 else stored.transpose(2, 0, 1),
            byteorder=order,
            photometric=kind,
            extrasamples=extra or None,
            planarconfig=planes if samples > 1 else None,
            tile=tile,
            compression=packing,
            predictor=differences or None,
            rowsperstrip=None if tile else 10,
            metadata=None,
        )
        photo = decode(out.getvalue())
        levels = (stored >> 16).astype(np.uint16) if bits == 32 else stored
        colours = levels[..., :base]
        if kind == "miniswhite":
            colours = np.iinfo(levels.dtype).max - colours
        said = (order, extra, planes, tile, packing, differences)
        np.testing.assert_array_equal(photo.pixels, np.broadcast_to(colours, (*HW, 3)), err_msg=str(said))
        if extra == (2,):
            np.testing.assert_array_equal(photo.alpha, levels[..., base], err_msg=str(said))
        else:
            assert photo.alpha is None, said


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_a_tiff_of_odd_depth_is_read_over_its_full_range(bits):
    levels = np.linspace(0, (1 << bits) - 1, 4).astype(int)
    packed = np.packbits((levels[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(-1))
    full = 255 if bits <= 8 else 65_535
    photo = decode(tiff(packed.tobytes(), bits, hw=(1, 4), t259=1, t262=1, t277=1, t278=1))
    np.testing.assert_allclose(photo.pixels[0, :, 1], levels / ((1 << bits) - 1) * full, atol=0.5)


def test_premultiplied_colours_of_a_tiff_are_divided_again():
    pixel = np.array([1000, 2000, 500, 32_768], "<u2").tobytes()
    photo = decode(tiff(pixel, [16] * 4, hw=(1, 1), t259=1, t262=2, t277=4, t278=1, t338=1))
    np.testing.assert_allclose(photo.pixels[0, 0], np.array([1000, 2000, 500]) * 2, atol=1)
    assert photo.alpha[0, 0] == 32_768


@pytest.mark.parametrize(("bits", "stored"), [(8, (138, 81, 70)), (16, (35_580, 20_687, 17_892))])
def test_l_a_b_of_a_tiff_becomes_srgb(bits, stored):
    pixel = np.array(stored, f"<u{bits // 8}").tobytes()  # L* 54.3, a* 80.8, b* 69.9: sRGB's red
    photo = decode(tiff(pixel, [bits] * 3, hw=(1, 1), t259=1, t262=8, t277=3, t278=1))
    np.testing.assert_allclose(photo.pixels[0, 0], (255, 0, 0), atol=6)


@pytest.mark.parametrize(
    ("bits", "tags", "word"),
    [
        ([32] * 3, {"t262": 2, "t277": 3, "t339": [3] * 3}, "floating-point"),
        (16, {"t262": 1, "t277": 1, "t339": 2}, "signed"),
        ([5, 6, 5], {"t262": 2, "t277": 3}, "different numbers of bits"),
        (16, {"t262": 3, "t277": 1}, "colours of kind 3"),
        (16, {"t262": 1, "t277": 1, "t317": 3}, "compression"),
    ],
)
def test_a_tiff_without_one_meaning_is_refused_by_name(bits, tags, word):
    with pytest.raises(UnknownFormat, match=word):
        decode(tiff(bytes(64), bits, hw=(1, 1), t259=1, t278=1, **tags))


def test_a_pil_image_of_a_tiff_is_turned_once(saved, corners):
    data = saved(corners, "TIFF", tiffinfo={274: 6})
    np.testing.assert_array_equal(photo_from(Image.open(io.BytesIO(data))).pixels, decode(data).pixels)
    deep = saved(Image.fromarray(corners[..., 0].astype(np.uint16) * 200), "TIFF", tiffinfo={274: 6})
    np.testing.assert_array_equal(photo_from(Image.open(io.BytesIO(deep))).pixels, decode(deep).pixels)


def test_raw_files_are_refused_instead_of_cutting_their_preview():
    preview = {"hw": (2, 2), "t259": 1, "t262": 2, "t277": 3, "t278": 2}
    dng = tiff(bytes(12), [8] * 3, **preview, t50706=1)
    sensor = tiff(bytes(12), [8] * 3, hw=(2, 2), t259=1, t262=32_803, t277=3, t278=2)
    for data in (dng, sensor, b"FUJIFILMCCD-RAW 0201", struct.pack(">I", 24) + b"ftypcrx " + bytes(12)):
        with pytest.raises(UnknownFormat, match="raw file"):
            probe(data)
    # a preview first, the sensor's pixels in a directory below it
    entries = {256: value("<", LONG, 2), 257: value("<", LONG, 2), 262: value("<", SHORT, 2)}
    entries[330] = value("<", LONG, 0)
    entries[330] = value("<", LONG, 8 + len(written("<", {None: entries}, 8)))
    head = b"II*\0\x08\0\0\0" + written("<", {None: entries}, 8)
    with pytest.raises(UnknownFormat, match="raw file"):
        probe(head + written("<", {None: {262: value("<", SHORT, 32_803)}}, len(head)))


def png(colour_type, depth, rows, *side, size=(4, 2)):
    """A PNG written by hand; ``side`` are (name, data) or ready chunks."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = [chunk(b"IHDR", struct.pack(">2I5B", *size, depth, colour_type, 0, 0, 0))]
    body += [one if isinstance(one, bytes) else chunk(*one) for one in side]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*body, chunk(b"IDAT", packed), chunk(b"IEND", b"")])


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x50"), (2, b"\x1b"), (4, b"\x01\x23"), (8, b"\0\1\2\3")])
def test_the_transparent_grey_of_a_png_is_transparent_at_every_depth(depth, row):
    photo = decode(png(0, depth, [row, row], (b"tRNS", struct.pack(">H", 1))))
    stored = np.array([0, 1, 0, 1] if depth == 1 else [0, 1, 2, 3])
    np.testing.assert_array_equal(photo.alpha[1], np.where(stored == 1, 0, 255))
    np.testing.assert_array_equal(photo.pixels[1, :, 0], stored * (255 // ((1 << depth) - 1)))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_a_16_bit_png_is_transparent(channels):
    levels = np.array([[7], [258], [7], [9]], ">u2").repeat(channels, 1)
    key = struct.pack(f">{channels}H", *[258] * channels)
    photo = decode(png({1: 0, 3: 2}[channels], 16, [levels.tobytes()] * 2, (b"tRNS", key)))
    assert photo.pixels.dtype == np.uint16
    np.testing.assert_array_equal(photo.alpha[0], [65_535, 0, 65_535, 65_535])
    np.testing.assert_array_equal(photo.pixels[0], levels.repeat(3 // channels, 1))


def test_side_chunks_of_a_png_cost_no_photo():
    row = b"\1\2\3" * 4
    wrong = struct.pack(">I", 3) + b"tEXtabc" + bytes(4)
    long_text = (b"zTXt", b"a\0\0" + zlib.compress(bytes(9_000_000)))
    big_profile = (b"iCCP", b"x\0\0" + zlib.compress(bytes(3_000_000)))
    for side in (
        wrong,
        long_text,
        big_profile,
        (b"iTXt", b"broken"),
        (b"iCCP", b"x\0\0not deflate"),
        (b"eXIf", b"x"),
    ):
        np.testing.assert_array_equal(decode(png(2, 8, [row, row], side)).pixels[0, 0], (1, 2, 3))
    with pytest.raises(BrokenPhoto):
        decode(png(2, 8, [row, row]).replace(b"IDAT", b"IDAX"))


def test_a_png_of_chunks_without_end_is_broken():
    empty = struct.pack(">I", 0) + b"tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))
    with pytest.raises(BrokenPhoto):
        probe(png(2, 8, [b"\1\2\3" * 4] * 2, empty * 200_001))


def wide_sampling(saved, yuv):
    """A JPEG of one colour with 4x2 luma blocks a unit, made from the standard tables by hand: 32 x 16 pixels."""
    image = Image.fromarray(np.zeros((16, 32, 3), np.uint8))
    data = saved(image, "JPEG", quality=90)
    tables = Image.open(io.BytesIO(data)).quantization
    luma = ("00", "010", "011", "100", "101", "110", "1110", "11110", "111110")
    chroma = ("00", "01", "10", "110", "1110", "11110", "111110", "1111110", "11111110")
    bits = ""
    for level, table, codes, end, more in (
        (yuv[0], tables[0], luma, "1010", 7),
        (yuv[1], tables[1], chroma, "00", 0),
        (yuv[2], tables[1], chroma, "00", 0),
    ):
        step = round(8 * (level - 128) / table[0])
        size = abs(step).bit_length()
        amplitude = f"{step if step > 0 else step + (1 << size) - 1:0{size}b}" if size else ""
        bits += codes[size] + amplitude + end + ("00" + end) * more
    bits += "1" * (-len(bits) % 8)
    pixels = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    scan_end = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    return data[: frame + 11] + b"\x42" + data[frame + 12 : scan_end] + pixels + b"\xff\xd9"


def test_a_jpeg_of_unusual_sampling_factors_is_read(saved):
    yuv = Image.new("RGB", (1, 1), (201, 60, 40)).convert("YCbCr").getpixel((0, 0))
    data = wide_sampling(saved, yuv)
    photo = decode(data)
    assert photo.pixels.shape == (16, 32, 3)
    np.testing.assert_allclose(photo.pixels, np.broadcast_to((201, 60, 40), (16, 32, 3)), atol=4)
    np.testing.assert_allclose(decode(data, at_least=8).pixels[0, 0], (201, 60, 40), atol=4)
    with pytest.raises(BrokenPhoto):
        decode(data[:-6])


def test_a_jpeg_without_its_last_marker_has_all_its_pixels_or_is_broken(saved, corners):
    data = saved(corners, "JPEG", quality=95)
    np.testing.assert_array_equal(decode(data[:-2]).pixels, decode(data).pixels)
    with pytest.raises(BrokenPhoto):
        decode(data[:-40])


def test_a_jpeg_of_segments_without_end_is_broken_at_once(saved, corners):
    data = saved(corners, "JPEG")
    for flood in (b"\xff\xe5\0\2" * 100_000, b"\xff\xfe\0\2" * 100_000):
        with pytest.raises(BrokenPhoto):
            probe(data[:2] + flood + data[2:])
    assert probe(data[:2] + b"\xff" * 5_000_000 + data[2:]).size_hw == (40, 60)


def test_outside_its_first_frame_a_gif_is_transparent():
    palette = bytes([255, 0, 0, 0, 255, 0])
    frame = b"," + struct.pack("<4HB", 3, 2, 2, 1, 0) + b"\x02" + b"\x02\x4c\x0a" + b"\0"
    gif = b"GIF89a" + struct.pack("<2H3B", 6, 4, 0x80, 0, 0) + palette + frame + b";"
    photo = decode(gif)
    assert photo.pixels.shape == (4, 6, 3)
    inside = np.zeros((4, 6), bool)
    inside[2, 3:5] = True
    np.testing.assert_array_equal(photo.alpha, np.where(inside, 255, 0))
    np.testing.assert_array_equal(photo.pixels[2, 3], (0, 255, 0))


def test_a_bigtiff_says_its_values_alike():
    from bgimage.ifd import Tiff

    entry = struct.pack("<HHQQ", 256, 3, 1, 77)
    big = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + entry + struct.pack("<Q", 0)
    assert Tiff(big).directory(16).number(256) == 77
    assert Value(UNDEFINED, b"abc", "<").first(9) == (97, 98, 99)
