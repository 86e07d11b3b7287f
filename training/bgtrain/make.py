"""Make published weights from the data by one command: ``python -m bgtrain make CHAIN.toml --out RUN``.

A chain is a TOML file of stages, each a recipe that begins with the weights of the stage before it, or the mean of two
earlier stages. The last one is settled (batch statistics measured anew), scored on val and test, and published.
A killed chain goes on with the same command. ``WEIGHTS-made.json`` says what was done, for how long, with which scores.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bgtrain import average, checkpoint, evaluate, modnet, recalibrate, relabel, tables, train
from bgtrain.command import command_line, data_option
from bgtrain.errors import DataError
from bgtrain.recipe import Recipe, RecipeError, from_dict, merged, read
from bgtrain.shards import Shards, data_folder

LAST, SETTLED, MADE = "last.pt", "settled.pt", "made.json"


@dataclass(frozen=True)
class Teacher:
    """A matting network whose outlines replace those of coarse polygons (``bgtrain relabel``)."""

    pool: str
    """Photos that it looks at: those of the training split of this pool."""
    command: tuple[str, ...]
    """Program that writes ``OUT/KEY.png`` for each ``PHOTOS/KEY.jpg``; both folders are appended. ``python`` is the
    interpreter that makes the chain."""


@dataclass(frozen=True)
class Stage:
    """A run, or the mean of two."""

    name: str
    """Folder of the stage inside the run's."""
    recipe: Recipe | None = None
    average: tuple[str, ...] = ()
    """Names of two earlier stages."""


@dataclass(frozen=True)
class Chain:
    """Everything that decides what is published."""

    stages: tuple[Stage, ...]
    teacher: Teacher | None = None
    settling_crops: int = 1024
    """Training crops on which the last stage's batch statistics are measured anew."""


def load(path: Path) -> Chain:
    """Read a chain; each ``[[stages]]`` adds to what ``[recipe]`` says for all. ``RecipeError`` names what is wrong."""
    values = read(path, {"recipe", "stages", "teacher", "settling_crops"})
    stages: list[Stage] = []
    for number, stage in enumerate(values.get("stages", ())):
        name = stage.pop("name", f"stage-{number + 1}")
        mean = tuple(stage.pop("average", ()))
        if mean and (stage or len(mean) != 2 or not set(mean) <= {one.name for one in stages}):
            raise RecipeError(f"{path}: stage {name!r}: average takes two earlier stages and nothing else")
        own = merged(values.get("recipe", {}), stage)
        recipe = None if mean else from_dict(own, f"{path}: stage {name!r}")
        stages.append(Stage(name, recipe, mean))
    if not stages or stages[0].recipe is None:
        raise RecipeError(f"{path}: a chain begins with a [[stages]] that trains")
    teacher = values.get("teacher")
    return Chain(
        tuple(stages),
        teacher and Teacher(teacher["pool"], tuple(teacher["command"])),
        values.get("settling_crops", Chain.settling_crops),
    )


def with_teacher_labels(teacher: Teacher, data: Path, out: Path) -> Path:
    """A folder of shards with the teacher's outlines, made below ``out`` where it is not there yet."""
    photos, mattes, made = out / "teacher" / "photos", out / "teacher" / "mattes", out / "data"
    if (made / "index.csv").exists():
        return made
    for folder in (photos, mattes):
        folder.mkdir(parents=True, exist_ok=True)
    with Shards(data, split="train", pools=[teacher.pool]) as shards:
        for row in shards.rows:
            (photos / f"{row.key}.jpg").write_bytes(shards.photo(row.key))
    program = [sys.executable if part == "python" else part for part in teacher.command]
    if subprocess.run([*program, str(photos), str(mattes)], stdout=sys.stderr).returncode:
        raise DataError(f"the teacher failed: {' '.join(teacher.command)}")
    relabel.main([str(mattes), str(made), "--data", str(data)])
    return made


def trained(recipe: Recipe, out: Path, data: Path, start: Path | None, workers: int) -> None:
    """Train a stage to its end; nothing where it has come there."""
    if (out / LAST).exists():
        resume = checkpoint.load(out / LAST).resume
        if resume and resume["step"] >= recipe.steps:
            return
    trainer = train.Trainer(recipe, out, data, train.Process.from_environment(), workers, start)
    report = train.Report(out, recipe.steps, active=True)
    report.say(f"{out.name}: step {trainer.step} of {recipe.steps}, {len(trainer.crops)} photos")
    trainer.run(report)
    trainer.snapshot({}, resumable=True).save(out / LAST)


def record(stage: Stage, out: Path) -> dict[str, Any]:
    """What the log of a stage says: steps, crops, seconds, the last validation."""
    if stage.recipe is None:
        return {"name": stage.name, "average": list(stage.average)}
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    phases = {phase.size: phase.batch for phase in stage.recipe.phases}
    steps, crops, seconds = 0, 0, 0.0
    for line in lines:
        if "images_per_s" in line:
            new = (line["step"] - steps) * phases[line["size"]]
            steps, crops, seconds = line["step"], crops + new, seconds + new / line["images_per_s"]
    return {
        "name": stage.name,
        "steps": steps,
        "crops": crops,
        "seconds": round(seconds),
        "val": next((line["val"] for line in reversed(lines) if "val" in line), None),
        "recipe": json.loads(json.dumps(stage.recipe.to_dict())),
    }


def table(made: dict[str, Any]) -> str:
    """A row a stage of ``WEIGHTS-made.json``, and their sum, as a Markdown table."""
    rows, crops, hours = [], 0, 0.0
    for stage in made["stages"]:
        score = f"{stage['val']['score']:.4f}" if stage.get("val") else ""
        if "average" in stage:
            of = " and ".join(f'"{name}"' for name in stage["average"])
            rows.append([f"{stage['name']}: mean of {of}", "", "", "", score])
            continue
        crops, hours = crops + stage["crops"], hours + stage["seconds"] / 3600
        sizes = ", ".join(str(phase["size"]) for phase in stage["recipe"]["phases"])
        rows.append([stage["name"], sizes, f"{stage['crops']:,}", f"{stage['seconds'] / 3600:.1f}", score])
    rows.append(["together", "", f"{crops:,}", f"{hours:.1f}", ""])
    return tables.markdown(["stage", "pixels", "crops", "hours", "score on val"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m bgtrain make``; exit status 130 where it was interrupted."""
    parser = command_line("make", __doc__)
    parser.add_argument("chain", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing run goes on")
    parser.add_argument("--weights", type=Path, help="publish here; default: RUN/CHAIN.pt")
    parser.add_argument("--results", type=Path, help="folder of the evaluations; default: RUN")
    data_option(parser)
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of the network (0: torch's choice)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that make crops")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    chain, out, root = load(arguments.chain), arguments.out, data_folder(arguments.data)
    weights = arguments.weights or out / f"{arguments.chain.stem}.pt"
    if any(stage.recipe and stage.recipe.modnet for stage in chain.stages):
        modnet.fetch()
    data = with_teacher_labels(chain.teacher, root, out) if chain.teacher else root
    start: Path | None = None
    for stage in chain.stages:
        if stage.recipe is None:
            one, other = (checkpoint.load(out / name / LAST) for name in stage.average)
            average.average(one, other, 0.5).save(out / stage.name / LAST)
        else:
            try:
                trained(stage.recipe, out / stage.name, data, start, arguments.workers)
            except KeyboardInterrupt:
                print(f"stopped in stage {stage.name}; the same command goes on from there", file=sys.stderr)
                return 130
        start = out / stage.name / LAST
    settle = [str(start), str(out / SETTLED), "--data", str(data), "--crops", str(chain.settling_crops)]
    recalibrate.main(settle)
    checkpoint.load(out / SETTLED).published().save(weights)
    for split in ("val", "test"):
        path = (arguments.results or out) / f"{weights.stem}-{split}.json"
        evaluate.main([str(weights), "--split", split, "--data", str(root), "--json", str(path)])
    made = {
        "chain": arguments.chain.name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "teacher": chain.teacher and dataclasses.asdict(chain.teacher),
        "stages": [record(stage, out / stage.name) for stage in chain.stages],
    }
    ((arguments.results or out) / f"{weights.stem}-{MADE}").write_text(json.dumps(made, indent=1) + "\n")
    return 0
