"""One Markdown table of several evaluations: ``python -m bgtrain compare A.json B.json ...``.

The first one is what the others are compared with, photo by photo: the difference of two networks on the same photos is
known far better than either score. ``compare --train RECIPE`` trains all networks under one equal budget instead, and
``compare --levers FILE`` one network with each change of its recipe (``bgtrain.equal``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bgtrain import tables
from bgtrain.command import command_line, data_option
from bgtrain.errors import BrokenData, DataError, existing
from bgtrain.evaluate import groups
from bgtrain.metrics import MEASURES
from bgtrain.shards import data_folder
from bgtrain.statistics import mean_of, with_error

GROUPS = ("ccp", "vikram_humanseg", "people_pseudo", "<= 3 people, 20-70 %", "coco_person", "pennfudan")
"""Pools and slices that get a column, where they were evaluated."""
RIVALS = (
    *("tiramisu", "tiramisu-large", "fc-densenet56", "fc-densenet67", "fc-densenet103"),
    *("fcn32s", "fcn16s", "fcn8s", "unet-32"),
)
"""Networks that ``--train`` trains where none are named."""
IOU = 1 + MEASURES.index("iou")
"""Index of the IoU in a raw line, which begins with the key."""


def read_result(path: Path) -> dict[str, Any]:
    """What ``evaluate --json`` wrote; ``BrokenData`` where it is something else."""
    try:
        result = json.loads(existing(path, "evaluation").read_text(encoding="utf-8"))
        missing = {"split", "pools", "slices", "raw"} - set(result)
    except (json.JSONDecodeError, TypeError) as error:
        raise BrokenData(f"{path} is not an evaluation: {error}") from error
    if missing:
        raise BrokenData(f"{path} is not an evaluation: it lacks {', '.join(sorted(missing))}")
    return dict(result)


def gain(result: dict[str, Any], over: dict[str, Any]) -> tuple[float, float, int]:
    """Mean difference of the IoU on the people photos both were scored on, its standard error, and their number."""
    base = {line[0]: line[IOU] for line in over["raw"]}
    empty = tuple(name for name, pool in result["pools"].items() if "iou" not in pool)
    pairs = [
        (line[IOU], base[line[0]])
        for line in result["raw"]
        if line[0] in base and not line[0].startswith(empty)
    ]
    if not pairs:
        raise DataError("the evaluations share no photo of people; evaluate them on the same split")
    ours, theirs = np.array(pairs).T
    difference = mean_of(ours - theirs)
    return difference["mean"], difference["se"], len(pairs)


def markdown(names: Sequence[str], results: Sequence[dict[str, Any]]) -> str:
    """IoU / boundary IoU by group, false area, and the paired gain over the first."""
    if len({result["split"] for result in results}) > 1:
        raise DataError("the evaluations are of different splits; compare like with like")
    found = [groups(result) for result in results]
    shown = [group for group in GROUPS if all(group in one for one in found)]
    head = ["", *shown, "area marked without people", "IoU against the first"]
    rows = []
    for name, result, summaries in zip(names, results, found, strict=True):
        cells = [name]
        for group in shown:
            iou, boundary = summaries[group]["iou"], summaries[group]["boundary_iou"]
            cells.append(f"{with_error(iou)} / {boundary['mean']:.3f}")
        empty = summaries.get("no people")
        cells.append(with_error(empty["marked"], ".2%") if empty else "")
        mean, spread, photos = gain(result, results[0])
        cells.append("" if result is results[0] else f"{mean:+.4f} ± {spread:.4f} ({photos} photos)")
        rows.append(cells)
    return tables.markdown(head, rows)


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain compare``."""
    parser = command_line("compare", __doc__)
    parser.add_argument("results", type=Path, nargs="*", help="JSON of python -m bgtrain evaluate")
    training = parser.add_argument_group("training under one equal budget")
    training.add_argument(
        "--train", type=Path, metavar="RECIPE", help="networks by this recipe, but for time and size"
    )
    training.add_argument("--networks", nargs="+", default=RIVALS, help=f"default: {', '.join(RIVALS)}")
    training.add_argument(
        "--levers", type=Path, metavar="FILE", help="changes of one recipe ([recipe], [[levers]])"
    )
    training.add_argument("--only", nargs="+", metavar="LEVER", help="these of the file, and its first")
    training.add_argument("--minutes", type=float, default=3.0, help="of training each")
    training.add_argument("--size", type=int, default=128, help="pixels of crops and input")
    training.add_argument("--batch", type=int, default=8)
    training.add_argument(
        "--out", type=Path, default=Path("equal.json"), help="JSON; the table goes beside it"
    )
    training.add_argument("--threads", type=int, default=0)
    training.add_argument("--workers", type=int, default=1)
    data_option(training)
    args = parser.parse_args(argv)
    if args.train or args.levers:
        return _train(args)
    if not args.results:
        parser.error("name evaluations to compare, --train RECIPE or --levers FILE")
    print(markdown([path.stem for path in args.results], [read_result(path) for path in args.results]))
    return 0


def _train(args: argparse.Namespace) -> int:
    import torch  # tables of evaluations do without

    from bgtrain import equal, recipe

    if args.threads:
        torch.set_num_threads(args.threads)
    budget, root = equal.Budget(args.minutes, args.size, args.batch), data_folder(args.data)
    if args.levers:
        levers = equal.read_levers(args.levers, budget)
        if unknown := set(args.only or ()) - set(levers):
            raise DataError(f"{args.levers} has no {sorted(unknown)}; it has {sorted(levers)}")
        first = next(iter(levers))  # with which the others are compared
        runs = {name: one for name, one in levers.items() if not args.only or name in (first, *args.only)}
        split, table_of = "val", equal.levers_markdown
    else:
        base = recipe.load(args.train)
        runs, split = {name: equal.recipe_for(name, base, budget) for name in args.networks}, "test"
        table_of = equal.markdown
    table = table_of(equal.train_equally(runs, budget, root, args.out, split, workers=args.workers))
    args.out.with_suffix(".md").write_text(table)
    print(table)
    return 0
