"""The networks the Tiramisu was chosen over: FCN on VGG16 (Long et al. 2015) and U-Net (Ronneberger et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def _convolutions(inputs: int, widths: tuple[int, ...]) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ReLU for each width."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [
            nn.Conv2d(inputs, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        inputs = width
    return nn.Sequential(*layers)


def _he_uniform(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class FCN(nn.Module):
    """FCN-32s, -16s or -8s on VGG16 (arXiv:1411.4038).

    The trunk has batch normalisation, for it starts from fresh weights here; the fully connected layers are
    the paper's 7x7 and 1x1 convolutions at ``fc`` instead of 4096 channels, padded to keep the size.
    """

    stride = 32

    def __init__(self, finest: int, classes: int = 1, fc: int = 512) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _convolutions(inputs, widths)
            for inputs, widths in zip((3, 64, 128, 256, 512), VGG16, strict=True)
        )
        self.fc = nn.Sequential(
            nn.Conv2d(512, fc, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.5),
            nn.Conv2d(fc, fc, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.5),
            nn.Conv2d(fc, classes, 1),
        )
        depths = {32: (), 16: (3,), 8: (3, 2)}[finest]  # pool4, then pool3
        skips = {str(i): nn.Conv2d(VGG16[i][-1], classes, 1) for i in depths}
        self.skips = nn.ModuleDict(skips)
        self.apply(_he_uniform)
        for skip in skips.values():  # the paper adds the finer streams with zero weight at first
            nn.init.zeros_(skip.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised float (N, 3, H, W) -> logits (N, classes, H, W)."""
        size = x.shape[2:]
        pools = []
        for block in self.blocks:
            x = F.max_pool2d(block(x), 2)
            pools.append(x)
        x = self.fc(x)
        for depth, skip in self.skips.items():
            fine = skip(pools[int(depth)])
            x = fine + F.interpolate(x, size=fine.shape[2:], mode="bilinear", align_corners=False)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class UNet(nn.Module):
    """U-Net (arXiv:1505.04597) with padded convolutions and batch normalisation."""

    stride = 16

    def __init__(self, classes: int = 1, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(5)]
        self.down = nn.ModuleList(
            _convolutions(i, (o, o)) for i, o in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.widen = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(_convolutions(2 * w, (w, w)) for w in reversed(widths[:-1]))
        self.classify = nn.Conv2d(width, classes, 1)
        self.apply(_he_uniform)

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised float (N, 3, H, W) -> logits (N, classes, H, W)."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for widen, block in zip(self.widen, self.up, strict=True):
            x = block(torch.cat([skips.pop(), widen(x)], 1))
        return self.classify(x)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "fcn32s": partial(FCN, 32),
    "fcn16s": partial(FCN, 16),
    "fcn8s": partial(FCN, 8),
    "unet": UNet,
    "unet-32": partial(UNet, width=32),
}
