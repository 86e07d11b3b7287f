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
    guide = (np.rint(photo * 255) / 255).astype(np.float32)
    alpha = (guide[..., 0] > 0.5).astype(np.float32)
    planes = np.ascontiguousarray(guide.transpose(2, 0, 1))
    models = matte.linear_models(planes, alpha, np.ones(alpha.shape, np.uint8), outermost)
    filtered = matte.applied(models[:, 1:-1, 1:-1], planes)
    np.testing.assert_allclose(filtered, reference(guide, alpha, outermost), atol=1e-3)


def test_models_far_from_the_mask_are_the_alpha_itself():
    rng = np.random.default_rng(0)
    planes, alpha = rng.random((3, 80, 90)).astype(np.float32), rng.random((80, 90)).astype(np.float32)
    mask = np.zeros(alpha.shape, np.uint8)
    mask[30:40, 20:50] = 1
    models = matte.linear_models(planes, alpha, mask, 1.0)
    everywhere = matte.linear_models(planes, alpha, np.ones_like(mask), 1.0)
    near = np.s_[:, 30:42, 20:52]  # the mask, a pixel around it, and the border
    np.testing.assert_array_equal(models[near], everywhere[near])
    found = matte.applied(models[:, 1:-1, 1:-1], planes)
    np.testing.assert_array_equal(found[50:], alpha[50:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("k", [2, 3, 8])
def test_models_applied_to_the_photo_are_their_sum_over_its_colours(k, dtype):
    rng = np.random.default_rng(k)
    models = rng.normal(0, 1, (4, 12, 13)).astype(np.float32)
    pixels = rng.integers(0, np.iinfo(dtype).max, (10 * k - 1, 11 * k - 1, 3), dtype, endpoint=True)
    height, width = pixels.shape[:2]
    large = np.stack([cv2.resize(model, (13 * k, 12 * k)) for model in models])[
        :, k : k + height, k : k + width
    ]
    exact = (large[:3] * (pixels / np.iinfo(dtype).max).transpose(2, 0, 1)).sum(0) + large[3]
    found = matte._applied_large(models, pixels, k)
    assert np.abs(found - 255 * exact.clip(0, 1)).max() < 0.51
