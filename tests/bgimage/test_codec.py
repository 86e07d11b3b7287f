"""Photos in: formats, depths, colour models, orientation, metadata, limits and refusals."""

import importlib
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from bgimage import codec
from bgimage.codec import Limits, check_batch, decode, photo_from, probe
from bgimage.errors import (
    BatchTooLarge,
    BrokenPhoto,
    DecodeTooSlow,
    EmptyPhoto,
    MissingCodec,
    PhotoError,
    PhotoTooLarge,
    SideTooLong,
    TooManyPixels,
    UnknownFormat,
)

LOSSLESS = [("PNG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True})]
LOSSY = [("JPEG", {"quality": 98, "subsampling": 0}), ("AVIF", {"quality": 98, "subsampling": "4:4:4"})]


def exif_turned(orientation, **tags):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for tag, value in tags.items():
        exif[int(tag[1:], 16)] = value
    return exif


@pytest.mark.parametrize(("format", "settings"), LOSSLESS)
def test_a_lossless_photo_is_read_exactly(format, settings, saved, corners):
    photo = decode(saved(corners, format, **settings))
    assert photo.format == format.lower()
    assert photo.pixels.dtype == np.uint8
    np.testing.assert_array_equal(photo.pixels, corners)
    assert photo.alpha is None


@pytest.mark.parametrize(("format", "settings"), LOSSY)
def test_a_lossy_photo_is_read_within_its_loss(format, settings, saved, corners):
    photo = decode(saved(corners, format, **settings))
    assert np.abs(photo.pixels.astype(int) - corners).mean() < 2
    assert photo.format == format.lower()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("format", "settings"), [*LOSSLESS[:2], LOSSLESS[3], *LOSSY])
def test_a_photo_turned_by_exif_comes_back_upright(orientation, format, settings, saved, corners):
    turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what the camera must undo
    stored = Image.fromarray(corners) if turn is None else Image.fromarray(corners).transpose(turn)
    turned = {"tiffinfo": {274: orientation}} if format == "TIFF" else {"exif": exif_turned(orientation)}
    data = saved(stored, format, **settings, **turned)
    photo = decode(data)
    assert photo.pixels.shape == (*probe(data).size_hw, 3) == (40, 60, 3)
    assert np.abs(photo.pixels.astype(int) - corners).mean() < 2
    if photo.exif:
        kept = Image.Exif()
        kept.load(photo.exif)
        assert kept[0x0112] == 1


def late_exif(png, exif):
    """``png`` with an eXIf chunk behind its pixels, where PNG allows it too."""
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    end = png.rindex(b"IEND") - 4
    return (
        png[:end]
        + struct.pack(">I", len(chunk) - 4)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + png[end:]
    )


def test_a_png_may_say_behind_its_pixels_how_it_is_turned(saved, corners):
    stored = Image.fromarray(corners).transpose(Image.Transpose.ROTATE_90)
    data = late_exif(saved(stored, "PNG"), exif_turned(6))
    assert probe(data).size_hw == (40, 60)
    np.testing.assert_array_equal(decode(data).pixels, corners)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "JPEG"])
def test_a_probe_decodes_no_pixels(format, saved, corners, monkeypatch):
    def load(image):
        raise AssertionError("the pixels were decoded")

    data = saved(corners, format)
    plugin = getattr(
        importlib.import_module(codec._PLUGINS[format.lower()][0]), codec._PLUGINS[format.lower()][1]
    )
    monkeypatch.setattr(plugin, "load", load)
    assert probe(data).size_hw == (40, 60)


def test_the_first_frame_of_an_animation_is_the_photo(saved, corners):
    first, second = Image.fromarray(corners), Image.fromarray(255 - corners)
    for format in ("GIF", "PNG", "WEBP"):
        data = saved(first, format, save_all=True, append_images=[second], duration=50, lossless=True)
        np.testing.assert_array_equal(decode(data).pixels, corners)


def test_grey_palette_and_one_bit_become_rgb(saved):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (8, 1))
    grey = decode(saved(ramp, "PNG")).pixels
    np.testing.assert_array_equal(grey, np.repeat(ramp[..., None], 3, axis=2))
    np.testing.assert_array_equal(
        decode(saved(Image.fromarray(ramp), "JPEG", quality=100)).pixels[..., 0], ramp
    )
    palette = Image.fromarray(ramp).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    np.testing.assert_array_equal(decode(saved(palette, "PNG")).pixels, grey)
    bits = Image.fromarray(ramp > 127)
    assert set(np.unique(decode(saved(bits, "PNG")).pixels)) == {0, 255}


def test_existing_transparency_is_kept_in_every_form(saved, corners):
    alpha = np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))
    for format in ("PNG", "WEBP", "TIFF"):
        photo = decode(
            saved(
                np.dstack([corners, alpha]),
                format,
                **({"lossless": True, "exact": True} if format == "WEBP" else {}),
            )
        )
        np.testing.assert_array_equal(photo.alpha, alpha)
        np.testing.assert_array_equal(photo.pixels, corners)
    keyed = Image.fromarray(corners)
    photo = decode(saved(keyed, "PNG", transparency=(0, 255, 0)))
    np.testing.assert_array_equal(photo.alpha == 0, (corners == (0, 255, 0)).all(-1))


def said_by(root, code, *arguments, **variables):
    """What a program writes to stderr."""
    kept = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=kept | variables | {"PYTHONPATH": str(root / "client")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


@pytest.mark.parametrize(("level", "silent"), [({}, True), ({"OPENCV_LOG_LEVEL": "WARNING"}, False)])
def test_opencv_writes_nothing_about_a_broken_photo_unless_it_was_asked_to(root, level, silent):
    code = "import numpy; from bgimage._cv import cv2; deep = numpy.zeros((8, 8, 3), numpy.uint16)\n"
    code += "cv2.imdecode(cv2.imencode('.png', deep)[1][:46], -1)"
    assert ("grfmt_png" not in said_by(root, code, **level)) == silent


def test_a_broken_16_bit_png_leaves_no_line_in_the_log(root, tmp_path):
    deep = np.arange(8 * 8 * 3).reshape(8, 8, 3).astype(np.uint16)
    whole = cv2.imencode(".png", deep)[1].tobytes()
    first = whole.index(b"IDAT") + 4
    rows = zlib.decompress(whole[first : whole.index(b"IEND") - 8])
    for number, (packed, end) in enumerate(
        [
            (zlib.compress(rows[:-50]), b""),  # rows are missing
            (zlib.compress(b"\7" + rows[1:]), b""),  # no such filter
            (zlib.compress(rows)[:-20], b"?" * 20),  # damaged
            (zlib.compress(rows)[:30], b""),
        ]
    ):
        pixels = b"IDAT" + packed + end
        chunk = struct.pack(">I", len(pixels) - 4) + pixels + struct.pack(">I", zlib.crc32(pixels))
        (tmp_path / f"{number}.png").write_bytes(whole[: first - 8] + chunk + whole[-12:])
    (tmp_path / "cut.png").write_bytes(whole[:46])
    code = """
import sys
from bgimage.codec import decode
from bgimage.errors import BrokenPhoto
for path in sys.argv[1:]:
    try:
        decode(open(path, "rb").read())
    except BrokenPhoto:
        continue
    raise SystemExit(f"{path} was read")
"""
    assert said_by(root, code, *sorted(tmp_path.iterdir())) == ""


def test_sixteen_bits_stay_sixteen_bits(saved):
    deep = (np.arange(20 * 30 * 3).reshape(20, 30, 3) * 36).astype(np.uint16)
    alpha = (np.arange(600).reshape(20, 30) * 100).astype(np.uint16)
    for format in (".png", ".tiff"):
        photo = decode(cv2.imencode(format, deep[..., ::-1])[1].tobytes())
        assert photo.pixels.dtype == np.uint16
        np.testing.assert_array_equal(photo.pixels, deep)
    photo = decode(cv2.imencode(".png", np.dstack([deep[..., ::-1], alpha]))[1].tobytes())
    np.testing.assert_array_equal(photo.pixels, deep)
    np.testing.assert_array_equal(photo.alpha, alpha)
    grey = decode(saved(Image.fromarray(alpha), "PNG"))
    np.testing.assert_array_equal(grey.pixels, np.repeat(alpha[..., None], 3, axis=2))


def test_cmyk_is_converted_and_its_profile_not_kept(saved):
    inks = Image.fromarray(np.tile(np.array([[[0, 255, 255, 0]]], np.uint8), (16, 16, 1)), "CMYK")
    photo = decode(saved(inks, "JPEG", quality=100))
    np.testing.assert_allclose(photo.pixels[8, 8], (255, 0, 0), atol=3)
    photo = decode(saved(inks, "TIFF"))
    np.testing.assert_array_equal(photo.pixels[8, 8], (255, 0, 0))
    assert photo.icc is None


def test_profile_exif_and_resolution_are_read(saved, corners):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(corners, "JPEG", icc_profile=profile, exif=exif_turned(1, x010F="Maker"), dpi=(300, 300))
    photo = decode(data)
    assert photo.icc == profile
    assert photo.dpi == (300, 300)
    assert b"Maker" in photo.exif


def test_a_jpeg_may_be_decoded_smaller_but_knows_its_full_size(saved):
    ramp = np.tile(np.linspace(0, 255, 1600).astype(np.uint8)[None, :, None], (1200, 1, 3))
    data = saved(ramp, "JPEG", quality=95)
    photo = decode(data, at_least=320)
    assert photo.pixels.shape == (300, 400, 3)
    assert photo.size_hw == (1200, 1600)
    turned = decode(saved(ramp, "JPEG", exif=exif_turned(6)), at_least=801)
    assert turned.pixels.shape == (1600, 1200, 3)
    assert turned.size_hw == (1600, 1200)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"])
def test_a_photo_cut_short_is_broken(format, saved):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    data = saved(noise, format)
    with pytest.raises(BrokenPhoto, match=format):
        decode(data[: len(data) // 2])
    with pytest.raises(PhotoError):
        decode(data[:20])


def test_stray_bytes_inside_a_jpeg_are_forgiven(saved, corners):
    data = saved(corners, "JPEG", quality=95)
    stray = data[:-2] + b"\0" * 7 + data[-2:]
    np.testing.assert_array_equal(decode(stray).pixels, decode(data).pixels)


def test_each_limit_has_its_own_error(saved, corners):
    data = saved(corners, "PNG")
    for limits, error in (
        (Limits(max_bytes=10), PhotoTooLarge),
        (Limits(max_pixels=2399), TooManyPixels),
        (Limits(max_side=59), SideTooLong),
    ):
        for read in (decode, probe):
            with pytest.raises(error):
                read(data, limits)
    assert probe(data, Limits(max_pixels=2400, max_side=60)).size_hw == (40, 60)
    with pytest.raises(EmptyPhoto):
        decode(b"")
    with pytest.raises(UnknownFormat, match="47 49 46 38"):
        decode(b"GIF8 is not quite it")
    with pytest.raises(ValueError, match="max_side=0"):
        Limits(max_side=0)


def test_the_photos_of_one_request_have_limits_together_and_one_alone_has_its_own(saved, corners):
    data = saved(corners, "PNG")
    tight = Limits(max_batch_bytes=2 * len(data), max_batch_pixels=2 * 2400)
    check_batch([data, data], tight)
    check_batch([data], Limits(max_batch_bytes=1, max_batch_pixels=1))
    check_batch([], tight)
    with pytest.raises(BatchTooLarge, match=f"3 photos of {3 * len(data)} bytes together"):
        check_batch([data] * 3, tight)
    with pytest.raises(BatchTooLarge, match=r"allowed are 0\.0048 in one request; send them in several"):
        check_batch([data] * 3, Limits(max_batch_pixels=2 * 2400))
    with pytest.raises(TooManyPixels):
        check_batch([data, data], Limits(max_pixels=2399))


def inflated(data, side):
    """A GIF or lossless WebP whose header says ``side`` x ``side``: to encode a true one takes half a minute."""
    if data.startswith(b"GIF"):
        return data[:6] + struct.pack("<2H", side, side) + data[10:]
    at = data.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", data, at)
    return data[:at] + struct.pack("<I", bits >> 28 << 28 | (side - 1) << 14 | side - 1) + data[at + 4 :]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_pixel_bomb_is_refused_before_it_is_decoded(format, saved, corners):
    side = 16_000
    if format in ("GIF", "WEBP"):
        data = inflated(saved(corners, format, lossless=True), side)
    else:
        data = saved(Image.new("1", (side, side)), format)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TooManyPixels, match="16000 x 16000"):
            decode(data)


def test_a_scan_bomb_is_refused_before_it_is_decoded(saved):
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    data = saved(noise, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    head, tail = data[:-2], data[-2:]
    bomb = head + scan[:14] * 200_000 + tail
    with pytest.raises(DecodeTooSlow, match="scans"):
        decode(bomb, Limits(max_decode_s=5))
    assert decode(data, Limits(max_decode_s=5)).size_hw == (512, 512)


def test_block_wise_decoders_stop_at_the_deadline(saved):
    noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
    with pytest.raises(DecodeTooSlow):
        decode(saved(noise, "PNG"), Limits(max_decode_s=1e-9))


def test_heic_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingCodec, match=r"bgclient\[heif\]"):
        decode(struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + bytes(100))


def test_a_photo_that_decodes_to_another_size_than_its_header_says_is_broken(saved, corners, monkeypatch):
    # the fuzzer made a HEIC that did: the limits were then checked against the wrong size
    monkeypatch.setattr(codec.colour, "rgb_of", lambda image: (np.zeros((24, 64, 3), np.uint8), None))
    with pytest.raises(BrokenPhoto, match="save the photo again"):
        decode(saved(corners, "PNG"))


def test_heic_is_read_with_its_extra(corners):
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(Image.fromarray(corners)).save(out, quality=95)
    photo = decode(out.getvalue())
    assert photo.format == "heic"
    assert np.abs(photo.pixels.astype(int) - corners).mean() < 4


def test_arrays_and_pil_images_are_photos_too(corners):
    np.testing.assert_array_equal(photo_from(corners).pixels, corners)
    np.testing.assert_array_equal(photo_from(corners[..., 0]).pixels[..., 2], corners[..., 0])
    rgba = photo_from(np.dstack([corners, corners[..., 0]]))
    np.testing.assert_array_equal(rgba.alpha, corners[..., 0])
    image = Image.fromarray(corners)
    image.getexif()[0x0112] = 6
    assert photo_from(image).pixels.shape == (60, 40, 3)
    photo = photo_from(corners)
    assert photo_from(photo) is photo
    for wrong in (corners.astype(float), corners[..., :2], "me.jpg", np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(PhotoError):
            photo_from(wrong)


def test_many_threads_decode_alike(saved, corners):
    data = [saved(corners, format, **settings) for format, settings in LOSSLESS] * 4
    results = [None] * len(data)

    def work(number):
        results[number] = decode(data[number]).pixels

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(pixels, corners) for pixels in results)


@settings(max_examples=150)
@given(st.data())
def test_whatever_the_bytes_the_answer_is_a_photo_or_a_photo_error(data):
    start = data.draw(st.sampled_from(_STARTS))
    raw = bytearray(start)
    for _ in range(data.draw(st.integers(0, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(1, len(raw)))]
    try:
        photo = decode(bytes(raw), Limits(max_pixels=1_000_000))
    except PhotoError:
        return
    assert photo.pixels.ndim == 3
    assert photo.pixels.shape[:2] == photo.size_hw


def _starts():
    pixels = np.random.default_rng(1).integers(0, 255, (16, 24, 3), np.uint8)
    for format in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, format)
        yield out.getvalue()


_STARTS = list(_starts())


def test_every_format_that_is_promised_has_a_reader():
    assert set(codec.FORMATS) == set(codec._PLUGINS)
