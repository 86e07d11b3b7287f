"""Pictures out: every format read back by a decoder that is not ours."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms

from bgimage.codec import decode
from bgimage.encode import ENCODERS, encode
from bgimage.errors import OptionError

SHAPES = st.sampled_from(
    [(1, 1), (1, 1, 3), (3, 1, 4), (5, 7, 3), (65, 3, 4), (130, 9), (64, 2, 3), (300, 2, 4)]
)
EXIF = Image.Exif()
EXIF[0x010F] = "Maker"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@settings(max_examples=60)
@given(st.data(), st.sampled_from([np.uint8, np.uint16]), st.sampled_from(["png", "tiff"]))
def test_png_and_tiff_come_back_exactly(data, dtype, format):
    shape = data.draw(SHAPES)
    pixels = data.draw(arrays(dtype, shape))
    photo = decode(encode(pixels, format))
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim == 2 and format == "tiff" and dtype == np.uint16:
        assert photo.pixels.dtype == np.uint16
    np.testing.assert_array_equal(photo.pixels, colours[..., :3])
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        np.testing.assert_array_equal(photo.alpha, pixels[..., 3])


def test_a_png_does_not_depend_on_threads():
    pixels = np.random.default_rng(0).integers(0, 9, (700, 40, 4), np.uint8)
    found = []
    for threads in (1, 2):
        cv2.setNumThreads(threads)
        found.append(encode(pixels))
    cv2.setNumThreads(-1)
    assert found[0] == found[1]


def test_opencv_reads_our_png_and_pillow_our_tiff():
    ramp = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint8)
    pixels = np.dstack([ramp, ramp.T[:1].repeat(200, 0)[:, :1].repeat(300, 1), 255 - ramp, ramp])
    read = cv2.imdecode(np.frombuffer(encode(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(cv2.cvtColor(read, cv2.COLOR_BGRA2RGBA), pixels)
    image = Image.open(io.BytesIO(encode(pixels, "tiff")))
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_strided_array_is_encoded_like_its_copy():
    pixels = np.random.default_rng(0).integers(0, 256, (70, 50, 4), np.uint8)
    assert encode(pixels[::2, 3:, :3]) == encode(pixels[::2, 3:, :3].copy())


@pytest.mark.parametrize("format", ENCODERS)
def test_profile_exif_and_resolution_are_written(format, astronaut):
    data = encode(astronaut, format, icc=PROFILE, exif=EXIF.tobytes(), dpi=(300.0, 150.0))
    image = Image.open(io.BytesIO(data))
    assert image.format == format.upper()
    assert image.info["icc_profile"] == PROFILE
    assert image.getexif()[0x010F] == "Maker"
    if format not in ("webp", "avif"):  # these have no field for it
        np.testing.assert_allclose([float(value) for value in image.info["dpi"]], (300, 150), atol=0.02)


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_lossy_formats_keep_alpha(format):
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[16:48, 16:48] = (200, 100, 50, 255)
    photo = decode(encode(rgba, format))
    assert np.abs(photo.alpha.astype(int) - rgba[..., 3]).max() <= 12
    assert np.abs(photo.pixels[24:40, 24:40].astype(int) - (200, 100, 50)).max() <= 6


def test_lower_quality_is_smaller(astronaut):
    for format in ("jpeg", "webp", "avif"):
        assert len(encode(astronaut, format, quality=30)) < len(encode(astronaut, format, quality=90)) / 2


def test_sixteen_bits_are_rounded_where_the_format_has_eight():
    deep = np.full((32, 32, 3), 257 * 100 + 100, np.uint16)
    assert set(np.unique(decode(encode(deep, "webp", quality=100)).pixels)) <= {99, 100, 101}


def test_what_a_format_cannot_hold_is_refused_with_a_way_out():
    with pytest.raises(OptionError, match="background="):
        encode(np.zeros((2, 2, 4), np.uint8), "jpeg")
    with pytest.raises(OptionError, match="png, webp"):
        encode(np.zeros((2, 2, 3), np.uint8), "gif")
    with pytest.raises(OptionError, match="at most 16383"):
        encode(np.zeros((1, 16_384, 3), np.uint8), "webp")


def test_a_cut_out_photo_packs_nearly_as_well_as_with_pillow(astronaut):
    rgba = np.dstack([astronaut, np.full((512, 512), 255, np.uint8)])
    rgba[:, :200] = 0
    slow = io.BytesIO()
    Image.fromarray(rgba).save(slow, "PNG")
    assert len(encode(rgba)) < 1.25 * slow.tell()
