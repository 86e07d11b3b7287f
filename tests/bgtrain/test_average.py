"""The mean of two runs' weights."""

import dataclasses

import pytest
import torch

from bgimage.contract import Contract
from bgtrain import average, checkpoint, networks
from bgtrain.checkpoint import Checkpoint, CheckpointError


@pytest.fixture
def two():
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        weights = networks.build("tiramisu").state_dict()
        made.append(Checkpoint("tiramisu", Contract(size_hw=(64, 64)), {}, {"score": 0.1}, weights))
    return made


def test_the_mean_lies_between_the_two_by_its_share(two, tmp_path):
    one, other = two
    for name, made in zip(("one.pt", "other.pt"), two, strict=True):
        made.save(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("one.pt", "other.pt", "mean.pt")]
    assert average.main([*paths, "--share", "0.25"]) == 0
    mean = checkpoint.load(tmp_path / "mean.pt")
    assert mean.metrics == {}  # those of neither
    for name, value in mean.weights.items():
        if value.is_floating_point():
            assert torch.allclose(value, 0.75 * one.weights[name] + 0.25 * other.weights[name], atol=1e-6)
        else:
            assert torch.equal(value, other.weights[name])
    mean.model()  # and it is a network


def test_two_kinds_of_network_have_no_mean(two):
    one, other = two
    with pytest.raises(CheckpointError, match="unet-32 and tiramisu"):
        average.average(dataclasses.replace(one, network="unet-32"), other, 0.5)


def test_a_share_outside_0_to_1_is_named(two, tmp_path, capsys):
    with pytest.raises(SystemExit):
        average.main([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "c"), "--share", "1.5"])
    assert "--share 1.5" in capsys.readouterr().err
