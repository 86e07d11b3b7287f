"""Parity checks: each failure is its own error, with value and limit in the sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from bgexport import errors
from bgexport.checks import Check, require
from bgexport.limits import TOLERANCES
from bgexport.photos import NetworkInput, adversarial, stack
from bgexport.verify import batch_mates_check, parity, parity_checks, verify, write_report
from bgimage.contract import Contract

SIDE = 32
PICTURES = [
    NetworkInput(name, np.full((3, SIDE, SIDE), grey, np.uint8)) for name, grey in (("a", 10), ("b", 200))
]


def half_a_person(images: np.ndarray) -> np.ndarray:
    """Alpha 0.9 on the left half of every picture."""
    alpha = np.full((len(images), 1, SIDE, SIDE), 0.1, np.float32)
    alpha[..., : SIDE // 2] = 0.9
    return alpha


def failed(other: np.ndarray) -> set[str]:
    found = parity(half_a_person(stack(PICTURES)), other)
    return {check.name for check in parity_checks(found, TOLERANCES["fp32"], "x") if not check.passed}


def test_equal_alphas_pass() -> None:
    assert failed(half_a_person(stack(PICTURES))) == set()


def test_one_wrong_pixel_is_a_max_difference() -> None:
    other = half_a_person(stack(PICTURES))
    other[1, 0, 0, 0] += 0.0021
    assert failed(other) == {"x: max |Δalpha|"}


def test_a_haze_over_the_picture_is_a_mean_difference() -> None:
    assert failed(half_a_person(stack(PICTURES)) + np.float32(1e-4)) == {"x: mean |Δalpha|, worst photo"}


def test_a_moved_outline_is_an_iou_change() -> None:
    other = half_a_person(stack(PICTURES))
    other[1, 0, :, SIDE // 2] = 0.9
    assert "x: IoU, worst photo" in failed(other)


@pytest.mark.parametrize("value", [np.nan, 1.01, -0.01])
def test_what_is_no_alpha_is_refused(value: float) -> None:
    other = half_a_person(stack(PICTURES))
    other[0, 0, 0, 0] = value
    assert "x: outside [0, 1]" in failed(other)


def test_the_worst_photo_decides() -> None:
    other = half_a_person(stack(PICTURES))
    other[1] += np.float32(2e-3)
    found = parity(half_a_person(stack(PICTURES)), other)
    assert found.mean_difference == pytest.approx(2e-3, rel=1e-3)


def test_an_answer_that_depends_on_batch_mates_is_refused() -> None:
    def batch_statistics(images: np.ndarray) -> np.ndarray:
        return np.full((len(images), 1, SIDE, SIDE), images.mean() / 255, np.float32)

    check = batch_mates_check(batch_statistics, PICTURES, "x")
    with pytest.raises(errors.ParityError, match="alone against in a batch"):
        require([check])


def test_the_first_failure_is_raised_and_the_others_are_counted() -> None:
    checks = [
        Check("fine", 0.0, 1.0, errors.TooLarge),
        Check("size", 3.0, 2.0, errors.TooLarge),
        Check("overlap", 0.5, 0.9, errors.ParityError, at_least=True),
    ]
    with pytest.raises(errors.TooLarge, match=r"size: 3 is above the limit 2 \(1 more failed\)"):
        require(checks)
    assert [str(check)[:4] for check in checks] == ["ok  ", "FAIL", "FAIL"]


def test_not_a_number_never_passes() -> None:
    assert not Check("x", float("nan"), 1.0, errors.ParityError).passed
    assert not Check("x", float("nan"), 1.0, errors.ParityError, at_least=True).passed


def test_the_report_holds_every_check_with_value_limit_and_error(tmp_path: Path) -> None:
    engines = {"twin": (half_a_person, TOLERANCES["fp32"])}
    checks = verify(engines, half_a_person, PICTURES, PICTURES)
    write_report(tmp_path / "report.json", checks, model="m.onnx")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"] is True
    assert report["model"] == "m.onnx"
    assert len(report["checks"]) == len(checks) == 9
    assert set(report["checks"][0]) == {"check", "value", "limit", "at_least", "passed", "error"}


def test_adversarial_pictures_are_network_inputs_and_differ() -> None:
    contract = Contract(size_hw=(64, 96))
    noise = np.random.default_rng(3).integers(0, 256, (3, 64, 96), dtype=np.uint8)
    made = adversarial(contract, [NetworkInput("somebody", noise)])
    assert {picture.image.shape for picture in made} == {(3, 64, 96)}
    assert {picture.image.dtype for picture in made} == {np.dtype(np.uint8)}
    assert len({picture.image.tobytes() for picture in made}) == len(made) == 10
    assert {"all black", "all white", "noise", "somebody, cut by the left border"} <= {p.name for p in made}
