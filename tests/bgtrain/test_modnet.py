"""A tiramisu's way down begins as MODNet's."""

import onnx
import pytest
import torch
from torch import nn

from bgimage import runtimes
from bgtrain import modnet, networks, recipe
from bgtrain.errors import BrokenData, MissingData
from bgtrain.tiramisu import MobileNetV2

RECIPE = """
network = "{network}"
modnet = true
[[phases]]
size = 64
steps = 1
batch = 1
[contract]
size_hw = [64, 64]
mean = [{mean}, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return MobileNetV2()


def test_features_come_at_five_resolutions(encoder):
    features = encoder(torch.zeros(1, 3, 64, 96))
    shapes = [(16, 32, 48), (24, 16, 24), (32, 8, 12), (96, 4, 6), (320, 2, 3)]
    assert [tuple(f.shape[1:]) for f in features] == shapes


def test_the_layers_are_taken_from_the_file_in_the_photos_order(encoder, tmp_path):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.more = MobileNetV2(), nn.Conv2d(320, 1280, 1)

        def forward(self, photo):
            return self.more(self.encoder(photo)[-1])

    whole, path = Whole(), tmp_path / "whole.onnx"
    photo = torch.randn(1, 3, 64, 64)
    torch.onnx.export(whole, (photo,), path, external_data=False, verbose=False)
    modnet.load_modnet(encoder, path)
    with torch.no_grad():
        for ours, theirs in zip(encoder(photo), whole.encoder(photo), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.skipif(not modnet.FILE.exists(), reason="python -m bgtrain modnet fetches the file")
def test_our_features_are_those_of_the_published_graph(encoder):
    model = onnx.load(modnet.fetch())
    projections = [node for node in model.graph.node if node.op_type == "Conv"]
    wanted = [projections[i].output[0] for i in (2, 50)]  # the last of the first and of the last stage
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    session = runtimes.session(model.SerializeToString())
    photo = torch.randn(1, 3, 96, 64)
    modnet.load_modnet(encoder)
    with torch.no_grad():
        half, *_, deepest = encoder(photo)
    for ours, theirs in zip((half, deepest), session.run(wanted, {"input": photo.numpy()}), strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-3, atol=1e-4)


def test_a_missing_or_foreign_file_is_said_with_what_to_do(encoder, tmp_path):
    with pytest.raises(MissingData, match="python -m bgtrain modnet"):
        modnet.load_modnet(encoder, tmp_path / "modnet.onnx")
    (tmp_path / "modnet.onnx").write_bytes(b"another")
    with pytest.raises(BrokenData, match="delete it"):
        modnet.fetch(tmp_path / "modnet.onnx")


def test_only_a_network_with_published_weights_can_begin_with_them(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(network="tiramisu", mean=0.5))
    assert recipe.load(path).modnet
    path.write_text(RECIPE.format(network="unet-32", mean=0.5))
    with pytest.raises(recipe.RecipeError, match=r"'unet-32' has another way down; only 'tiramisu'"):
        recipe.load(path)
    path.write_text(RECIPE.format(network="tiramisu", mean=0.4))
    with pytest.raises(recipe.RecipeError, match=r"contract.mean and .std must be 0.5"):
        recipe.load(path)


def test_the_segmentation_stands_beside_the_matte_in_training_alone():
    model = networks.build("tiramisu")
    matte, segment = model.train()(torch.randn(2, 3, 64, 96))
    assert (matte.shape, segment.shape) == ((2, 1, 64, 96), (2, 1, 16, 24))
    assert model.eval()(torch.randn(1, 3, 64, 96)).shape == (1, 1, 64, 96)
