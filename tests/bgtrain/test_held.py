"""The points that were marked by hand on held things, and the share of them that a matte keeps."""

import csv
import json

import cv2
import numpy as np
import pytest

from bgtrain import evaluate
from bgtrain.shards import Sample, write_shards

BAG, UMBRELLA = "ccp_ccp_0023", "coco_person_000000081594"


def kept_at(key, points, scale=1):
    """A matte, ``scale`` times the marked size, that keeps 3x3 pixels at each of the first ``points`` marks."""
    marks = evaluate.held_points()[key]
    height, width = (round(side * scale) for side in marks["size_hw"])
    matte = np.zeros((height, width), np.uint8)
    for x, y in marks["points"][:points]:
        matte[round(y * scale) - 1 : round(y * scale) + 2, round(x * scale) - 1 : round(x * scale) + 2] = 255
    return matte


@pytest.fixture
def scored(tmp_path):
    """The result, and the JSON's text, of mattes given by key, on grey photos of their size."""

    def run(mattes):
        (tmp_path / "alphas").mkdir()
        samples = []
        for key, matte in mattes.items():
            cv2.imwrite(str(tmp_path / "alphas" / f"{key}.png"), matte)
            grey = cv2.imencode(".jpg", np.full_like(matte, 128))[1].tobytes()
            people = {"pool": "ccp", "label": "pixel", "split": "val"}
            samples.append(Sample(key=key, jpeg=grey, matte=matte, size_hw=matte.shape, **people))
        write_shards(samples, tmp_path / "data")
        folders = ["--alphas", str(tmp_path / "alphas"), "--data", str(tmp_path / "data")]
        assert evaluate.main([*folders, "--json", str(tmp_path / "out.json")]) == 0
        return json.loads((tmp_path / "out.json").read_text())

    return run


def test_every_photo_has_four_to_eight_marks_and_they_lie_inside_it():
    for key, marks in evaluate.held_points().items():
        points, (height, width) = np.array(marks["points"]), marks["size_hw"]
        assert 4 <= len(points) <= 8, key
        assert (points > 0).all(), key
        assert (points < (width - 1, height - 1)).all(), key
        assert marks["thing"], key


def test_held_is_the_mean_over_photos_of_the_share_of_marks_that_are_kept(scored, capsys):
    result = scored({BAG: kept_at(BAG, points=0), UMBRELLA: kept_at(UMBRELLA, points=3)})
    share = 3 / len(evaluate.held_points()[UMBRELLA]["points"])
    assert result["held"]["shares"] == {BAG: 0, UMBRELLA: pytest.approx(share, abs=1e-5)}
    assert result["held"]["photos"] == 2
    assert result["held"]["mean"] == pytest.approx(share / 2, abs=1e-5)
    assert result["held"]["se"] == pytest.approx(share / 2, abs=1e-5)  # of two values: half their distance
    assert (
        f"Held things: {share / 2:.3f} ± {share / 2:.3f} of the points marked on them are kept, mean over 2 photos"
        in (capsys.readouterr().out)
    )


def test_marks_keep_their_place_on_a_photo_of_another_size(scored):
    assert scored({BAG: kept_at(BAG, points=8, scale=2)})["held"]["mean"] == 1


def test_a_result_without_marked_photos_says_nothing_about_held_things(scored, capsys):
    assert "held" not in scored({"nobody_marked_this": np.full((40, 40), 255, np.uint8)})
    assert "Held things:" not in capsys.readouterr().out


@pytest.mark.shared
def test_marked_photos_are_of_val_or_test_and_of_the_marked_size(shared_data):
    with (shared_data / "index.csv").open(newline="") as lines:
        rows = {line["key"]: line for line in csv.DictReader(lines)}
    marked = evaluate.held_points()
    assert {rows[key]["split"] for key in marked} == {"val", "test"}
    assert all(
        [int(rows[k]["height"]), int(rows[k]["width"])] == marks["size_hw"] for k, marks in marked.items()
    )
