"""The curve of the expected IoU, and the check of it."""

import hashlib
import json

import numpy as np
import pytest

from bgimage import expected as product
from bgserver.repository import network_file
from bgtrain import expected


@pytest.fixture
def pairs():
    """Soft IoU and true IoU of 2,000 photos, whose network is surer than it is right."""
    rng = np.random.default_rng(0)
    soft = rng.uniform(0.3, 1, 2000)
    return np.stack([soft, (soft**2 + rng.normal(0, 0.1, 2000)).clip(0, 1)], 1)


def test_the_curve_rises_and_is_what_came_of_it(pairs):
    soft, iou = expected.fitted(pairs)
    assert np.all(np.diff(soft) > 0)
    assert np.all(np.diff(iou) > 0)
    np.testing.assert_allclose(iou, np.square(soft), atol=0.05)


def test_the_check_sees_a_curve_that_hopes_too_much(pairs):
    good = expected.checked(pairs, expected.fitted(pairs))
    proud = expected.checked(pairs, ([0, 1], [0, 1]))
    assert good["calibration_error"] < 0.02 < 0.1 < proud["calibration_error"]
    assert good["rank_correlation"] > 0.8


def test_the_surest_photos_are_the_best(pairs):
    shares = expected.checked(pairs, expected.fitted(pairs))["risk_coverage"]
    assert [shares[0]["share"], shares[-1]["share"]] == [0.05, 1]
    means = [point["mean_iou"] for point in shares]
    assert means == sorted(means, reverse=True)


def test_the_committed_curve_is_that_of_the_network_that_is_served():
    curve, result = (json.loads(path.read_text()) for path in (product.CURVE, expected.RESULT))
    assert curve["sha256"] == result["sha256"] == hashlib.sha256(network_file().read_bytes()).hexdigest()
    assert result["split"] == "test"
