"""Colours are shown as the photo's own profile or chunk says, whatever form it has."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from bgimage import colour
from bgimage.codec import decode
from bgimage.contract import Contract
from bgimage.finish import finish
from bgimage.options import Options

CONTRACT = Contract()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = colour.of_code_points(12, 13)


def in_srgb(data):
    """The first pixel as a viewer with colour management shows it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    profile = image.info.get("icc_profile")
    pixels = np.asarray(image)
    return colour.to_srgb(pixels, profile)[0, 0] if profile else pixels[0, 0]


def cut(data, **options):
    return finish(decode(data), np.ones(CONTRACT.size_hw, np.float32), CONTRACT, Options(**options)).encode()


def with_chunk(png, name, data):
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize("format", ["png", "webp", "tiff"])
@pytest.mark.parametrize(
    ("pixel", "name", "data", "shown"),
    [  # as Chromium shows them
        ((128, 128, 128), b"gAMA", struct.pack(">I", 100_000), (188, 188, 188)),
        ((128, 40, 200), b"cICP", bytes([12, 13, 0, 1]), (139, 30, 208)),
        ((128, 40, 200), b"cICP", bytes([1, 13, 0, 1]), (128, 40, 200)),
        ((128, 40, 200), b"gAMA", struct.pack(">I", 45_455), (128, 40, 200)),
        ((128, 40, 200), b"gAMA", bytes(4), (128, 40, 200)),
        ((128, 40, 200), b"cHRM", bytes(32), (128, 40, 200)),
    ],
)
def test_what_a_png_says_of_its_colours_reaches_every_format(format, pixel, name, data, shown, saved):
    photo = with_chunk(saved(Image.new("RGB", (8, 8), pixel), "PNG"), name, data)
    options = {"quality": 100} if format == "webp" else {}
    np.testing.assert_allclose(in_srgb(cut(photo, format=format, **options)), shown, atol=3)
    np.testing.assert_allclose(in_srgb(cut(photo, colors="srgb")), shown, atol=2)


def test_a_grey_profile_is_converted_at_8_and_16_bits(saved):
    linear = struct.pack(">I4sI4s4s4s", 0, b"", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    linear = (
        linear.ljust(128, b"\0")
        + struct.pack(">I4sII", 1, b"kTRC", 144, 14)
        + b"curv"
        + bytes(4)
        + struct.pack(">IH", 1, 256)
    )
    for levels in (np.full((8, 8), 128, np.uint8), np.full((8, 8), 128 * 257, np.uint16)):
        photo = decode(saved(Image.fromarray(levels), "PNG", icc_profile=linear))
        full = np.iinfo(levels.dtype).max
        assert photo.pixels.dtype == levels.dtype
        np.testing.assert_allclose(photo.pixels[0, 0] / full, [188 / 255] * 3, atol=0.002)
        assert photo.icc is None
    for format in ("JPEG", "TIFF"):
        data = saved(Image.new("L", (8, 8), 128), format, icc_profile=linear)
        np.testing.assert_allclose(decode(data).pixels[0, 0], (188, 188, 188), atol=1)


@pytest.mark.parametrize(
    ("form", "numbers", "level", "light"),
    [
        (0, (2.2,), 0.5, 0.5**2.2),
        (3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), 0.5, 0.21404),
        (1, (2, 1, 0), 0.5, 0.25),
    ],
)
def test_parametric_grey_curves_are_read(form, numbers, level, light):
    tag = struct.pack(f">4s4xHxx{len(numbers)}i", b"para", form, *(round(n * 65_536) for n in numbers))
    head = struct.pack(">I4sI4s4s4s", 0, b"", 0x04000000, b"mntr", b"GRAY", b"XYZ ").ljust(128, b"\0")
    curve = colour.grey_curve(head + struct.pack(">I4sII", 1, b"kTRC", 144, len(tag)) + tag)
    np.testing.assert_allclose(np.interp(level, np.linspace(0, 1, len(curve)), curve), light, atol=1e-4)
    assert colour.grey_curve(head) is None


def test_srgb_is_known_by_its_numbers_and_not_by_its_name(saved):
    linear = colour._profile(colour.SRGB_PRIMARIES, colour._para(1.0)).replace(
        "RGB".encode("utf-16-be"), "sRG".encode("utf-16-be")
    )
    data = saved(Image.new("RGB", (8, 8), (55, 10, 128)), "PNG", icc_profile=linear)
    np.testing.assert_allclose(in_srgb(cut(data, colors="srgb")), (128, 56, 188), atol=1)
    assert colour.is_srgb(SRGB)
    assert not colour.is_srgb(linear)
    assert not colour.is_srgb(P3)


def test_a_made_profile_is_a_profile_to_the_colour_engine():
    for code in (1, 4, 5, 6, 9, 11, 12, 22):
        for transfer in (4, 8, 13, 16, 18):
            profile = colour.of_code_points(code, transfer)
            if profile is None:
                assert (code, transfer) == (1, 13)
                continue
            assert (
                ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip() == "RGB"
            )
            white = np.full((1, 1, 3), 255, np.uint8)
            np.testing.assert_allclose(colour.to_srgb(white, profile), white, atol=2)
    assert colour.of_gamma(1 / 2.2, None) is None
    assert colour.of_gamma(1.0, (0.3, 0.3) * 4) is None  # primaries on one point


def test_colours_of_an_avif_without_a_profile_are_those_of_its_colour_box(saved):
    data = saved(Image.new("RGB", (8, 8), (128, 40, 200)), "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"colrnclx") + 8
    wide = data[:at] + struct.pack(">2H", 12, 13) + data[at + 4 :]
    assert decode(data).icc is None
    np.testing.assert_allclose(in_srgb(cut(wide)), (139, 30, 208), atol=4)


def test_a_background_colour_is_meant_as_srgb_whatever_the_profile(saved):
    data = saved(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", icc_profile=P3)
    done = finish(
        decode(data), np.zeros(CONTRACT.size_hw, np.float32), CONTRACT, Options(background="#3366cc")
    )
    np.testing.assert_allclose(done.pixels[0, 0], (66, 101, 196), atol=2)
