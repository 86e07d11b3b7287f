"""The figures on the pages, written from the committed results: ``python -m bgtrain publish RESULT``.

``RESULT`` is an evaluation on the test split; its scores go to README and model card. With ``--before`` the model card
also says what changed since another network, photo by photo on the same photos. What ``expected``, ``mend`` and
``closer`` measured goes to docs/pixels.md, and the runs that made the weights to the model card. The tables lie
between two marks; people write the prose around them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bgtrain import closer, expected, make, mend, tables
from bgtrain.command import command_line
from bgtrain.compare import read_result
from bgtrain.errors import DataError
from bgtrain.evaluate import groups, held_things, targets_table
from bgtrain.metrics import MEASURES
from bgtrain.statistics import resampled, with_error

ROOT = expected.ROOT
BEGIN, END = "<!-- scores: written by python -m bgtrain publish -->", "<!-- end of scores -->"

README_ROWS = {
    "ccp": "street fashion, full body (ccp, {})",
    "vikram_humanseg": "portraits and groups (vikram_humanseg, {})",
    "people_pseudo": "portraits, sport, street (people_pseudo, {})",
    "people_cutout": "people before other backgrounds, exact alpha (people_cutout, {})",
    "pennfudan": "pedestrians (pennfudan, {})",
    "<= 3 people, 20-70 %": "COCO, at most 3 people who cover 20-70 % ({})",
    "20-70 % people": "COCO, people cover 20-70 % ({})",
}
"""Pools and slices that README shows, and what it calls them."""
CARD_NAMES = {
    "20-70 % people": "coco_person, people cover 20-70 %",
    "<= 3 people, 20-70 %": "the same, at most 3 people",
    "no people": "photos without people",
    "animals": "of these: animals",
    "no people, no animals": "of these: neither people nor animals",
}
"""What the model card calls slices whose own name says too little."""
COMPARED = {"iou": 3, "boundary_iou": 3, "ghost": 4, "mae": 4}
"""Measures that are compared with the network before, and their digits."""
DRAWS = 2000
MEASURED = {
    "expected": ("docs/pixels.md", expected.table, "expected-iou.json"),
    "mend": ("docs/pixels.md", mend.table, "mend-test.json"),
    "closer": ("docs/pixels.md", closer.table, "closer-val.json"),
    "stages": ("docs/model-card.md", make.table, "tiramisu-made.json"),
}
"""Other tables: their marks, on which page, what makes them, and of which result."""


def readme(result: dict[str, Any]) -> str:
    """A row a group: photos, IoU, boundary IoU; then the area that is marked on photos without people."""
    found = groups(result)
    rows = [
        [name.format(found[group]["photos"]), _mean(found[group]["iou"]), _mean(found[group]["boundary_iou"])]
        for group, name in README_ROWS.items()
    ]
    empty, table = found["no people"], tables.markdown(["photos", "IoU", "boundary IoU"], rows)
    marked = f"it marks {empty['marked']['mean']:.1%} of the area on average."
    return f"{table}\n\nOn {empty['photos']} photos without people, {marked}\n"


def card(result: dict[str, Any]) -> str:
    """Every pool and slice, the photos without people, and the targets."""
    people, empty = [], []
    for group, found in groups(result).items():
        name, photos = CARD_NAMES.get(group, group), str(found["photos"])
        if "iou" in found:
            cells = [with_error(found["iou"]), _mean(found["iou_worst_tenth"]), _mean(found["boundary_iou"])]
            cells += [f"{found['ghost']['mean']:.2%}", f"{found['mae']['mean']:.4f}"]
            people.append([name, photos, *cells])
        elif group in result["slices"]:
            area = with_error(found["marked"], ".2%")
            empty.append([name, photos, area, f"{found['marked_over_1_percent']['mean']:.0%}"])
    head = ["photos", "n", "IoU at 0.5", "of the worst tenth", "boundary IoU", "ghost", "mean absolute error"]
    empty_head = ["photos", "n", "area marked as a person", "photos with more than 1 % marked"]
    parts = [tables.markdown(head, people), tables.markdown(empty_head, empty)]
    parts.append(targets_table(result["targets"]))
    if held := result.get("held"):
        parts.append(held_things(held))
    return "\n\n".join(parts) + "\n"


def change(result: dict[str, Any], before: dict[str, Any]) -> str:
    """What changed since another network: means of both, and a 95 % interval of the difference.

    The interval comes from resampling the photos (paired bootstrap). ``DataError`` where the photos are not the same.
    """
    ours, theirs = ({line[0]: line[1:] for line in one["raw"]} for one in (result, before))
    if set(ours) != set(theirs):
        raise DataError("the evaluations are of different photos; evaluate both on the same split")
    members = {pool: [key for key in ours if key.startswith(pool + "_")] for pool in result["pools"]}
    members |= {
        name: result["members"][name] for name in ("20-70 % people", "<= 3 people, 20-70 %", "no people")
    }
    rows = []
    for group, keys in members.items():
        peopled = "iou" in groups(result)[group]
        if not peopled and group != "no people":
            continue
        cells = []
        for measure, digits in (COMPARED if peopled else {"marked": 4}).items():
            place = MEASURES.index(measure)
            pairs = np.array([(theirs[key][place], ours[key][place]) for key in keys])
            cells.append(_difference(pairs, digits))
        if not peopled:
            cells = ["", "", "", *cells]
        name = CARD_NAMES.get(group, group) + ("" if peopled else ": area marked")
        rows.append([name, str(len(keys)), *cells])
    head = ["photos", "n", "IoU", "boundary IoU", "ghost", "mean absolute error"]
    return tables.markdown(head, rows) + "\n"


def _difference(pairs: np.ndarray[Any, Any], digits: int) -> str:
    differences = pairs[:, 1] - pairs[:, 0]
    drawn = differences[resampled(len(pairs), DRAWS)].mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    old, new = pairs.mean(0)
    return f"{old:.{digits}f} → {new:.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def publish(result: dict[str, Any], before: dict[str, Any] | None, *, root: Path) -> None:
    """Write the tables of ``README.md``, ``docs/model-card.md`` and ``docs/pixels.md`` under ``root``."""
    text = card(result)
    if before is not None:
        said = "The network that was served before → this one, and a 95 % interval of the difference:"
        text += f"\n{said}\n\n{change(result, before)}"
    for page, scores in (("README.md", readme(result)), ("docs/model-card.md", text)):
        tables.replace_between(root / page, BEGIN, END, f"\n{scores}\n")
    for name, (page, table, file) in MEASURED.items():
        measured = json.loads((root / "training/results" / file).read_text(encoding="utf-8"))
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        tables.replace_between(root / page, begin, end, f"{table(measured)}\n")


def _mean(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f}"


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain publish``."""
    parser = command_line("publish", __doc__)
    parser.add_argument("result", type=Path, help="JSON of python -m bgtrain evaluate --split test")
    parser.add_argument("--before", type=Path, help="the same of the network that was served before")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose pages are written")
    args = parser.parse_args(argv)
    publish(read_result(args.result), read_result(args.before) if args.before else None, root=args.root)
    return 0
