"""The networks have the papers' shapes."""

import pytest
import torch

from bgtrain import networks
from bgtrain.tiramisu import TIRAMISU, FCDenseNet, multiply_accumulates, parameter_count


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("fc-densenet56", 1_376_795), ("fc-densenet67", 3_463_243), ("fc-densenet103", 9_322_091)],
)
def test_the_papers_networks_have_the_papers_parameters(name, parameters):
    assert parameter_count(networks.build(name, classes=11)) == parameters


@pytest.mark.parametrize("name", networks.NAMES)
def test_every_network_gives_one_logit_a_pixel_also_for_oblong_photos(name):
    model = networks.build(name).eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, model.stride, 2 * model.stride))
    assert logits.shape == (1, 1, model.stride, 2 * model.stride)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["tiramisu", "fc-densenet56"])
def test_the_answer_does_not_depend_on_batch_mates(name):
    torch.manual_seed(0)
    model = networks.build(name).eval()
    photos = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = model(photos), model(photos[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-4)


def test_dense_blocks_on_the_way_up_carry_only_new_features():
    model = networks.build("fc-densenet56")
    assert isinstance(model, FCDenseNet)
    assert [block.outputs for block in model.up[:-1]] == [48] * 4  # 4 layers of k = 12
    assert model.bottleneck.outputs == 48


def test_the_served_tiramisu_is_light_enough_for_two_cores_and_a_page():
    model = networks.build(TIRAMISU)
    assert parameter_count(model) < 4_000_000  # two bytes each on the page
    assert multiply_accumulates(model, (384, 384)) < 2.6e9


def test_the_large_tiramisu_is_what_its_recipe_says():
    model = networks.build("tiramisu-large")
    assert parameter_count(model) == pytest.approx(5.0e6, rel=0.02)
    assert multiply_accumulates(model, (256, 256)) == pytest.approx(4.2e9, rel=0.02)
    assert model.stride == 32


def test_transposed_convolutions_are_counted_once_an_input_pixel():
    layer = torch.nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1)
    assert multiply_accumulates(layer, (8, 8)) == 8 * 8 * 3 * 5 * 9


def test_fcn8s_begins_as_fcn32s_and_learns_the_finer_streams():
    model = networks.build("fcn8s").eval()
    assert all(not skip.weight.any() for skip in model.skips.values())


def test_an_unknown_network_is_named_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no network 'segnet'; use one of tiramisu, .*fc-densenet56, .*unet"
    ):
        networks.build("segnet")
