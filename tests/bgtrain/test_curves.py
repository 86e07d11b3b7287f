"""The curves of runs, also of one that was killed and went on."""

import json

import cv2
import pytest

from bgtrain import curves
from bgtrain.errors import BrokenData, MissingData


def log(folder, *records):
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_what_was_done_twice_is_drawn_once(tmp_path):
    run = log(
        tmp_path / "run",
        {"step": 50, "loss": 3.0},
        {"step": 100, "loss": 2.0},
        {"step": 150, "loss": 9.0},
        {"step": 100, "loss": 2.5},
        {"step": 150, "loss": 1.0},
        {"step": 150, "val": {"score": 0.5}},
    )
    found = [(record["step"], record.get("loss")) for record in curves.read_log(run)]
    assert found == [(50, 3.0), (100, 2.5), (150, 1.0), (150, None)]


def test_loss_and_scores_of_two_runs_are_one_picture(tmp_path, capsys):
    runs = [
        log(
            tmp_path / name,
            *({"step": step, "loss": 2 / step} for step in (50, 100)),
            {"step": 100, "val": {"score": 0.5, "ccp": 0.6, "false_area": 0.1}},
        )
        for name in ("one", "other")
    ]
    out = tmp_path / "curves.png"
    assert curves.main([*map(str, runs), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 1000
    assert picture.std() > 5  # something is drawn


def test_a_folder_without_a_log_and_a_broken_log_are_named(tmp_path):
    with pytest.raises(MissingData, match="log of a run"):
        curves.read_log(tmp_path)
    run = log(tmp_path / "run", {"step": 1, "loss": 1.0})
    (run / "log.jsonl").write_text('{"loss": 1}\n')
    with pytest.raises(BrokenData, match="line 1"):
        curves.read_log(run)
