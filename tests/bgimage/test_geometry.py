"""The photo's place in the network's picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgimage.codec import Photo, decode, photo_from
from bgimage.contract import Contract
from bgimage.geometry import Letterbox, crop_letterbox, network_input, shrunk

sides = st.integers(1, 3000)
CONTRACT = Contract()


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [
        ((320, 320), (0, 0, 320, 320)),
        ((640, 320), (0, 80, 320, 160)),
        ((480, 640), (40, 0, 240, 320)),
        ((100, 50), (0, 80, 320, 160)),
        ((10_000, 10), (0, 159, 320, 1)),
    ],
)
def test_the_photo_fills_one_side_and_is_centred(size_hw, expected):
    box = Letterbox.fit(size_hw, CONTRACT)
    assert (box.top, box.left, box.height, box.width) == expected


@given(sides, sides)
def test_the_rectangle_lies_inside_and_keeps_the_aspect(height, width):
    box = Letterbox.fit((height, width), CONTRACT)
    assert max(box.height, box.width) == 320
    assert box.top >= 0
    assert box.top + box.height <= 320
    assert box.left >= 0
    assert box.left + box.width <= 320
    scale = 320 / max(height, width)
    for found, exact in ((box.height, height * scale), (box.width, width * scale)):
        assert abs(found - max(1, exact)) <= 0.5


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 255))
def test_cropping_the_letterbox_gives_the_photo_back(height, width, level):
    image = network_input(np.full((height, width, 3), level, np.uint8), CONTRACT)
    assert image.shape == (3, 320, 320)
    inner = crop_letterbox(image[0].astype(np.float32), (height, width), CONTRACT)
    assert (inner == level).all()
    assert (image == CONTRACT.pad_value).sum() >= image.size - 3 * inner.size


def test_channels_are_rgb_and_first():
    image = network_input(np.full((320, 320, 3), (1, 2, 3), np.uint8), CONTRACT)
    assert image.dtype == np.uint8
    assert [set(np.unique(channel)) for channel in image] == [{1}, {2}, {3}]


def test_shrinking_is_the_mean_over_the_area():
    pixels = np.random.default_rng(0).integers(0, 256, (640, 640, 3), np.uint8)
    means = pixels.reshape(320, 2, 320, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(network_input(pixels, CONTRACT) - means).max() <= 0.5


@settings(max_examples=25)
@given(sides.filter(lambda n: n < 700), sides.filter(lambda n: n < 700), st.integers(0, 1000))
def test_a_photo_shrunk_before_it_is_sent_gives_the_same_input(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    once = shrunk(pixels, CONTRACT)
    np.testing.assert_array_equal(shrunk(once, CONTRACT), once)
    np.testing.assert_array_equal(network_input(once, CONTRACT), network_input(pixels, CONTRACT))


def test_sixteen_bits_and_transparency_reach_the_network_as_eight_opaque_bits():
    deep = network_input(np.full((64, 64, 3), 257 * 200, np.uint16), CONTRACT)
    assert set(np.unique(deep)) == {200}
    clear = Photo(np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.uint8))
    assert set(np.unique(network_input(clear, CONTRACT))) == {CONTRACT.pad_value}


def test_a_reduced_jpeg_gives_nearly_the_same_input(saved, astronaut):
    large = np.repeat(np.repeat(astronaut, 3, axis=0), 3, axis=1)
    data = saved(large, "JPEG", quality=95)
    whole, reduced = decode(data), decode(data, at_least=640)
    assert reduced.pixels.shape[:2] != reduced.size_hw
    difference = np.abs(network_input(whole, CONTRACT).astype(int) - network_input(reduced, CONTRACT))
    assert difference.mean() < 1
    assert network_input(photo_from(whole), CONTRACT).shape == (3, 320, 320)
