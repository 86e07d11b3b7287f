"""Polygons say who, the teacher says where they end."""

import json

import cv2
import numpy as np

from bgtrain import relabel
from bgtrain.shards import Shards, read_index


def person():
    mask = np.zeros((200, 200), np.uint8)
    mask[50:150, 60:140] = 255
    return mask


def test_the_teacher_decides_along_the_outline_and_the_polygon_elsewhere():
    teacher = person()
    teacher[:, 140:142] = teacher[:, 138:139]  # two pixels wider
    teacher[90:110, 90:110] = 0  # a hole that the polygon does not have
    matte, open_, agreement = relabel.merged(person(), teacher)
    assert (matte[60:140, 140:142] == 255).all()
    assert (matte[90:110, 90:110] == 255).all()
    assert not open_.any()
    assert 0.9 < agreement < 1


def test_what_the_teacher_adds_far_outside_is_left_open():
    teacher = person()
    teacher[80:90, 140:190] = 255  # a racket
    matte, open_, _ = relabel.merged(person(), teacher)
    assert not matte[80:90, 150:190].any()
    assert open_[80:90, 150:190].all()
    assert not open_[:, :140].any()


def test_only_polygons_of_the_training_split_that_the_teacher_confirms_change(tiny_data, tmp_path, capsys):
    polygons = [row.key for row in read_index(tiny_data) if row.label == "polygon" and row.split == "train"]
    mattes = tmp_path / "mattes"
    mattes.mkdir()
    with Shards(tiny_data) as shards:
        for key in polygons:
            matte = shards.matte(key)
            teacher = np.zeros_like(matte) if key == polygons[0] else cv2.GaussianBlur(matte, (3, 3), 0)
            cv2.imwrite(str(mattes / f"{key}.png"), teacher)
        before = {row.key: shards.matte(row.key) for row in shards.rows}
    out = tmp_path / "out"
    assert relabel.main([str(mattes), str(out), "--data", str(tiny_data)]) == 0
    assert json.loads(capsys.readouterr().out) == {"relabelled": len(polygons) - 1, "photos": len(before)}
    with Shards(out) as shards:
        assert {row.key for row in shards.rows} == set(before)
        for row in shards.rows:
            changed = row.key in polygons[1:]
            assert (row.label == "pseudo") == changed
            matte, old = shards.matte(row.key), before[row.key]
            assert (matte is None and old is None) or np.array_equal(matte, old) != changed
