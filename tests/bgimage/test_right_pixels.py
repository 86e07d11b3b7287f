"""Right pixels by default: what other removers get wrong, each with its exact expected value."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from bgimage import foreground
from bgimage.codec import decode, photo_from
from bgimage.contract import Contract
from bgimage.encode import encode
from bgimage.errors import Doubtful, NoPersonFound, OptionError
from bgimage.finish import finish
from bgimage.options import Options

CONTRACT = Contract()
RED, GREEN = (254, 0, 0), (0, 255, 0)


def test_alpha_is_straight():
    """(254, 0, 0) at half alpha is stored as (254, 0, 0, 128), not blended with black to (127, 0, 0, 128)."""
    pixels = np.full((64, 64, 3), RED, np.uint8)
    rgba = foreground.cutout(photo_from(pixels), np.full((64, 64), 128, np.uint8))
    assert set(map(tuple, rgba.reshape(-1, 4))) == {(254, 0, 0, 128)}
    stored = Image.open(io.BytesIO(encode(rgba)))
    assert stored.mode == "RGBA"
    assert stored.getpixel((32, 32)) == (254, 0, 0, 128)


def test_fully_transparent_pixels_have_one_defined_colour(disc_photo, disc, answer):
    done = finish(photo_from(disc_photo), answer(disc), CONTRACT)
    assert set(map(tuple, done.pixels[done.matte == 0])) == {(0, 0, 0, 0)}


def test_opaque_pixels_keep_their_colour_exactly(disc_photo, disc, answer):
    done = finish(photo_from(disc_photo), answer(disc), CONTRACT)
    inside = done.matte == 255
    assert inside.sum() > 40_000
    np.testing.assert_array_equal(done.pixels[inside][:, :3], disc_photo[inside])


def test_the_old_background_leaves_no_tint(disc_photo, disc):
    """Red on green: every visible pixel of the cut-out is red, though the photo's rim is half green."""
    matte = np.rint(disc * 255).astype(np.uint8)
    rim = (matte > 25) & (matte < 230)
    assert disc_photo[rim][:, 1].mean() > 100
    clean = foreground.cutout(photo_from(disc_photo), matte)[rim].astype(int)
    np.testing.assert_allclose(clean[:, :3], np.broadcast_to(RED, (len(clean), 3)), atol=10)
    as_it_was = foreground.cutout(photo_from(disc_photo), matte, decontaminate=False)
    np.testing.assert_array_equal(as_it_was[rim][:, :3], disc_photo[rim])


def test_a_png_made_by_rows_is_the_png_of_the_whole_picture(answer):
    y, x = np.mgrid[:900, :700]
    alpha = np.clip((300 - np.hypot(y - 450, x - 300)) / 9, 0, 1).astype(np.float32)
    photo = photo_from(np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8))
    done = finish(photo, answer(alpha), CONTRACT)
    by_rows = done.encode()
    assert "pixels" not in vars(done)
    np.testing.assert_array_equal(done.pixels, foreground.cutout(photo, done.matte))
    assert done.encode() == encode(done.pixels) == by_rows


def test_decontamination_needs_no_compiler(disc_photo, disc, answer):
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from bgimage import codec, foreground;"
        "foreground.cutout(codec.photo_from(np.zeros((64, 64, 3), np.uint8)), np.full((64, 64), 100, np.uint8));"
        "assert not {'numba', 'pymatting', 'torch', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_edges_follow_the_photo_at_full_resolution(answer):
    """The network sees a rim of 2 pixels as one blurred pixel of its own; the matte gives it back."""
    y, x = np.mgrid[:1280, :1280]
    truth = np.clip((400 - np.hypot(y - 640, x - 640)) / 2 + 0.5, 0, 1).astype(np.float32)
    photo = np.rint(truth[..., None] * RED + (1 - truth[..., None]) * GREEN).astype(np.uint8)

    def error(edges):
        matte = finish(photo_from(photo), answer(truth), CONTRACT, Options(edges=edges)).matte
        near = np.abs(np.hypot(y - 640, x - 640) - 400) < 8
        return np.abs(matte / 255 - truth)[near].mean(), len(np.unique(matte[near]))

    (bilinear, _), (fast, levels) = error("none"), error("fast")
    assert bilinear > 0.05
    assert fast < 0.01
    assert levels > 100  # soft, not binary


@pytest.mark.slow
def test_fifty_megapixels_are_cut_out_in_bounded_memory(disc, answer):
    """A photo of 8,192 x 6,144 pixels; peak memory beside it at most 12 bytes a pixel + 100 MB."""
    import resource

    photo = np.empty((6144, 8192, 3), np.uint8)
    photo[:] = GREEN
    cv2.circle(photo, (4096, 3072), 1500, RED, -1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = finish(photo_from(photo), answer(disc), CONTRACT)
    assert done.pixels.shape == (6144, 8192, 4)
    assert len(done.encode()) > 0
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert used <= 12 * photo.shape[0] * photo.shape[1] + 100e6
    np.testing.assert_array_equal(done.pixels[3072, 4096], (*RED, 255))
    np.testing.assert_array_equal(done.pixels[10, 10], (0, 0, 0, 0))


def test_the_result_on_a_colour_is_opaque(disc_photo, disc, answer):
    done = finish(photo_from(disc_photo), answer(disc), CONTRACT, Options(background="#0000ff"))
    assert done.pixels.shape == (480, 640, 3)
    np.testing.assert_array_equal(done.pixels[0, 0], (0, 0, 255))
    np.testing.assert_array_equal(done.pixels[240, 320], RED)
    assert Image.open(io.BytesIO(done.encode())).mode == "RGB"


def test_exif_turns_the_photo_upright_and_is_reset(disc_photo, disc, answer, saved):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    stored = Image.fromarray(disc_photo).transpose(Image.Transpose.ROTATE_90)
    photo = decode(saved(stored, "PNG", exif=exif))
    done = Image.open(io.BytesIO(finish(photo, answer(disc), CONTRACT).encode()))
    assert done.size == (640, 480)
    assert done.getexif()[0x0112] == 1
    assert done.getexif()[0x010F] == "Maker"


def test_the_place_can_be_dropped_and_metadata_too(disc_photo, disc, answer, saved):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    photo = decode(saved(disc_photo, "JPEG", exif=exif, dpi=(72, 72)))

    def written(**options):
        return Image.open(io.BytesIO(finish(photo, answer(disc), CONTRACT, Options(**options)).encode()))

    assert dict(written().getexif().get_ifd(0x8825))[1] == "N"
    assert dict(written(drop_gps=True).getexif().get_ifd(0x8825)) == {}
    assert written(drop_gps=True).getexif()[0x010F] == "Maker"
    bare = written(keep_metadata=False)
    assert dict(bare.getexif()) == {}
    assert "dpi" not in bare.info


def _wide_profile():
    """An RGB profile that is clearly not sRGB: sRGB's with red and blue swapped in its header-described matrix."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    entries = {bytes(profile[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    profile[entries[b"rXYZ"] : entries[b"rXYZ"] + 4] = b"bXYZ"
    profile[entries[b"bXYZ"] : entries[b"bXYZ"] + 4] = b"rXYZ"
    at = int.from_bytes(profile[entries[b"desc"] + 4 : entries[b"desc"] + 8], "big")
    size = int.from_bytes(profile[entries[b"desc"] + 8 : entries[b"desc"] + 12], "big")
    text = bytes(profile[at : at + size])
    profile[at : at + size] = text.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")).replace(
        b"sRGB", b"swap"
    )
    return bytes(profile)


def test_the_colour_profile_is_kept_or_converted_on_request(disc_photo, disc, answer, saved):
    profile = _wide_profile()
    photo = decode(saved(disc_photo, "PNG", icc_profile=profile))
    kept = finish(photo, answer(disc), CONTRACT)
    assert Image.open(io.BytesIO(kept.encode())).info["icc_profile"] == profile
    np.testing.assert_array_equal(kept.pixels[240, 320, :3], RED)
    converted = finish(photo, answer(disc), CONTRACT, Options(colors="srgb"))
    assert "icc_profile" not in Image.open(io.BytesIO(converted.encode())).info
    np.testing.assert_allclose(converted.pixels[240, 320, :3], RED[::-1], atol=2)
    # A colour is meant as sRGB, whatever space the photo is in.
    blue = finish(photo, answer(disc), CONTRACT, Options(background="#0000ff"))
    np.testing.assert_allclose(blue.pixels[0, 0], (255, 0, 0), atol=2)


def test_sixteen_bits_keep_their_depth(disc, answer):
    red, green = np.array((65_000, 300, 1)), np.array((7, 60_001, 9))
    deep = np.rint(disc[..., None] * red + (1 - disc[..., None]) * green).astype(np.uint16)
    for format in ("png", "tiff"):
        photo = decode(cv2.imencode("." + format, deep[..., ::-1])[1].tobytes())
        done = decode(finish(photo, answer(disc), CONTRACT, Options(format=format)).encode())
        assert done.pixels.dtype == np.uint16
        np.testing.assert_array_equal(done.pixels[240, 320], red)
        assert done.alpha[240, 320] == 65_535
        assert done.alpha[0, 0] == 0
    on_white = finish(photo, answer(disc), CONTRACT, Options(background="white"))
    np.testing.assert_array_equal(on_white.pixels[0, 0], (65_535, 65_535, 65_535))


def test_existing_transparency_stays(disc_photo, disc, answer):
    half = np.full((480, 640), 255, np.uint8)
    half[:, :320] = 100
    photo = photo_from(np.dstack([disc_photo, half]))
    done = finish(photo, answer(disc), CONTRACT)
    assert done.pixels[240, 280, 3] == 100
    assert done.pixels[240, 360, 3] == 255
    inverse = finish(photo, answer(disc), CONTRACT, Options(output="inverse"))
    assert inverse.pixels[0, 0, 3] == 100
    assert inverse.pixels[240, 280, 3] == 0


def test_cmyk_grey_and_palette_photos_are_cut_out_in_rgb(disc_photo, disc, answer, saved):
    grey = Image.fromarray(disc_photo).convert("L")
    for image, format in (
        (grey, "JPEG"),
        (grey.convert("P"), "GIF"),
        (Image.fromarray(disc_photo).convert("CMYK"), "TIFF"),
    ):
        photo = decode(saved(image, format))
        done = finish(photo, answer(disc), CONTRACT)
        assert done.pixels.shape == (480, 640, 4)
        np.testing.assert_array_equal(done.pixels[240, 320, :3], photo.pixels[240, 320])


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_cut_out(format, disc_photo, disc, answer, saved):
    frames = [Image.fromarray(disc_photo), Image.fromarray(255 - disc_photo)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    done = finish(decode(data), answer(disc), CONTRACT)
    assert done.pixels.shape == (480, 640, 4)
    np.testing.assert_array_equal(done.pixels[240, 320], (*RED, 255))
    np.testing.assert_array_equal(done.pixels[0, 0], (0, 0, 0, 0))


def test_nobody_is_a_clear_answer(disc_photo):
    nobody = np.full(CONTRACT.size_hw, 0.02, np.float32)  # what a sure network says: low everywhere, never 0
    done = finish(photo_from(disc_photo), nobody, CONTRACT)
    assert not done.matte.any()
    assert not done.pixels.any()
    assert done.box is None
    assert done.expected_iou == 0.0
    with pytest.raises(NoPersonFound, match="nobody was found"):
        finish(photo_from(disc_photo), nobody, CONTRACT, Options(require_person=True))


def test_a_doubtful_person_can_be_refused(disc_photo, disc, answer):
    photo, doubtful = photo_from(disc_photo), answer(disc) * np.float32(0.6)
    sure = finish(photo, answer(disc), CONTRACT).expected_iou
    done = finish(photo, doubtful, CONTRACT)
    assert 0 < done.expected_iou < 0.5 < 0.9 < sure
    assert finish(photo, answer(disc), CONTRACT, Options(at_least=0.9)).expected_iou == sure
    with pytest.raises(Doubtful, match=r"expected IoU 0\.\d\d, below at_least=0.8"):
        finish(photo, doubtful, CONTRACT, Options(at_least=0.8))
    with pytest.raises(Doubtful, match=r"expected IoU 0.00"):
        finish(photo, 0 * doubtful, CONTRACT, Options(at_least=0.1))


@pytest.fixture
def two_people():
    """A large person left, a small one right; photo and alpha of 480 x 640."""
    alpha = np.zeros((480, 640), np.float32)
    alpha[100:400, 100:300] = 1
    alpha[200:300, 450:520] = 1
    photo = np.where(alpha[..., None] > 0, np.array(RED), np.array(GREEN)).astype(np.uint8)
    return photo, alpha


@pytest.mark.parametrize(
    ("people", "left", "right"),
    [
        ("all", 255, 255),
        ("main", 255, 0),
        ((480, 250), 0, 255),
        ((200, 200), 255, 0),
        ((400, 150, 600, 350), 0, 255),
        ((0, 0, 640, 480), 255, 255),
        ((350, 10), 0, 0),
    ],
)
def test_one_person_of_many_can_be_chosen(people, left, right, two_people, answer):
    photo, alpha = two_people
    done = finish(photo_from(photo), answer(alpha), CONTRACT, Options(people=people))
    assert done.matte[250, 200] == left
    assert done.matte[250, 485] == right


def test_a_point_outside_the_photo_is_an_error(two_people, answer):
    photo, alpha = two_people
    with pytest.raises(OptionError, match="640 x 480"):
        finish(photo_from(photo), answer(alpha), CONTRACT, Options(people=(640, 10)))
