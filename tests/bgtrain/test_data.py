"""Crops are pure functions of their number, and the matte follows the photo."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from bgimage.contract import Contract
from bgimage.geometry import network_input
from bgtrain.augment import AugmentConfig, TrainingPhoto, augment
from bgtrain.data import Crops, DataConfig, StepSampler
from bgtrain.errors import DataError
from bgtrain.shards import read_index

PLAIN = AugmentConfig(composite=0, colour=0, blur=0, noise=0, jpeg=0)


def crops(root, **changes):
    return Crops(root, DataConfig(), replace(AugmentConfig(), **changes), size=48, seed=1)


def test_a_crop_depends_on_its_number_and_nothing_else(tiny_data):
    one, other = crops(tiny_data), crops(tiny_data)
    other[0], other[3]  # reading others first changes nothing
    for name in ("image", "alpha", "weight", "segment_weight"):
        assert torch.equal(one[5][name], other[5][name])
    assert not torch.equal(one[5]["image"], one[6]["image"])


def test_the_matte_goes_wherever_the_photo_goes():
    ramp = np.tile(np.linspace(0, 255, 80).astype(np.uint8), (90, 1))
    sample = TrainingPhoto(np.repeat(ramp[..., None], 3, 2), ramp, "pixel")
    plain = replace(PLAIN, pad_value=0)
    for seed in range(20):
        image, alpha, *_ = augment(sample, 64, plain, np.random.default_rng(seed))
        near = np.abs(image[..., 0].astype(int) - alpha) <= 4
        assert near.mean() > 0.9  # all but the padding's soft rim


def test_the_padding_is_the_contracts_grey_whatever_happens_to_the_colours():
    sample = TrainingPhoto(np.full((20, 80, 3), 250, np.uint8), np.zeros((20, 80), np.uint8), "empty")
    config = replace(AugmentConfig(), colour=1, noise=1, rotate=0, whole=1)
    image, *_ = augment(sample, 64, config, np.random.default_rng(0))
    assert (image[:8] == 127).all()
    assert (image[-8:] == 127).all()


def test_a_whole_view_that_nothing_moves_is_what_serving_shows():
    grain = np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)
    photo = cv2.GaussianBlur(grain, (0, 0), 4)
    sample = TrainingPhoto(photo, np.zeros((128, 64), np.uint8), "empty")
    still = replace(PLAIN, whole=1, whole_scale=(1, 1), shift=0, rotate=0, aspect=1)
    served = network_input(photo, Contract(size_hw=(64, 64))).transpose(1, 2, 0)
    views = [augment(sample, 64, still, np.random.default_rng(seed))[0].astype(int) for seed in range(8)]
    assert any(np.abs(view - served).mean() < 0.5 for view in views)  # the others are mirrored


def test_a_composite_covers_the_crop_with_the_new_background():
    person = TrainingPhoto(np.full((60, 60, 3), 200, np.uint8), np.zeros((60, 60), np.uint8), "pixel")
    person.alpha[20:40, 20:40] = 255
    behind = TrainingPhoto(np.full((50, 70, 3), 30, np.uint8), np.zeros((50, 70), np.uint8), "none")
    image, alpha, *_ = augment(person, 64, PLAIN, np.random.default_rng(2), background=behind)
    assert (np.abs(image[alpha == 0].astype(int) - 30) <= 1).all()
    assert (np.abs(image[alpha == 255].astype(int) - 200) <= 1).all()


def test_a_second_person_without_a_new_background_stands_in_front():
    here = TrainingPhoto(np.full((60, 60, 3), 30, np.uint8), np.zeros((60, 60), np.uint8), "polygon")
    here.alpha[:, :30] = 255
    other = TrainingPhoto(np.full((60, 60, 3), 200, np.uint8), np.zeros((60, 60), np.uint8), "pixel")
    other.alpha[20:40, 20:40] = 255
    image, alpha, weight, _ = augment(here, 64, PLAIN, np.random.default_rng(2), second=other)
    pasted = image[..., 0] > 190
    assert 100 < pasted.sum() < 2000
    assert (alpha[pasted] == 255).all()
    assert (weight[pasted] == 255).all()
    assert 30 in image[alpha == 255]  # who was there before is still labelled


def test_people_are_pasted_as_often_as_the_recipe_says(tiny_data):
    none, always = crops(tiny_data, composite=0), crops(tiny_data, composite=0, paste=1)
    more = [float(always[i]["alpha"].sum()) > float(none[i]["alpha"].sum()) for i in range(40)]
    assert sum(more) > 20
    assert torch.equal(crops(tiny_data)[7]["image"], crops(tiny_data, paste=0)[7]["image"])


def test_coarse_polygons_count_little_along_their_edges_only():
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, :32] = 255
    sample = TrainingPhoto(np.zeros((64, 64, 3), np.uint8), alpha, "polygon")
    _, matte, weight, _ = augment(sample, 64, PLAIN, np.random.default_rng(1))
    assert set(np.unique(weight)) == {64, 255}
    edge = np.abs(np.diff((matte > 127).astype(int), axis=1)) > 0
    assert (weight[:, 1:][edge] == 64).all()


def test_labels_of_low_confidence_weigh_less(tiny_data):
    alpha = np.zeros((64, 64), np.uint8)
    sample = TrainingPhoto(np.zeros((64, 64, 3), np.uint8), alpha, "pseudo", confidence=0.5)
    assert set(np.unique(augment(sample, 64, PLAIN, np.random.default_rng(1))[2])) == {128}


def test_processes_share_each_step_without_overlap():
    whole = list(StepSampler(8, first=40, steps=3))
    halves = [list(StepSampler(8, 40, 3, rank, 2)) for rank in range(2)]
    for step, numbers in enumerate(whole):
        assert sorted(halves[0][step] + halves[1][step]) == numbers
    with pytest.raises(ValueError, match="batch=9 does not divide among 2"):
        StepSampler(9, 0, 1, 0, 2)


def test_only_train_photos_train(tiny_data):
    train = [r for r in read_index(tiny_data) if r.split == "train" and r.pool in DataConfig().pools]
    assert len(crops(tiny_data)) == len(train)


def test_excluded_keys_are_left_out(tiny_data):
    fewer = Crops(tiny_data, DataConfig(exclude=("tiny_0",)), PLAIN, size=32, seed=0)
    assert len(fewer) == len(crops(tiny_data)) - 1


def test_missing_files_are_named(tiny_data, tmp_path):
    with pytest.raises(DataError, match=r"no index of the shards at .*index\.csv"):
        read_index(tmp_path)
    shutil.copy(tiny_data / "index.csv", tmp_path)
    with pytest.raises(DataError, match=r"tiny-00\.tar"):
        Crops(tmp_path, DataConfig(), PLAIN, size=32, seed=0)


def test_pixels_that_the_label_leaves_open_do_not_count():
    alpha = np.zeros((64, 64), np.uint8)
    ignore = np.ones((64, 64), bool)
    sample = TrainingPhoto(np.zeros((64, 64, 3), np.uint8), alpha, "pixel", ignore=ignore)
    whole = replace(PLAIN, whole=1, whole_scale=(2, 2), rotate=0)
    assert not augment(sample, 32, whole, np.random.default_rng(1))[2].any()
