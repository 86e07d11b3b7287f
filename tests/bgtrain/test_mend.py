"""Simulated strokes: where they are placed, and what they are counted for."""

import numpy as np
import pytest

from bgimage.codec import photo_from
from bgimage.contract import Contract
from bgtrain import evaluate, mend
from bgtrain.__main__ import main
from bgtrain.evaluate import Pipeline


class Half(Pipeline):
    """Sees the left half of a figure in the middle."""

    def __init__(self):
        self.contract = Contract(size_hw=(96, 96))

    def network_alpha(self, photo):
        alpha = np.zeros((96, 96), np.float32)
        alpha[20:80, 20:48] = 1
        return alpha

    def describe(self):
        return {"network": "half"}


def test_a_mark_lies_in_the_middle_of_the_largest_wrong_part():
    truth, found = np.zeros((2, 100, 100), bool)
    truth[10:31, 10:31] = found[60:91, 60:91] = found[5:8, 80:83] = True
    field, mark = mend.next_mark(found, truth)
    assert field == "remove"
    ((x, y),) = mark.points
    assert abs(x - 75.5) <= 1 >= abs(y - 75.5)
    assert mark.radius == pytest.approx(1.4)
    found[60:91, 60:91] = False
    field, mark = mend.next_mark(found, truth)
    assert field == "keep"
    assert mend.next_mark(truth, truth) is None


def test_a_stroke_gains_more_than_what_it_covers():
    network = Half()
    pixels = np.full((192, 192, 3), 80, np.uint8)
    pixels[40:160, 40:152] = (200, 120, 60)
    truth = np.zeros((192, 192), bool)
    truth[40:160, 40:152] = True
    photo = photo_from(pixels)
    *scores, covered = mend.mended(photo, network.network_alpha(photo), network, truth)
    assert len(scores) == 4
    assert scores[0] < 0.6
    assert scores[1] > 0.95
    assert covered < 0.7


def test_the_report_has_every_pool_and_is_a_table(tiny_data, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(evaluate, "Pipeline", lambda path, threads: Half())
    assert main(["mend", "half.onnx", "--data", str(tiny_data), "--json", str(tmp_path / "mend.json")]) == 0
    said = capsys.readouterr().out
    assert "| ccp | 1 |" in said
    assert "| all | 2 |" in said
    assert (tmp_path / "mend.json").read_text().count("tiny_") == 2
