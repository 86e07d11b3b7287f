"""Refining coarse outlines, and finding near-duplicates."""

import json

import cv2
import numpy as np
import pytest

from bgtrain import inspect, polygons, shards
from bgtrain.duplicates import Fingerprint, near_duplicates


@pytest.fixture(scope="module")
def scene():
    """A textured disc on another texture, and its mask."""
    rng = np.random.default_rng(0)
    height, width = np.mgrid[:200, :300]
    truth = np.hypot(height - 100, width - 150) < 60
    photo = np.where(truth[..., None], (190, 120, 90), (60, 90, 130)) + rng.normal(0, 12, (200, 300, 3))
    return photo.clip(0, 255).astype(np.uint8), truth


def test_refining_moves_a_coarse_outline_to_the_edge_of_the_photo(scene):
    photo, truth = scene
    coarse = polygons.coarse(truth, 6, np.random.default_rng(1))
    before = polygons.outline_error_px(coarse, truth)
    after = polygons.outline_error_px(polygons.refined(photo, coarse, reach=0.03), truth)
    assert before > 1
    assert after < 0.35


def test_refining_decides_only_the_band_around_the_outline(scene):
    photo, truth = scene
    coarse = polygons.coarse(truth, 6, np.random.default_rng(1))
    changed = polygons.refined(photo, coarse, reach=0.01) != coarse
    assert changed.any()
    assert np.abs(polygons.signed_distance(coarse))[changed].max() <= 0.01 * 300


def test_refining_twice_from_the_same_input_gives_the_same_mask(scene):
    photo, truth = scene
    coarse = polygons.coarse(truth, 6, np.random.default_rng(1))
    assert (polygons.refined(photo, coarse) == polygons.refined(photo, coarse)).all()


@pytest.mark.parametrize(
    "mask",
    [np.zeros((200, 300), bool), np.ones((200, 300), bool), np.eye(200, 300, dtype=bool)],
    ids=["nobody", "everything", "a thread"],
)
def test_masks_without_a_sure_inside_or_outside_stay_as_they_are(scene, mask):
    assert (polygons.refined(scene[0], mask) == mask).all()


def test_coarser_clicks_are_further_off(scene):
    errors = [
        np.mean(
            [
                polygons.outline_error_px(polygons.coarse(scene[1], off, np.random.default_rng(n)), scene[1])
                for n in range(5)
            ]
        )
        for off in (2, 4, 8)
    ]
    assert errors[0] < errors[1] < errors[2]


def test_the_committed_measurement_says_that_refining_helps(root):
    measured = json.loads((root / "training" / "results" / "polygon_refinement.json").read_text())
    assert measured["reach"] == polygons.REACH
    assert measured["split"] == "test"
    for one in measured["results"]:
        gain = one["boundary_iou_after"] - one["boundary_iou_before"]
        noise = one["boundary_iou_gain_se"]
        # outlines that are as good as the label itself are not to be harmed, the rest is to gain
        assert gain > -2 * noise if one["tolerance_px"] <= 3 else gain > 2 * noise


def test_the_documented_table_is_the_measured_one(root):
    measured = json.loads((root / "training" / "results" / "polygon_refinement.json").read_text())
    assert polygons.markdown(measured["results"]) in (root / "docs" / "data.md").read_text()


def scenery(seed, height=240, width=320):
    """A picture of blobs, different for every seed."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), rng.integers(0, 255, 3), np.uint8)
    for _ in range(40):
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(picture, centre, int(rng.integers(5, 60)), rng.integers(0, 255, 3).tolist(), -1)
    return picture


def fingerprints(*photos):
    return [Fingerprint.of(f"photo{n}", split, photo) for n, (split, photo) in enumerate(photos)]


COPIES = {
    "as it is": lambda photo: photo,
    "encoded again": lambda photo: cv2.imdecode(
        cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1
    ),
    "half the size": lambda photo: cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda photo: cv2.convertScaleAbs(photo, alpha=0.8, beta=40),
    "cropped": lambda photo: photo[8:-4, 10:-8],
}


@pytest.mark.parametrize("copy", COPIES, ids=str)
def test_copies_across_splits_are_found(copy):
    photo = scenery(1)
    (pair,) = near_duplicates(
        fingerprints(("train", photo), ("test", COPIES[copy](photo)), ("val", scenery(2)))
    )
    assert (pair.first, pair.second, pair.mirrored) == ("train/photo0", "test/photo1", False)


def test_a_mirrored_copy_is_found_and_said_to_be_one():
    (pair,) = near_duplicates(fingerprints(("test", scenery(1)), ("val", scenery(1)[:, ::-1].copy())))
    assert pair.mirrored
    assert pair.first == "val/photo1"  # the earlier split first, whatever the order


def test_different_photos_and_copies_within_a_split_are_no_pairs():
    assert (
        near_duplicates(
            fingerprints(*((split, scenery(n)) for n, split in enumerate(["train", "val", "test"] * 12)))
        )
        == []
    )
    assert near_duplicates(fingerprints(("train", scenery(1)), ("train", scenery(1)))) == []
    assert near_duplicates([]) == []


@pytest.fixture
def leaky(tmp_path):
    """Shards whose train and test share a photo."""
    samples = [
        shards.Sample(
            key=f"k{n}",
            jpeg=cv2.imencode(".jpg", scenery(seed))[1].tobytes(),
            matte=np.full((240, 320), 255 * (n % 2), np.uint8),
            size_hw=(240, 320),
            pool="ccp",
            label="pixel",
            persons=1,
            split=split,
        )
        for n, (seed, split) in enumerate([(1, "train"), (2, "val"), (1, "test")])
    ]
    shards.write_shards(samples, tmp_path / "data")
    return tmp_path


def test_inspect_fails_on_a_leak_and_names_it(leaky, capsys):
    assert inspect.main(["--data", str(leaky / "data")]) == 1
    printed = capsys.readouterr().out
    assert "near-duplicates across splits: 1" in printed
    assert "train/k0  test/k2" in printed
    assert "1: 3" in printed  # three photos of one person each


def test_inspect_draws_a_sheet_a_pool_and_split_and_the_histograms(leaky):
    inspect.main(["--data", str(leaky / "data"), "--out", str(leaky / "look")])
    assert sorted(path.name for path in (leaky / "look").iterdir()) == [
        "ccp-test.jpg",
        "ccp-train.jpg",
        "ccp-val.jpg",
        "histograms.png",
    ]


def test_photos_left_out_are_in_no_split(leaky):
    with shards.Shards(leaky / "data", left_out=["k2"]) as packed:
        assert [row.key for row in packed.rows] == ["k0", "k1"]


@pytest.mark.shared
@pytest.mark.slow
def test_every_near_duplicate_across_splits_of_the_training_photos_is_left_out(shared_data):
    with shards.Shards(shared_data, left_out=()) as packed:
        found = inspect.find_duplicates(packed)
    assert {"train/ccp_ccp_0907", "train/neg_davis_drift-chicane_00013"} <= {pair.first for pair in found}
    assert {pair.first.split("/")[1] for pair in found} <= shards.key_list("left_out.txt")
