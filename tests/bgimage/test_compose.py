"""Layers, frames, shadows and blurred backgrounds."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bgimage import compose
from bgimage.codec import photo_from
from bgimage.compose import Frame
from bgimage.contract import Contract
from bgimage.encode import encode
from bgimage.errors import OptionError
from bgimage.finish import finish
from bgimage.options import Options

CONTRACT = Contract()
layers = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(4)))
colours = st.tuples(*[st.integers(0, 255)] * 3)


@given(layers, colours)
def test_laying_on_a_colour_is_the_rounded_mixture(layer, colour):
    share = layer[..., 3:].astype(np.float64) / 255
    exact = share * layer[..., :3] + (1 - share) * np.array(colour)
    assert np.abs(compose.over(layer, colour) - exact).max() <= 0.5001


@given(layers, colours)
def test_two_backgrounds_give_layer_and_alpha_back(layer, colour):
    """Composition's inverse: alpha from the difference on black and white, colour from the picture on black."""
    on_black = compose.over(layer, (0, 0, 0)).astype(float)
    on_white = compose.over(layer, (255, 255, 255)).astype(float)
    alpha = 255 - (on_white - on_black)
    assert np.abs(alpha - layer[..., 3:]).max() <= 1
    strong = layer[..., 3] > 127
    found = on_black[strong] / (layer[strong][:, 3:] / 255)
    assert np.abs(found - layer[strong][:, :3]).max(initial=0) <= 1.01


@given(layers, colours, st.floats(0, 1))
def test_a_sheet_below_and_then_a_colour_is_the_colour_below_both(layer, colour, opacity):
    sheet = np.zeros_like(layer)
    sheet[..., :3], sheet[..., 3] = colour, round(opacity * 255)
    both = compose.over(compose.over_sheer(layer, colour, sheet[..., 3] / np.float32(255)), (255, 255, 255))
    expected = compose.over(layer, compose.over(sheet, (255, 255, 255)))
    visible = compose.over_sheer(layer, colour, sheet[..., 3] / np.float32(255))[..., 3] > 0
    assert np.abs(both.astype(int) - expected)[visible].max(initial=0) <= 3


def test_black_and_white_stay_exact_at_sixteen_bits():
    layer = np.array([[[65_535, 0, 7, 65_535], [1, 2, 3, 0]]], np.uint16)
    on_white = compose.over(layer, (65_535, 65_535, 65_535))
    np.testing.assert_array_equal(on_white, [[[65_535, 0, 7], [65_535, 65_535, 65_535]]])


BOX = (30, 10, 70, 60)
SIZE = (100, 200)


@pytest.mark.parametrize(
    ("options", "frame", "placed"),
    [
        ({}, (200, 100), BOX),
        ({"crop": True}, (40, 50), (0, 0, 40, 50)),
        ({"crop": True, "margin": "10px"}, (60, 70), (10, 10, 50, 60)),
        ({"crop": True, "margin": "10% 20%"}, (56, 60), (8, 5, 48, 55)),
        ({"crop": True, "margin": "1px 2px 3px 4px"}, (46, 54), (4, 1, 44, 51)),
        ({"canvas": (400, 300)}, (400, 300), (130, 110, 170, 160)),
        ({"canvas": (100, 100)}, (100, 100), (15, 30, 35, 55)),
        ({"canvas": (100, 100), "position": "center"}, (100, 100), (40, 38, 60, 62)),
        ({"position": (0.0, 1.0)}, (200, 100), (0, 50, 40, 100)),
        ({"scale": 1.0}, (200, 100), (60, 0, 140, 100)),
        ({"scale": 0.5, "canvas": (100, 100)}, (100, 100), (30, 25, 70, 75)),
        ({"max_pixels": 5000}, (100, 50), (15, 5, 35, 30)),
    ],
)
def test_the_frame_is_where_the_options_say(options, frame, placed):
    found = Frame.of(BOX, SIZE, Options(**options))
    assert (found.width, found.height) == frame
    assert np.abs(np.subtract(found.box_in(BOX), placed)).max() <= 1


@settings(max_examples=60)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90),
    st.floats(0.1, 4), st.floats(-60, 60), st.floats(-60, 60),
)  # fmt: skip
def test_a_placed_layer_has_the_frames_size_and_nothing_around_it(
    height, width, rows, columns, scale, left, top
):
    layer = np.full((height, width, 4), 255, np.uint8)
    frame = Frame(columns, rows, scale, left, top)
    found = frame.placed(layer)
    assert found.shape == (rows, columns, 4)
    box_left, box_top, right, bottom = frame.box_in((0, 0, width, height))
    assert not found[: max(0, box_top - 1)].any()
    assert not found[:, : max(0, box_left - 1)].any()
    assert not found[bottom + 1 :].any()
    inner = found[box_top + 1 : max(0, bottom - 1), box_left + 1 : max(0, right - 1)]
    assert (inner == 255).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-50, 50), st.integers(-50, 50))
def test_moving_there_and_back_loses_only_what_left_the_frame(height, width, left, top):
    layer = np.random.default_rng(0).integers(1, 256, (height, width, 4), np.uint8)
    back = Frame(width, height, 1, -left, -top).placed(Frame(width, height, 1, left, top).placed(layer))
    kept = back[..., 3] > 0
    np.testing.assert_array_equal(back[kept], layer[kept])
    assert kept.sum() == max(0, height - abs(top)) * max(0, width - abs(left))


def test_a_shrunk_layer_keeps_the_colour_of_its_edge():
    """Red beside transparent black: half-covered pixels are red, not dark red."""
    layer = np.zeros((40, 40, 4), np.uint8)
    layer[:, :19] = (254, 0, 0, 255)
    small = compose.scaled(layer, (10, 10))
    np.testing.assert_array_equal(small[:, 4], np.broadcast_to((254, 0, 0, 191), (10, 4)))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_background_picture_fills_the_frame(height, width, rows, columns):
    filled = compose.filling(np.full((rows, columns, 3), 9, np.uint8), (height, width))
    assert filled.shape == (height, width, 3)
    assert (filled == 9).all()


def test_a_background_picture_is_centred_and_keeps_its_aspect():
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 200
    assert (compose.filling(stripes, (40, 40)) == 200).all()


def test_a_blurred_background_has_no_person_in_it(disc, disc_photo):
    matte = np.rint(disc * 255).astype(np.uint8)
    frame = Frame(640, 480)
    backdrop = compose.blurred(disc_photo, matte, 12, frame)
    near = (disc == 0) | ((disc > 0) & (disc < 0.9))
    assert backdrop.shape == (480, 640, 3)
    assert backdrop[near][:, 0].max() < 40  # no red
    assert backdrop[near][:, 1].min() > 215
    done = compose.blurred(disc_photo, matte, 0, Frame(320, 240, 0.5))
    assert done.shape == (240, 320, 3)


def test_bright_lights_win_as_in_a_lens():
    """Half black, half white, blurred to one tone: 188, the middle in linear light, not 128."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    backdrop = compose.blurred(stripes, np.zeros((256, 256), np.uint8), 30, Frame(256, 256))
    assert abs(int(backdrop[128, 128, 0]) - 188) <= 2


def test_a_shadow_is_soft_below_and_no_stronger_than_asked():
    alpha = np.zeros((300, 300), np.uint8)
    alpha[100:200, 100:200] = 255
    dark = compose.shadow(alpha, 0.6)
    assert dark.shape == alpha.shape
    assert 0.5 < dark.max() <= 0.6 + 1e-6
    rows = np.arange(300) @ dark.sum(1) / dark.sum()
    assert rows > 150  # below the middle of the person
    assert dark[:60].max() < 0.01


def test_a_shadow_darkens_under_the_person_only(disc_photo, disc, answer):
    plain = finish(photo_from(disc_photo), answer(disc), CONTRACT, Options(background="white"))
    shaded = finish(photo_from(disc_photo), answer(disc), CONTRACT, Options(background="white", shadow=0.5))
    assert (shaded.pixels.astype(int) <= plain.pixels.astype(int) + 1).all()
    assert shaded.pixels[370, 320].mean() < 230
    np.testing.assert_array_equal(shaded.pixels[240, 320], plain.pixels[240, 320])
    clear = finish(photo_from(disc_photo), answer(disc), CONTRACT, Options(shadow=0.5))
    assert 0 < clear.pixels[375, 320, 3] < 128
    np.testing.assert_array_equal(clear.pixels[375, 320, :3], (0, 0, 0))


def test_the_inverse_and_the_cutout_share_every_pixel(disc_photo, disc, answer):
    cut = finish(photo_from(disc_photo), answer(disc), CONTRACT)
    rest = finish(photo_from(disc_photo), answer(disc), CONTRACT, Options(output="inverse"))
    np.testing.assert_array_equal(cut.pixels[..., 3].astype(int) + rest.pixels[..., 3], 255)
    np.testing.assert_array_equal(rest.pixels[0, 0], (*disc_photo[0, 0], 255))


def test_every_output_comes_out_of_finish(disc_photo, disc, answer):
    def done(**options):
        return finish(photo_from(disc_photo), answer(disc), CONTRACT, Options(**options))

    matte = done(output="matte")
    assert matte.pixels.shape == (480, 640)
    assert matte.pixels[240, 320] == 255
    picture = encode(np.full((30, 30, 3), (1, 2, 3), np.uint8))
    np.testing.assert_array_equal(done(background=picture).pixels[5, 5], (1, 2, 3))
    assert done(background="#0000ff80").pixels[0, 0].tolist() == [0, 0, 255, 128]
    assert done(background="blur").pixels.shape == (480, 640, 3)
    cropped = done(crop=True)
    left, top, right, bottom = cropped.box
    assert cropped.pixels.shape == (bottom - top, right - left, 4)
    assert abs(right - left - 240) <= 10
    assert cropped.placed == (0, 0, right - left, bottom - top)
    assert cropped.matte.shape == (480, 640)
    with pytest.raises(OptionError, match="background"):
        done(background=b"no picture")


@given(st.integers(2, 60), st.integers(2, 60))
@settings(max_examples=20)
def test_the_finished_box_lies_in_the_picture(height, width):
    assume(height * width > 16)
    alpha = np.zeros((height, width), np.float32)
    alpha[height // 4 : height, width // 4 : width] = 1
    whole = np.zeros(CONTRACT.size_hw, np.float32)
    from bgimage.geometry import Letterbox

    box = Letterbox.fit((height, width), CONTRACT)
    import cv2

    whole[box.rows, box.columns] = cv2.resize(alpha, (box.width, box.height), interpolation=cv2.INTER_NEAREST)
    photo = photo_from(np.full((height, width, 3), 100, np.uint8))
    done = finish(photo, whole, CONTRACT, Options(crop=True, margin="10%"))
    left, top, right, bottom = done.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert done.pixels.shape[0] >= bottom - top
