"""Every network that can be trained, by name."""

from __future__ import annotations

from torch import nn

from bgtrain import baselines, tiramisu

NAMES = (*tiramisu.NETWORKS, *baselines.NETWORKS)


def build(name: str, classes: int = 1) -> nn.Module:
    """The network ``name`` with fresh weights: normalised float (N, 3, H, W) -> logits (N, ``classes``, H, W).

    Its attribute ``stride`` divides H and W. ``ValueError`` lists the known names.
    """
    if name in tiramisu.NETWORKS:
        return tiramisu.build(name, classes)
    if name in baselines.NETWORKS:
        return baselines.NETWORKS[name](classes)
    raise ValueError(f"no network {name!r}; use one of {', '.join(NAMES)}")
