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
from bgimage.png import CHANNELS, PASSES

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
        (8, {"t262": 1, "t277": 1, "t339": 2}, "signed"),
        ([5, 6, 5], {"t262": 2, "t277": 3}, "different numbers of bits"),
        (16, {"t262": 3, "t277": 1}, "colours of kind 3"),
        (16, {"t262": 1, "t277": 1, "t317": 3}, "compression"),
    ],
)
def test_a_tiff_without_one_meaning_is_refused_by_name(bits, tags, word):
    with pytest.raises(UnknownFormat, match=word):
        decode(tiff(bytes(64), bits, hw=(1, 1), t259=1, t278=1, **tags))


@pytest.mark.parametrize("photometric", [5, 8])
def test_alpha_has_the_depth_of_its_colours_where_they_were_converted(photometric):
    samples = 5 if photometric == 5 else 4
    pixel = np.full(samples, 128 * 257, "<u2").tobytes()
    photo = decode(
        tiff(pixel, [16] * samples, hw=(1, 1), t259=1, t262=photometric, t277=samples, t278=1, t338=2)
    )
    assert photo.pixels.dtype == photo.alpha.dtype == np.uint8
    assert photo.alpha[0, 0] == 128


@pytest.mark.parametrize("bits", [8, 16])
def test_a_fourth_sample_of_which_nothing_is_said_is_alpha_at_every_depth(bits):
    pixel = np.array([1, 2, 3, 4], f"<u{bits // 8}").tobytes()
    photo = decode(tiff(pixel, [bits] * 4, hw=(1, 1), t259=1, t262=2, t277=4, t278=1))
    assert (photo.pixels[0, 0].tolist(), photo.alpha[0, 0]) == ([1, 2, 3], 4)


def test_a_pil_image_that_nobody_has_read_is_its_file():
    deep = np.array([[[1000, 20_000, 60_000]] * 4] * 2, ">u2")
    rgb16 = png(2, 16, [row.tobytes() for row in deep])
    grey2 = png(0, 2, [b"\x1b"] * 2, (b"tRNS", struct.pack(">H", 1)), (b"gAMA", struct.pack(">I", 100_000)))
    for data in (rgb16, grey2):
        image = Image.open(io.BytesIO(data))
        of_image, of_file = photo_from(image), decode(data)
        np.testing.assert_array_equal(of_image.pixels, of_file.pixels)
        assert (of_image.alpha is None, of_image.icc) == (of_file.alpha is None, of_file.icc)
        image.load()  # it can still be used


def test_a_pil_image_that_was_changed_is_what_it_was_changed_to(saved, corners):
    data = saved(corners, "JPEG", quality=95, dpi=(72, 72))
    for change in (
        lambda image: image.info.update(dpi=(300, 300)),
        lambda image: image.info.pop("dpi"),
        lambda image: image.getexif().update({274: 6}),
        lambda image: image.draft("L", (30, 20)),
    ):
        image = Image.open(io.BytesIO(data))
        change(image)
        size, dpi = image.size, image.info.get("dpi")
        photo = photo_from(image)
        assert photo.dpi == dpi
        assert sorted(photo.size_hw) == sorted(size)


def test_what_pillow_misreads_is_refused_where_its_file_is_gone():
    preview = {"hw": (2, 2), "t259": 1, "t277": 3, "t278": 2}
    dng = tiff(bytes(12), [8] * 3, **preview, t262=2, t50706=1)
    deep = tiff(bytes(4 * 4), 32, hw=(2, 2), t259=1, t262=1, t277=1, t278=2)
    for data, word in ((dng, "raw"), (deep, "TIFF")):
        image = Image.open(io.BytesIO(data))
        image.load()
        with pytest.raises(UnknownFormat, match=word):
            photo_from(image)
    with pytest.raises(UnknownFormat, match="raw"):
        photo_from(Image.open(io.BytesIO(dng)))


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


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour_type", [0, 2, 6])
def test_a_png_is_read_while_all_of_its_pixels_are_there(depth, colour_type):
    channels = CHANNELS[colour_type]
    levels = np.random.default_rng(0).integers(1, 1 << depth, (2, 4, channels), f"u{depth // 8}")
    rows = [row.astype(f">u{depth // 8}").tobytes() for row in levels]
    data = png(colour_type, depth, rows)
    first = data.index(b"IDAT")
    last = data.index(b"IEND") - 4
    packed = data[first + 4 : last - 4]

    def with_pixels(packed, mark=bytes(4)):
        return data[: first - 4] + struct.pack(">I", len(packed)) + b"IDAT" + packed + mark

    for name, whole in {
        "no end": data[:last],
        "an end cut short": data[:-5],
        "wrong checksum of the chunk": with_pixels(packed) + data[last:],
        "wrong checksum of the pixels": with_pixels(packed[:-1] + b"?") + data[last:],
        "no checksum at all": with_pixels(packed[:-4], b""),
        "bytes behind the pixels": with_pixels(packed + b"junk") + data[last:],
    }.items():
        read = decode(whole).pixels
        np.testing.assert_array_equal(read[..., 0], levels[..., 0], err_msg=name)
    for missing in (png(colour_type, depth, rows[:1]), with_pixels(packed[:-9], b"")):
        with pytest.raises(BrokenPhoto):
            decode(missing)


def test_an_interlaced_png_whose_last_pass_is_missing_is_broken():
    levels = np.arange(1, 17, dtype=np.uint8).reshape(4, 4)
    passes = [levels[top::down, left::across] for left, top, across, down in PASSES]
    rows = [b"\0" + row.tobytes() for part in passes if part.size for row in part]
    whole = png(0, 8, [], size=(4, 4)).replace(b"\0\0\0\0\0IHDR", b"")  # only its chunks are needed
    head = b"\0\0\0\rIHDR" + struct.pack(">2I5B", 4, 4, 8, 0, 0, 0, 1)
    head += struct.pack(">I", zlib.crc32(head[4:]))

    def interlaced(rows):
        packed = zlib.compress(b"".join(rows))
        mark = struct.pack(">I", zlib.crc32(b"IDAT" + packed))
        return whole[:8] + head + struct.pack(">I", len(packed)) + b"IDAT" + packed + mark + whole[-12:]

    np.testing.assert_array_equal(decode(interlaced(rows)).pixels[..., 0], levels)
    with pytest.raises(BrokenPhoto):
        decode(interlaced(rows[:-2]))


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
    np.testing.assert_array_equal(decode(data[:-2]).pixels, photo.pixels)
    with pytest.raises(BrokenPhoto):
        decode(data[:-6])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_marker_has_all_its_pixels_or_is_broken(saved, mode, progressive):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).convert(mode)
    data = saved(noise, "JPEG", quality=95, progressive=progressive)
    whole = decode(data).pixels
    for end in (b"", b"\xff", bytes(100), b"text that follows"):
        np.testing.assert_array_equal(decode(data[:-2] + end).pixels, whole)
    with pytest.raises(BrokenPhoto):
        decode(data[:-40])


def test_a_mark_of_adobe_or_jfif_that_is_too_short_costs_no_photo(saved, corners):
    data = saved(corners, "JPEG", quality=95)
    for segment in (b"\xff\xee\0\7Adobe", b"\xff\xe0\0\7JFIF\0", b"\xff\xe2\0\x0eICC_PROFILE\0"):
        np.testing.assert_array_equal(decode(data[:2] + segment + data[2:]).pixels, decode(data).pixels)


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


def test_outside_its_first_frame_a_webp_is_transparent(saved):
    still = saved(Image.fromarray(np.full((4, 6, 3), 200, np.uint8)), "WEBP", lossless=True)
    place = b"".join(n.to_bytes(3, "little") for n in (1, 2, 5, 3, 100)) + b"\2"  # at (2, 4), 6 x 4
    frame = b"ANMF" + struct.pack("<I", len(place + still[12:])) + place + still[12:]
    canvas = (19).to_bytes(3, "little") + (9).to_bytes(3, "little")
    for flags in (0x02, 0x12):  # without and with the flag of transparency
        body = (
            b"WEBPVP8X" + struct.pack("<IB3x", 10, flags) + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
        )
        body += frame
        photo = decode(b"RIFF" + struct.pack("<I", len(body)) + body)
        alpha = np.zeros((10, 20))
        alpha[4:8, 2:8] = 255
        np.testing.assert_array_equal(photo.alpha, alpha)
        np.testing.assert_array_equal(photo.pixels[4:8, 2:8], 200)


def test_a_bigtiff_says_its_values_alike():
    from bgimage.ifd import Tiff

    entry = struct.pack("<HHQQ", 256, 3, 1, 77)
    big = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + entry + struct.pack("<Q", 0)
    assert Tiff(big).directory(16).number(256) == 77
    assert Value(UNDEFINED, b"abc", "<").first(9) == (97, 98, 99)
