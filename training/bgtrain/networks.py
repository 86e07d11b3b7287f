"""Every network that can be trained, by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bgimage.contract import Contract
from bgtrain import baselines, tiramisu

NETWORKS = {**tiramisu.NETWORKS, **baselines.NETWORKS}
NAMES = tuple(NETWORKS)


def build(name: str, classes: int = 1) -> nn.Module:
    """The network ``name``, fresh weights (He et al. 2015): normalised float (N, 3, H, W) -> logits (N, classes, H, W).

    Its attribute ``stride`` divides H and W. ``ValueError`` lists the known names.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}; use one of {', '.join(NAMES)}")
    return NETWORKS[name](classes)


class ServedModule(nn.Module):
    """A network as callers see it, in eval mode: image uint8 (N, 3, H, W) RGB -> alpha float32 (N, 1, H, W) in [0, 1].

    Normalisation is one multiplication and one addition; the sigmoid comes last. Batch normalisation uses its running
    statistics, so that no answer depends on batch mates.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, net: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.net = net
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (contract.mean, contract.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("offset", -mean / std)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Alpha of ``image``."""
        return torch.sigmoid(self.net(image.float() * self.scale + self.offset))
