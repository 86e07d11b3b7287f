"""The loss rewards the truth and divides evenly among processes."""

import torch

from bgtrain.losses import LossConfig, boundary_loss, matting_loss, segmentation_loss, soft_dice

CONFIG = LossConfig()


def batch(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(n, 1, 16, 16, generator=generator) > 0.5).float()
    target[0] = 0  # nobody in the first
    return torch.randn(n, 1, 16, 16, generator=generator), target, torch.ones_like(target)


def test_the_truth_costs_nothing():
    _, target, weight = batch()
    assert matting_loss((target * 2 - 1) * 30, target, weight, CONFIG) < 1e-3


def test_the_loss_of_a_batch_is_the_mean_of_its_halves():
    logits, target, weight = batch()
    halves = [matting_loss(logits[i], target[i], weight[i], CONFIG) for i in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(matting_loss(logits, target, weight, CONFIG), sum(halves) / 2)


def test_unweighted_pixels_do_not_count():
    logits, target, weight = batch()
    weight[..., 8:] = 0
    changed = logits.clone()
    changed[..., 8:] = 5
    torch.testing.assert_close(
        matting_loss(logits, target, weight, CONFIG), matting_loss(changed, target, weight, CONFIG)
    )


def test_photos_without_people_have_no_dice():
    _, target, weight = batch(1)
    assert soft_dice(torch.rand_like(target), target, weight) == 0


def test_a_blurred_edge_costs_more_than_the_same_error_spread_flat():
    target = torch.zeros(1, 1, 16, 16)
    target[..., 8:] = 1
    weight = torch.ones_like(target)
    soft = target.clone()
    soft[..., 6:10] = torch.tensor([0.2, 0.4, 0.6, 0.8])
    flat = (target - (target - soft).abs().mean()).abs()
    assert boundary_loss(soft, target, weight) > 2 * boundary_loss(flat, target, weight)


def test_l1_decides_where_cross_entropy_hesitates():
    target = torch.tensor([1.0] * 7 + [0.0] * 3).view(10, 1, 1, 1)  # a person in seven of ten such places
    weight = torch.ones_like(target)
    levels = torch.linspace(-6, 6, 241)

    def best(**terms):
        config = LossConfig(**{"cross_entropy": 0, "dice": 0, "boundary": 0, **terms})
        losses = [matting_loss(level.expand_as(target), target, weight, config) for level in levels]
        return float(torch.sigmoid(levels[int(torch.stack(losses).argmin())]))

    assert abs(best(cross_entropy=1) - 0.7) < 0.01
    assert best(l1=1) > 0.99


def test_the_segmentation_learns_at_a_quarter_of_the_resolution():
    _, target, weight = batch()
    target = torch.nn.functional.interpolate(target, scale_factor=4)
    weight = torch.nn.functional.interpolate(weight, scale_factor=4)
    quarter = torch.nn.functional.avg_pool2d(target, 4)
    assert segmentation_loss((quarter * 2 - 1) * 30, target, weight) < 1e-3
    assert segmentation_loss((1 - quarter * 2) * 30, target, weight) > 10
    assert segmentation_loss((1 - quarter * 2) * 30, target, torch.zeros_like(weight)) < 1
