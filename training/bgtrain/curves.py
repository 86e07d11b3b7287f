"""One picture of how runs went: ``python -m bgtrain curves RUN...``, loss and validation scores over the crops."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bgtrain.errors import BrokenData, existing

SCORES = ("score", "ccp", "vikram_humanseg", "people_pseudo", "coco_20_70", "false_area")


def read_log(run: Path) -> list[dict[str, Any]]:
    """The records of ``run/log.jsonl``; where a run went on from a checkpoint, the later of what was done twice."""
    path = existing(run / "log.jsonl", "log of a run")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            record = json.loads(line)
            place = record["step"], "val" in record
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise BrokenData(f"{path}, line {number} is no record of a run: {error}") from error
        while records and (records[-1]["step"], "val" in records[-1]) >= place:
            records.pop()
        records.append(record)
    return records


def plot(runs: list[Path], out: Path) -> None:
    """Write the picture: the loss on the left, each score on the right, a colour a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    styles = dict(zip(SCORES, ("-", "--", "-.", ":", (0, (1, 4)), (0, (6, 4))), strict=True))
    for number, run in enumerate(runs):
        records, colour = read_log(run), f"C{number}"
        lines = [r for r in records if "loss" in r]
        losses.plot([r["step"] for r in lines], [r["loss"] for r in lines], colour, label=run.name)
        lines = [r for r in records if "val" in r]
        for name, style in styles.items():
            points = [(r["step"], r["val"][name]) for r in lines if name in r["val"]]
            if points:
                scores.plot(*zip(*points, strict=True), color=colour, linestyle=style, marker=".", label=name)
    losses.set(xlabel="step", ylabel="loss", yscale="log")
    scores.set(xlabel="step", ylabel="mean IoU; false area", ylim=(0, 1))
    losses.legend()
    handles = dict(zip(*reversed(scores.get_legend_handles_labels()), strict=True))
    scores.legend(handles.values(), handles.keys(), fontsize="small")
    figure.savefig(out, dpi=120)


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain curves``."""
    parser = argparse.ArgumentParser(prog="python -m bgtrain curves", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    args = parser.parse_args(argv)
    plot(args.runs, args.out)
    print(args.out)
    return 0
