"""What a second look gains: both ways measured, and taken only where they are surer."""

import json

import numpy as np
import pytest

from bgimage.codec import photo_from
from bgimage.contract import Contract
from bgimage.geometry import crop_letterbox, network_input
from bgtrain import closer, evaluate
from bgtrain.__main__ import main
from bgtrain.evaluate import Pipeline


class ShortSighted(Pipeline):
    """Sees what is bright, and is unsure of it while it is small."""

    def __init__(self):
        self.contract = Contract(size_hw=(96, 96))

    def network_alpha(self, photo):
        bright = network_input(photo, self.contract)[0] > 140
        return bright * np.float32(1.0 if bright.mean() > 0.2 else 0.6)

    def describe(self):
        return {"network": "short-sighted"}


def test_the_closer_look_is_surer_of_something_small_and_the_mirrored_one_is_not():
    network, pixels = ShortSighted(), np.zeros((192, 192, 3), np.uint8)
    pixels[80:130, 20:50] = 255
    photo = photo_from(pixels)
    first = network.network_alpha(photo)
    truth = crop_letterbox(first, photo.size_hw, network.contract) > 0.5
    scores = closer.looked_at(photo, first, truth, network)
    assert set(scores) == set(closer.WAYS)
    assert scores["mirrored"] == pytest.approx(scores["first"])
    assert scores["closer"][0] > scores["first"][0] + 0.1
    assert scores["closer"][1] > 0.8


def test_the_report_holds_every_doubtful_photo_and_is_a_table(tiny_data, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(evaluate, "Pipeline", lambda path, threads: ShortSighted())
    monkeypatch.setattr(closer, "LIMITS", (0.99,))
    target = tmp_path / "closer.json"
    assert main(["closer", "network.onnx", "--data", str(tiny_data), "--json", str(target)]) == 0
    result = json.loads(target.read_text())
    (found,) = result["at_least"].values()
    assert found["photos"] == len(result["raw"]) > 0
    for way in ("mirrored", "closer"):
        gain = found[way]["iou"]["mean"] - found["first"]["mean"]
        assert found[way]["gain"]["mean"] == pytest.approx(gain, abs=1e-4)
    assert "| 0.99 |" in capsys.readouterr().out
