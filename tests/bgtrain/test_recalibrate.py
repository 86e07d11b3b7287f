"""Averaged weights need batch statistics of their own."""

import pytest
import torch
from torch import nn

from bgtrain import checkpoint, recalibrate, train


class Probe:
    """How far each normalisation's output is from mean 0 and variance 1 over a batch."""

    def __init__(self, model):
        self.model = model

    def __call__(self, batch):
        found = []
        hooks = [
            module.register_forward_hook(
                lambda norm, inputs, _: found.append(
                    ((inputs[0].mean((0, 2, 3)) - norm.running_mean).abs() / norm.running_var.sqrt()).mean()
                )
            )
            for module in self.model.modules()
            if isinstance(module, nn.BatchNorm2d)
        ]
        with torch.no_grad():
            self.model(batch)
        for hook in hooks:
            hook.remove()
        return float(torch.stack(found).mean())


@pytest.fixture
def run(tiny_recipe, tiny_data, tmp_path):
    arguments = [str(tiny_recipe), "--out", str(tmp_path), "--data", str(tiny_data), "--workers", "0"]
    assert train.main(arguments) == 0
    return tmp_path / "last.pt"


def test_the_averaged_network_is_normalised_better_by_statistics_of_its_own(run, tiny_data, tmp_path, capsys):
    assert (
        recalibrate.main([str(run), str(tmp_path / "settled.pt"), "--crops", "96", "--data", str(tiny_data)])
        == 0
    )
    before, after = (checkpoint.load(path) for path in (run, tmp_path / "settled.pt"))
    fresh = train.Crops(
        tiny_data,
        *(getattr(train.recipes.from_dict(before.recipe), part) for part in ("data", "augment")),
        size=64,
        seed=9,
    )
    batch = torch.cat(list(recalibrate.crop_batches(fresh, before.contract, 96)))
    lag = Probe(before.model())(batch)
    assert lag > 0.15  # of a deviation, after eight steps
    assert Probe(after.model())(batch) < 0.6 * lag
    assert capsys.readouterr().out.count("score") == 2
    assert after.resume is None
    for name, value in before.weights.items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, after.weights[name]), name
