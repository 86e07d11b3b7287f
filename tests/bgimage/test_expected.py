"""How good a cut-out is expected to be."""

import json

import numpy as np
import pytest

from bgimage import expected


def test_a_sure_answer_has_a_soft_iou_of_one_and_nobody_zero():
    alpha = np.zeros((40, 40), np.float32)
    assert expected.soft_iou(alpha) == expected.expected_iou(alpha) == 0
    alpha[10:30, 10:30] = 1
    assert expected.soft_iou(alpha) == 1


def test_doubt_inside_and_outside_lowers_it():
    alpha = np.zeros((40, 40), np.float32)
    alpha[10:30, 10:30] = 0.8
    assert expected.soft_iou(alpha) == pytest.approx(0.8)
    alpha[:10] = 0.25
    assert expected.soft_iou(alpha) == pytest.approx(0.8 * 400 / (400 + 100))


def test_of_probabilities_it_is_the_expected_intersection_over_expected_union():
    rng = np.random.default_rng(1)
    alpha = rng.random((300, 300)).astype(np.float32) ** 3
    truth = rng.random(alpha.shape) < alpha
    found = alpha > 0.5
    assert expected.soft_iou(alpha) == pytest.approx((found & truth).sum() / (found | truth).sum(), abs=0.02)


def test_the_measured_curve_rises_within_0_and_1():
    curve = json.loads(expected.CURVE.read_text())
    assert len(curve["soft_iou"]) == len(curve["iou"]) > 5
    assert np.all(np.diff(curve["soft_iou"]) > 0)
    assert np.all(np.diff(curve["iou"]) > 0)
    assert 0 <= curve["iou"][0] < 0.5 < 0.9 < curve["iou"][-1] <= 1
