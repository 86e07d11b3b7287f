"""The guided filter against the same equations in float64."""

import cv2
import numpy as np
import pytest

from bgimage import matte


def reference(guide, alpha):
    """What He et al. 2010 write down, solved pixel by pixel in float64."""
    image, side = guide.astype(np.float64), 2 * matte.RADIUS + 1

    def mean(values):
        return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101)

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
def test_models_agree_with_float64_also_where_the_colours_say_the_same_thrice(grey):
    rng = np.random.default_rng(0)
    colour = cv2.GaussianBlur(rng.random((120, 160, 3)), (0, 0), 2)
    colour = (colour - colour.min()) / (colour.max() - colour.min())
    photo = (1 - grey) * colour + grey * colour.mean(axis=2, keepdims=True)
    guide = (np.rint(photo * 255) / 255).astype(np.float32)
    alpha = (guide[..., 0] > 0.5).astype(np.float32)
    planes = np.ascontiguousarray(guide.transpose(2, 0, 1))
    filtered = matte.applied(matte.LinearModels.of(planes).fitted(alpha), planes)
    np.testing.assert_allclose(filtered, reference(guide, alpha), atol=1e-3)
