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
    filtered = matte.applied(models[1:-1, 1:-1], levels)
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
    along = matte.linear_models(guide, alpha, varied, 0.25)[1:-1, 1:-1]
    everywhere = matte.linear_models(guide, alpha, np.ones_like(varied), 0.25)[1:-1, 1:-1]
    found, wanted = (matte.applied(models, guide)[varied > 0] for models in (along, everywhere))
    np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("k", [2, 3, 8])
def test_models_applied_to_the_photo_are_their_sum_over_its_colours(k, dtype):
    rng = np.random.default_rng(k)
    models = rng.normal(0, 1, (12, 13, 4)).astype(np.float32)
    pixels = rng.integers(0, np.iinfo(dtype).max, (10 * k - 1, 11 * k - 1, 3), dtype, endpoint=True)
    height, width = pixels.shape[:2]
    large = cv2.resize(models, (13 * k, 12 * k))[k : k + height, k : k + width]
    exact = (large[..., :3] * (pixels / np.iinfo(dtype).max)).sum(2) + large[..., 3]
    found = matte._applied_large(models, pixels, k)
    assert np.abs(found - 255 * exact.clip(0, 1)).max() < 0.51
