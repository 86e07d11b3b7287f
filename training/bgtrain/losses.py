"""What the training minimises: cross-entropy on soft mattes, Dice for shape, a Laplacian term for edges."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms."""

    cross_entropy: float = 1.0
    """Of the matte. Minimised alone it gives probabilities: half-transparent bodies where the network doubts."""
    l1: float = 0.0
    """Mean absolute error of the matte: decides where cross-entropy hesitates."""
    dice: float = 0.5
    boundary: float = 0.5
    """L1 distance of Laplacian levels of the matte."""
    levels: int = 2
    """Laplacian levels, finest first."""
    segment: float = 0.0
    """Cross-entropy and Dice of the segmentation head, for networks that have one."""


def soft_dice(alpha: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - Dice coefficient of each image (Milletari et al. 2016), mean over the batch; 0 for images without people.

    All (N, 1, H, W) in [0, 1]. Without people, only the cross-entropy counts. The mean runs over all
    images, so that the loss of a batch is the mean of its parts', however it is divided among processes.
    """
    dims = (1, 2, 3)
    overlap = (weight * alpha * target).sum(dims)
    total = (weight * (alpha**2 + target**2)).sum(dims)
    present = (target.mean(dims) > 0.002).float()
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return (dice * present).mean()


def boundary_loss(alpha: Tensor, target: Tensor, weight: Tensor, levels: int = 2) -> Tensor:
    """L1 distance of the finest Laplacian levels (after Hou & Liu 2019, arXiv:1909.09725), (N, 1, H, W)."""
    loss = alpha.new_zeros(())
    for level in range(levels):
        difference = alpha - target
        coarse = F.avg_pool2d(difference, 2)
        detail = difference - F.interpolate(coarse, size=difference.shape[2:], mode="nearest")
        loss = loss + 2**level * (weight * detail.abs()).mean()
        alpha, target, weight = F.avg_pool2d(alpha, 2), F.avg_pool2d(target, 2), F.avg_pool2d(weight, 2)
    return loss


def matting_loss(logits: Tensor, target: Tensor, weight: Tensor, config: LossConfig) -> Tensor:
    """Weighted sum of the terms of the matte, a scalar.

    logits: float (N, 1, H, W); target (the true alpha) and weight: float (N, 1, H, W) in [0, 1].
    """
    logits = logits.float()
    alpha = torch.sigmoid(logits)
    loss = logits.new_zeros(())
    if config.cross_entropy:
        loss = loss + config.cross_entropy * F.binary_cross_entropy_with_logits(logits, target, weight)
    if config.l1:
        loss = loss + config.l1 * (weight * (alpha - target).abs()).mean()
    if config.dice:
        loss = loss + config.dice * soft_dice(alpha, target, weight)
    if config.boundary:
        loss = loss + config.boundary * boundary_loss(alpha, target, weight, config.levels)
    return loss


def segmentation_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy and half of Dice, a scalar.

    logits: float (N, 1, H / 4, W / 4); target and weight: float (N, 1, H, W) in [0, 1].
    """
    logits = logits.float()
    target, weight = (F.interpolate(map_, logits.shape[2:], mode="area") for map_ in (target, weight))
    overlap = soft_dice(torch.sigmoid(logits), target, weight)
    return F.binary_cross_entropy_with_logits(logits, target, weight) + 0.5 * overlap
