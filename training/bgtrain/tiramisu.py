"""FC-DenseNet for person matting, after Jégou et al. 2017 (arXiv:1611.09326), and its fast relatives.

``FCDenseNet`` is the paper's network, layer by layer. Its relatives keep the idea (dense blocks, skips by
concatenation) and move the work to where it is cheap: nothing dense happens at full resolution, convolution comes
before batch normalisation so that the two fold into one at export, and a light head brings the logits back to full
resolution. ``Tiramisu``, which is served, goes down through MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), whose
published weights have seen more people than we have photos of; ``LargeTiramisu`` is dense in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class FCDenseNetConfig:
    """Dimensions of one network of the paper's table 2."""

    growth_rate: int  # k in the paper
    down: tuple[int, ...]
    """Layers of each dense block on the way down, finest first."""
    bottleneck: int
    """Layers of the dense block at the coarsest resolution."""
    up: tuple[int, ...]
    """Layers of each dense block on the way up, coarsest first."""
    stem: int = 48
    """Channels of the first convolution."""
    dropout: float = 0.2
    """Probability of dropping a channel value after each convolution of a dense layer or transition."""

    @property
    def stride(self) -> int:
        """Both sides of the input are multiples of it."""
        return 2 ** len(self.down)


@dataclass(frozen=True)
class LargeTiramisuConfig:
    """Dimensions of a network that is dense down and up, from half of the resolution on."""

    stem: int = 32
    """Channels after the stride-2 convolution."""
    growth_rates: tuple[int, ...] = (16, 32, 48, 64, 96)
    """Features that each layer adds (k in the paper), a value a level."""
    down: tuple[int, ...] = (2, 5, 7, 8, 3)
    """Dense layers a level on the way down; the last is the bottleneck."""
    widths: tuple[int, ...] = (48, 80, 128, 208, 256)
    """Channels to which each level's block is compressed, as skip and as input of the next level."""
    up: tuple[int, ...] = (3, 3, 3, 2)
    """Dense layers a level on the way up, coarsest first."""
    head: int = 16
    """Channels of the full-resolution head."""
    dropout: float = 0.1
    """Probability of dropping a whole channel of the bottleneck."""

    @property
    def stride(self) -> int:
        """Both sides of the input are multiples of it."""
        return 2 ** len(self.down)


@dataclass(frozen=True)
class TiramisuConfig:
    """Dimensions of the way up; the way down is MobileNetV2 as published."""

    bottleneck: int = 192
    """Channels to which the dense block at 1/32 is compressed."""
    growth_rates: tuple[int, ...] = (80, 80, 48, 32)
    """Features that each layer adds (k in the paper), at 1/32, 1/16, 1/8 and 1/4."""
    layers: tuple[int, ...] = (2, 2, 2, 2)
    """Dense layers at the same levels."""
    widths: tuple[int, ...] = (144, 96, 64)
    """Channels to which the blocks at 1/16, 1/8 and 1/4 are compressed."""
    head: int = 16
    """Channels of the full-resolution head."""
    dropout: float = 0.1
    """Probability of dropping a whole channel of the bottleneck."""


TIRAMISU = "tiramisu"
"""The network of server, in-process engine and web page; it begins with MODNet's way down."""


def he_uniform(module: nn.Module) -> None:
    """He et al. 2015 for convolutions, zero biases; for ``Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# --- the paper's network ---


def _dense_layer(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Table 1, left: BN, ReLU, 3x3 convolution, dropout."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.Dropout(dropout),
    )


class DenseBlock(nn.Module):
    """Layers that each see the input and everything made before them (figure 2).

    ``keep_input=False`` gives only the new features: on the way up the paper drops the block's input, else
    the number of channels would explode with the resolution.
    """

    def __init__(
        self, inputs: int, growth_rate: int, layers: int, dropout: float, *, keep_input: bool
    ) -> None:
        super().__init__()
        self.keep_input = keep_input
        self.layers = nn.ModuleList(
            _dense_layer(inputs + i * growth_rate, growth_rate, dropout) for i in range(layers)
        )
        self.outputs = layers * growth_rate + (inputs if keep_input else 0)

    def forward(self, x: Tensor) -> Tensor:
        """x: float (N, inputs, H, W) -> (N, self.outputs, H, W)."""
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features if self.keep_input else features[1:], 1)


class FCDenseNet(nn.Module):
    """The Tiramisu as published: 56, 67 and 103 layers (table 2)."""

    def __init__(self, config: FCDenseNetConfig, classes: int = 1) -> None:
        super().__init__()
        self.stride = config.stride
        k, dropout = config.growth_rate, config.dropout
        self.stem = nn.Conv2d(3, config.stem, 3, padding=1)
        channels, skips = config.stem, []
        self.down, self.transitions_down = nn.ModuleList(), nn.ModuleList()
        for layers in config.down:
            block = DenseBlock(channels, k, layers, dropout, keep_input=True)
            channels = block.outputs
            skips.append(channels)
            self.down.append(block)
            self.transitions_down.append(
                nn.Sequential(  # table 1, middle
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(channels, channels, 1),
                    nn.Dropout(dropout),
                    nn.MaxPool2d(2),
                )
            )
        self.bottleneck = DenseBlock(channels, k, config.bottleneck, dropout, keep_input=False)
        channels = self.bottleneck.outputs
        self.transitions_up, self.up = nn.ModuleList(), nn.ModuleList()
        for layers, skip in zip(config.up, reversed(skips), strict=True):
            # table 1, right; the output padding makes the resolution exactly double
            self.transitions_up.append(
                nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)
            )
            last = len(self.up) == len(config.up) - 1
            block = DenseBlock(channels + skip, k, layers, dropout, keep_input=last)
            channels = block.outputs
            self.up.append(block)
        self.classify = nn.Conv2d(channels, classes, 1)
        self.apply(he_uniform)

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised float (N, 3, H, W) -> logits (N, classes, H, W)."""
        x, skips = self.stem(x), []
        for block, transition in zip(self.down, self.transitions_down, strict=True):
            skips.append(block(x))
            x = transition(skips[-1])
        x = self.bottleneck(x)
        for transition, block in zip(self.transitions_up, self.up, strict=True):
            x = block(torch.cat([transition(x), skips.pop()], 1))
        return self.classify(x)


# --- the relatives ---


class ConvBNReLU(nn.Sequential):
    """Convolution, batch normalisation, ReLU: in this order the first two are one convolution at inference."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class ConvDenseBlock(nn.Module):
    """A dense block of post-activation layers, compressed by a 1x1 convolution to ``width`` channels."""

    def __init__(self, inputs: int, growth_rate: int, layers: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvBNReLU(inputs + i * growth_rate, growth_rate) for i in range(layers))
        self.compress = ConvBNReLU(inputs + layers * growth_rate, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: float (N, inputs, H, W) -> (N, width, H, W)."""
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.compress(torch.cat(features, 1))


class Context(nn.Module):
    """What the whole picture says, added to every place: global mean through two 1x1 convolutions (after ParseNet,
    arXiv:1506.04579). A hand at the border is judged by whether a person is there at all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: float (N, channels, H, W), same out."""
        return x + self.expand(F.relu(self.squeeze(x.mean((2, 3), keepdim=True))))


class LargeTiramisu(nn.Module):
    """A Tiramisu whose dense blocks begin at half of the resolution."""

    def __init__(self, config: LargeTiramisuConfig, classes: int = 1) -> None:
        super().__init__()
        self.stride = config.stride
        self.stem_half = ConvBNReLU(3, config.stem, stride=2)
        channels = config.stem
        self.down = nn.ModuleList()
        for k, layers, width in zip(config.growth_rates, config.down, config.widths, strict=True):
            self.down.append(ConvDenseBlock(channels, k, layers, width))
            channels = width
        self.context = Context(channels)
        self.dropout = nn.Dropout2d(config.dropout)
        self.lateral, self.up = nn.ModuleList(), nn.ModuleList()
        levels = range(len(config.down) - 2, -1, -1)
        for level, layers in zip(levels, config.up, strict=True):
            width, k = config.widths[level], config.growth_rates[level]
            self.lateral.append(ConvBNReLU(channels, width // 2, 1))
            self.up.append(ConvDenseBlock(width + width // 2, k, layers, width))
            channels = width
        self.head_full = nn.Sequential(
            ConvBNReLU(channels // 4 + 3, config.head),
            ConvBNReLU(config.head, config.head),
            nn.Conv2d(config.head, classes, 3, padding=1),
        )
        self.apply(he_uniform)

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised float (N, 3, H, W) -> logits (N, classes, H, W)."""
        photo = x
        x = self.stem_half(x)  # H/2
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            if level:
                x = F.avg_pool2d(x, 2)
            x = block(x)
            skips.append(x)
        x = self.dropout(self.context(skips.pop()))
        for lateral, block in zip(self.lateral, self.up, strict=True):
            x = F.interpolate(lateral(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skips.pop()], 1))
        return self.head_full(torch.cat([F.pixel_shuffle(x, 2), photo], 1))  # H


# --- the relative with a published way down ---

# (expansion, channels, blocks, stride of the first block): table 2 of Sandler et al. 2018 (arXiv:1801.04381)
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST_OF_LEVEL = (0, 1, 2, 4, 6)
"""Last stage at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution."""


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; a shortcut where the shape is kept. The weights hold the batch normalisation."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = [nn.Conv2d(inputs, inner, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, outputs, 1),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """x: float (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier and its last 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6(inplace=True))
        self.stages = nn.ModuleList()
        inputs = 32
        for expansion, outputs, blocks, stride in MOBILENET_V2:
            stage = [
                InvertedResidual(outputs if i else inputs, outputs, expansion, 1 if i else stride)
                for i in range(blocks)
            ]
            self.stages.append(nn.Sequential(*stage))
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: normalised float (N, 3, H, W) -> features at 1/2, 1/4, 1/8, 1/16 and 1/32."""
        x, features = self.stem(x), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in LAST_OF_LEVEL:
                features.append(x)
        return features


class Tiramisu(nn.Module):
    """MobileNetV2 down; dense blocks, skips by concatenation and a light full-resolution head up.

    In training a second head at a quarter of the resolution, a segmentation of people, stands beside the matte
    (two tasks after RVM, Lin et al. 2021, arXiv:2108.11515): coarse outlines teach it without teaching the matte
    to be coarse.
    """

    stride = 32
    segment_only = False
    """In training mode, stop at the segmentation: nothing is computed above a quarter of the resolution."""

    def __init__(self, config: TiramisuConfig, classes: int = 1) -> None:
        super().__init__()
        half, *skips, deepest = (MOBILENET_V2[stage][1] for stage in LAST_OF_LEVEL)
        self.encoder = MobileNetV2()
        self.bottleneck = ConvDenseBlock(deepest, config.growth_rates[0], config.layers[0], config.bottleneck)
        self.context = Context(config.bottleneck)
        self.dropout = nn.Dropout2d(config.dropout)
        self.lateral, self.up = nn.ModuleList(), nn.ModuleList()
        channels = config.bottleneck
        levels = zip(config.growth_rates[1:], config.layers[1:], config.widths, reversed(skips), strict=True)
        for k, layers, width, skip in levels:
            self.lateral.append(ConvBNReLU(channels, width // 2, 1))
            self.up.append(ConvDenseBlock(width // 2 + skip, k, layers, width))
            channels = width
        self.segment = nn.Conv2d(channels, classes, 1)
        self.head_half = ConvBNReLU(channels // 4 + half, 2 * config.head)
        self.head_full = nn.Sequential(
            ConvBNReLU(config.head // 2 + 3, config.head), nn.Conv2d(config.head, classes, 3, padding=1)
        )
        self.apply(he_uniform)

    def freeze(self, stages: int) -> None:
        """Keep the weights of that many of the way down's stages, finest first, and of the stem if of any."""
        if stages:
            self.encoder.stem.requires_grad_(False)
            self.encoder.stages[:stages].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """x: normalised float (N, 3, H, W), sides multiples of 32 -> logits of the matte (N, classes, H, W).

        In training mode also the logits of the segmentation, (N, classes, H / 4, W / 4); these alone where
        ``segment_only`` is set.
        """
        half, *skips, deepest = self.encoder(x)
        y = self.dropout(self.context(self.bottleneck(deepest)))
        for lateral, block, skip in zip(self.lateral, self.up, reversed(skips), strict=True):
            y = F.interpolate(lateral(y), scale_factor=2.0, mode="bilinear", align_corners=False)
            y = block(torch.cat([y, skip], 1))
        segment = self.segment(y) if self.training else None
        if segment is not None and self.segment_only:
            return segment
        y = self.head_half(torch.cat([F.pixel_shuffle(y, 2), half], 1))  # H/2
        matte = self.head_full(torch.cat([F.pixel_shuffle(y, 2), x], 1))  # H
        return matte if segment is None else (matte, segment)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    TIRAMISU: partial(Tiramisu, TiramisuConfig()),
    "tiramisu-large": partial(LargeTiramisu, LargeTiramisuConfig()),
    "fc-densenet56": partial(FCDenseNet, FCDenseNetConfig(12, (4,) * 5, 4, (4,) * 5)),
    "fc-densenet67": partial(FCDenseNet, FCDenseNetConfig(16, (5,) * 5, 5, (5,) * 5)),
    "fc-densenet103": partial(FCDenseNet, FCDenseNetConfig(16, (4, 5, 7, 10, 12), 15, (12, 10, 7, 5, 4))),
}
"""By name, of a number of classes; the last three are those of the paper's table 2."""


def parameter_count(model: nn.Module) -> int:
    """Number of weights, those that are kept frozen included."""
    return sum(p.numel() for p in model.parameters())


def multiply_accumulates(model: nn.Module, size_hw: Sequence[int]) -> int:
    """Multiply-accumulate operations of all convolutions and matrix products for one image of ``size_hw``."""
    training = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, *size_hw))
    model.train(training)
    return counter.get_total_flops() // 2
