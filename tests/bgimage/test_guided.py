"""The guided filter against the same equations in float64."""

import cv2
import numpy as np
import pytest

from bgimage import matte


def reference(guide, alpha, outermost):
    """What He et al. 2010 write down, solved pixel by pixel in float64."""
    image = guide.astype(np.float64)
    window = np.array([outermost, 1, 1, 1, outermost]) / (3 + 2 * outermost)

    def mean(values):
        return cv2.sepFilter2D(values, -1, window, window, borderType=cv2.BORDER_REFLECT_101)

    means, mean_alpha = mean(image), mean(alpha.astype(np.float64))
    covariance = np.empty((*alpha.shape, 3, 3))
    for i in range(3):
        for j in range(3):
            covariance[..., i, j] = mean(image[..., i] * image[..., j]) - means[..., i] * means[..., j]
    covariance += matte.EPSILON * np.eye(3)
    towards = mean(image * alpha[..., None].astype(np.float64)) - means * mean_alpha[..., None]
    slopes = np.linalg.solve(covariance, towards[..., None])[..., 0]
    offset = mean_alpha - (slopes * means).sum(-1)
    return (mean(slopes) * image).sum(-1) + mean(offset)


@pytest.mark.parametrize("grey", [0.0, 0.9, 1.0], ids=["colour", "nearly grey", "grey"])
@pytest.mark.parametrize("outermost", [matte.FIRST_EDGE, matte.SECOND_EDGE])
def test_models_agree_with_float64_also_where_the_colours_say_the_same_thrice(grey, outermost):
    rng = np.random.default_rng(0)
    colour = cv2.GaussianBlur(rng.random((120, 160, 3)), (0, 0), 2)
    colour = (colour - colour.min()) / (colour.max() - colour.min())
    photo = (1 - grey) * colour + grey * colour.mean(axis=2, keepdims=True)
    levels = np.rint(photo * 255).astype(np.uint8)
    guide = (levels / 255).astype(np.float32)
    alpha = (guide[..., 0] > 0.5).astype(np.float32)
    models = matte.linear_models(levels, alpha, np.ones(alpha.shape, np.uint8), outermost)
    filtered = matte.applied([one[1:-1, 1:-1] for one in models], levels)
    np.testing.assert_allclose(filtered, reference(guide, alpha, outermost), atol=1e-3)


@pytest.mark.parametrize("size_hw", [(33, 40), (130, 300), (300, 130)])
def test_windows_in_which_alpha_does_not_vary_need_no_fit(size_hw):
    """Whatever the outline does: what is computed along it alone is what is computed everywhere."""
    rng = np.random.default_rng(0)
    guide = rng.integers(0, 256, (*size_hw, 3), np.uint8)
    alpha = cv2.resize(rng.random((6, 8), np.float32), size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    alpha = (20 * alpha - 12).clip(0, 1)
    varied = matte._varied(alpha, 0)
    assert 0.1 < (varied > 0).mean() < 0.9
    found, wanted = (
        matte.applied(
            [one[1:-1, 1:-1] for one in matte.linear_models(guide, alpha, where, matte.SECOND_EDGE)], guide
        )[varied > 0]
        for where in (varied, np.ones_like(varied))
    )
    np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_models_applied_to_a_photo_are_their_sum_over_its_colours(dtype):
    rng = np.random.default_rng(0)
    slopes, offsets = rng.normal(0, 1, (10, 11, 3)).astype(np.float32), rng.random((10, 11), np.float32)
    pixels = rng.integers(0, np.iinfo(dtype).max, (10, 11, 3), dtype, endpoint=True)
    exact = (slopes * (pixels / np.iinfo(dtype).max)).sum(2) + offsets
    found = matte.applied((slopes / matte.GREY.ravel(), offsets), pixels)
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_fits_stay_finite_where_planes_mix_at_the_border_of_a_ribbon():
    means = np.zeros((matte.PRODUCTS, 1, 3), np.float32)
    means[4] = -matte.EPSILON * np.array([0.5, 1, 2])  # the squares' mean is less than the mean's square
    means[7] = 1
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(matte._fits(means)).all()


@pytest.mark.parametrize(
    "size_hw", [(101, 150), (60, 75), (60, 90), (50, 66), (31, 40), (10, 140), (120, 90)]
)
def test_a_guide_is_shrunk_about_as_by_area(size_hw):
    """By all factors, those that take the short way among them; a ramp shows any shift of the pixels' centres."""
    y, x = np.mgrid[:101, :150].astype(np.float32)
    wave = 128 + 100 * np.sin(x / 9) * np.cos(y / 7) + (x - 75) / 4
    image = np.repeat(np.rint(wave).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    area = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    found = matte._shrunk(image, size_hw[::-1])
    assert np.abs(found.astype(int) - area).mean() < 1
