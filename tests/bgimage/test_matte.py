"""Mattes at full resolution: what must hold for any photo."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgimage import matte
from bgimage.codec import photo_from
from bgimage.tiles import block_means, ribbons, squares

RED, GREEN = np.array((254.0, 0, 0)), np.array((0, 255.0, 0))


def scene(truth):
    """A red thing on green, mixed by ``truth`` (H, W): a photo."""
    return photo_from(np.rint(truth[..., None] * RED + (1 - truth[..., None]) * GREEN).astype(np.uint8))


@settings(max_examples=30)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 7))
def test_every_block_mean_is_the_mean_of_its_block(height, width, k):
    image = np.random.default_rng(height * width).random((height, width, 3)).astype(np.float32)
    means = block_means(image, k)
    assert means.shape == (-(-height // k), -(-width // k), 3)
    for y in (0, means.shape[0] - 1):
        for x in (0, means.shape[1] - 1):
            block = image[y * k : (y + 1) * k, x * k : (x + 1) * k]
            np.testing.assert_allclose(means[y, x], block.mean((0, 1)), atol=1e-5)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100))
def test_squares_cover_every_pixel_once(height, width, side):
    count = np.zeros((height, width), np.int32)
    for area in squares((height, width), side):
        count[area] += 1
    assert (count == 1).all()


@given(
    st.integers(1, 99),
    st.integers(1, 80),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 5),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_ribbons_hold_every_marked_pixel_and_its_surroundings(height, width, strip, margin, k, share, seed):
    rng = np.random.default_rng(seed)
    mask = (rng.random((height, width)) < share**4).astype(np.uint8)
    picture = rng.integers(0, 256, (*mask.shape, 3), np.uint8)
    held = np.zeros_like(picture)
    for ribbon in ribbons(mask, strip, margin, length=20, k=k):
        assert all(right - left > 2 * margin for _, left, right in ribbon.pieces)
        ribbon.put(ribbon.taken(picture, 0, k), held, 0, k)
    np.testing.assert_array_equal(held[mask > 0], picture[mask > 0])
    assert mask.any() or not held.any()
    # with their margins, and in a picture that has a border, they hold the surroundings, too
    around = margin * k
    bordered = np.pad(picture, ((around, around), (around, around), (0, 0)))
    held = np.zeros_like(bordered)
    for ribbon in ribbons(mask, strip, margin, length=20, k=k):
        ribbon.put(ribbon.taken(bordered, margin, k), held, margin, k)
    near = cv2.dilate(np.pad(mask, around), np.ones((2 * around + 1, 2 * around + 1), np.uint8)) > 0
    np.testing.assert_array_equal(held[near], bordered[near])


@given(st.integers(1, 6), st.integers(1, 3), st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 99))
def test_a_slope_stays_a_slope_when_a_ribbon_is_enlarged(k, margin, across, down, seed):
    mask = (np.random.default_rng(seed).random((21, 17)) < 0.1).astype(np.uint8)
    y, x = np.mgrid[-margin : 21 + 7 + margin, -margin : 17 + margin].astype(np.float32)
    small = across * x + down * y
    y, x = ((np.mgrid[: 21 * k, : 17 * k] + 0.5) / k - 0.5).astype(np.float32)
    exact, found = across * x + down * y, np.full(y.shape, np.nan, np.float32)
    for ribbon in ribbons(mask, 8, margin):
        large = ribbon.enlarged(small, margin, k)
        ribbon.put(large[(margin - 1) * k : len(large) - (margin - 1) * k], found, 0, k)
    marked = np.repeat(np.repeat(mask, k, 0), k, 1) > 0
    np.testing.assert_allclose(found[marked], exact[marked], atol=1e-3)


@pytest.mark.parametrize("edges", ["none", "fast"])
@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("size_hw", [(1, 1), (3, 500), (3, 5000), (37, 41), (900, 700), (1500, 2100)])
def test_a_matte_of_one_value_stays_that_value(edges, level, size_hw):
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    found = matte.refined(photo_from(noise), np.full((24, 32), level, np.float32), edges)
    assert found.shape == size_hw
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {round(level * 255)}


def test_background_that_the_network_is_sure_of_is_fully_transparent():
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    alpha = np.full((240, 320), 0.02, np.float32)
    alpha[100:140, 100:140] = 0.98
    found = matte.refined(photo_from(noise), alpha)
    assert not found[:150].any()
    assert (found[290:310, 290:310] == 255).all()


@pytest.mark.parametrize("size_hw", [(700, 933), (1031, 777), (1999, 2003)])
def test_edges_stand_where_the_photo_has_them(size_hw):
    """A straight, slightly leaning edge: the matte crosses one half within half a pixel of the truth."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    where = width * 0.4 + 0.1 * y
    truth = np.clip(where - x + 0.5, 0, 1).astype(np.float32)
    photo = scene(truth)
    import cv2

    small = cv2.resize(
        truth, (round(320 * width / max(size_hw)), round(320 * height / max(size_hw))), interpolation=3
    )
    found = matte.refined(photo, small) / 255
    width_found = found[20:-20].sum(1)
    assert np.abs(width_found - truth[20:-20].sum(1)).max() < 0.5


def test_the_answer_does_not_depend_on_threads_and_repeats_exactly():
    y, x = np.mgrid[:1100, :1300]
    truth = np.clip((400 - np.hypot(y - 500, x - 600)) / 4, 0, 1).astype(np.float32)
    photo, small = scene(truth), truth[::4, ::4].copy()
    found = []
    for threads in (1, 2, 2):
        cv2.setNumThreads(threads)
        found.append(matte.refined(photo, small))
    cv2.setNumThreads(-1)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])


def test_sixteen_bits_refine_like_eight():
    """The same photo with 16 bits: the guide has 8 in either case, so only roundings at a half differ."""
    y, x = np.mgrid[:2500, :3000]
    truth = np.clip((1000 - np.hypot(y - 1250, x - 1500)) / 9, 0, 1).astype(np.float32)
    grain = np.random.default_rng(0).normal(0, 9, (*truth.shape, 3))
    photo = photo_from((scene(truth).pixels + grain).clip(0, 255).astype(np.uint8))
    deep = photo_from(photo.pixels.astype(np.uint16) * 257)
    small = truth[::10, ::10].copy()
    difference = matte.refined(photo, small).astype(int) - matte.refined(deep, small)
    assert np.abs(difference).max() <= 1
