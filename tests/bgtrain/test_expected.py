"""The curve of the expected IoU, and the check of it."""

import hashlib
import json

import numpy as np
import pytest

from bgimage import expected as product
from bgimage.contract import Contract
from bgserver.repository import network_file
from bgtrain import expected
from bgtrain.__main__ import main


class Half:
    """A network that sees the left half of a figure in the middle."""

    contract = Contract(size_hw=(96, 96))

    def network_alpha(self, photo):
        alpha = np.zeros((96, 96), np.float32)
        alpha[20:80, 20:48] = 1
        return alpha

    def describe(self):
        return {"network": "half", "sha256": "", "contract": self.contract.fingerprint}


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
    assert expected.FIGURE.is_file()


def test_the_command_writes_curve_check_and_plot(pairs, tiny_data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="the extra 'bench' is not installed")
    monkeypatch.setattr(expected, "Pipeline", lambda path, threads: Half())
    arguments = ["expected", "half.onnx", "--data", str(tiny_data), "--write"]
    assert main(arguments) == 1, "a handful of photos is not enough"
    assert "at least 10 are needed" in capsys.readouterr().err
    monkeypatch.setattr(expected, "measured", lambda network, shards: pairs)
    for module, name in ((product, "CURVE"), (expected, "RESULT"), (expected, "FIGURE")):
        monkeypatch.setattr(module, name, tmp_path / f"{name}.png")
    assert main(arguments) == 0
    assert "calibration error" in capsys.readouterr().out
    assert json.loads((tmp_path / "CURVE.png").read_text())["network"] == "half"
    assert json.loads((tmp_path / "RESULT.png").read_text())["photos"] == len(pairs)
    assert (tmp_path / "FIGURE.png").read_bytes().startswith(b"\x89PNG")
