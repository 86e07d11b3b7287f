"""Sharpening makes a doubtful matte decisive and moves no outline."""

import pytest
import torch
from torch import nn

from bgtrain import calibrate, checkpoint, networks, train


def test_a_hazy_matte_is_sharpened_and_a_sharp_one_is_left_alone():
    truth = (torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    hazy = 0.5 + (truth - 0.5) * 0.5
    assert calibrate.best_gain(hazy, truth)[0] == max(calibrate.GAINS)
    assert calibrate.best_gain(truth, truth)[0] == 1.0


def test_the_gain_is_folded_into_the_network_and_moves_no_outline():
    model = networks.build("tiramisu").eval()
    photo = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(photo)
        calibrate.sharpen(model, 3.0)
        torch.testing.assert_close(model(photo), 3 * before, rtol=1e-4, atol=1e-4)


def test_a_network_without_logits_at_its_end_is_refused():
    with pytest.raises(ValueError, match="cannot be calibrated"):
        calibrate.sharpen(nn.Sequential(nn.Conv2d(3, 1, 1, bias=False)), 2.0)


def test_a_calibrated_checkpoint_is_published_with_its_new_scores(tiny_recipe, tiny_data, tmp_path, capsys):
    assert (
        train.main([str(tiny_recipe), "--out", str(tmp_path), "--data", str(tiny_data), "--workers", "0"])
        == 0
    )
    arguments = [str(tmp_path / "best.pt"), str(tmp_path / "sharp.pt"), "--data", str(tiny_data)]
    assert calibrate.main(arguments) == 0
    assert capsys.readouterr().out.count("taken") == 1
    sharp = checkpoint.load(tmp_path / "sharp.pt")
    assert sharp.resume is None
    assert {"score", "mae"} <= set(sharp.metrics)
