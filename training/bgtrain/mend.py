"""What strokes gain on the photos that a network cuts worst: ``python -m bgtrain mend NETWORK``.

Each mark is placed by a rule: at the centre of the largest wrong part of the cut-out as it stands, a dot
with a radius of a hundredth of the photo's diagonal or the part's own, whichever is less. The worst photos of each pool
are its worst tenth at the network's own resolution, as the default options leave them; people below ``SMALLEST`` of the
photo are left out. ``bgimage.strokes``' own numbers were chosen on ``--split val``.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bgimage import codec, finish
from bgimage.options import Options
from bgimage.strokes import Mark, Stroke
from bgtrain import metrics, tables
from bgtrain.command import command_line
from bgtrain.errors import DataError
from bgtrain.evaluate import SMALLEST, Pipeline, measured_on_photos, true_matte
from bgtrain.expected import answers
from bgtrain.shards import Row, Shards
from bgtrain.statistics import mean_of

Mask = NDArray[np.bool_]
STROKES = 3
RADIUS = 0.01
"""Of the brush, over the photo's diagonal."""


def next_mark(found: Mask, truth: Mask) -> tuple[str, Mark] | None:
    """The option and the mark for the largest wrong part, both bool (H, W); None where nothing is wrong."""
    largest = None
    for field, wrong in (("keep", truth & ~found), ("remove", found & ~truth)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=8)
        if count > 1:
            number = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
            area = int(stats[number, cv2.CC_STAT_AREA])
            if largest is None or area > largest[0]:
                largest = area, field, labels == number
    if largest is None:
        return None
    _, field, part = largest
    depth = cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    radius = min(float(depth.max()), RADIUS * float(np.hypot(*found.shape)))
    return field, Stroke(((float(x) + 0.5, float(y) + 0.5),), round(radius, 1))


def mended(photo: codec.Photo, alpha: NDArray[np.float32], network: Pipeline, truth: Mask) -> list[float]:
    """IoU without a mark, after one, two ...; and, last, where the marks had changed only what they cover."""
    marks: dict[str, list[Any]] = {"keep": [], "remove": []}
    scores: list[float] = []
    painted = np.zeros_like(truth)
    for number in range(STROKES + 1):
        options = Options(output="matte", keep=tuple(marks["keep"]), remove=tuple(marks["remove"]))
        found = finish.finish(photo, alpha, network.contract, options).matte > 127
        if number == 0:
            painted = found.copy()
        scores.append(metrics.iou(found, truth))
        marked = next_mark(found, truth)
        if marked is None:
            scores += scores[-1:] * (STROKES + 1 - len(scores))
            break
        if len(scores) <= STROKES:
            field, mark = marked
            marks[field].append(mark)
            _paint(painted, mark, field == "keep")
    return [*scores, metrics.iou(painted, truth)]


def _paint(found: Mask, mark: Any, value: bool) -> None:
    ((x, y),) = mark.points
    rows, columns = np.ogrid[: found.shape[0], : found.shape[1]]
    found[(rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 <= mark.radius**2] = value


def worst(network: Pipeline, shards: Shards) -> dict[str, list[tuple[Row, NDArray[np.float32]]]]:
    """The worst tenth of each pool and the network's answers."""
    pools: dict[str, list[tuple[float, Row, NDArray[np.float32]]]] = defaultdict(list)
    for row, answer, _, iou in answers(network, shards, empty=False):
        if row.person_fraction >= SMALLEST:
            pools[row.pool].append((iou, row, answer))
    return {
        pool: [
            found[1:]
            for found in sorted(all_of_it, key=lambda one: one[0])[: max(1, round(len(all_of_it) / 10))]
        ]
        for pool, all_of_it in sorted(pools.items())
    }


def report(network: Pipeline, shards: Shards, split: str) -> dict[str, Any]:
    """Mean IoU a pool after each stroke, ready for JSON."""
    names = [f"{n} strokes" for n in range(STROKES + 1)] + [f"{STROKES} strokes, only what they cover"]
    result: dict[str, Any] = {**network.describe(), "split": split, "pools": {}, "raw": []}
    everything = []
    for pool, photos in worst(network, shards).items():
        scores = []
        for row, alpha in photos:
            photo = codec.decode(shards.photo(row.key))
            scores.append(mended(photo, alpha, network, true_matte(shards, row) > 127))
            result["raw"].append([row.key, *(round(score, 5) for score in scores[-1])])
        everything += scores
        result["pools"][pool] = _means(names, scores)
    if not everything:
        raise DataError("no photo of these pools shows people that are large enough; name other pools")
    result["all"] = _means(names, everything)
    return result


def _means(names: list[str], scores: list[list[float]]) -> dict[str, Any]:
    columns = zip(names, zip(*scores, strict=True), strict=True)
    return {"photos": len(scores)} | {name: mean_of(values) for name, values in columns}


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    names = [name for name in result["all"] if name != "photos"]
    rows = [
        [pool, found["photos"], *(f"{found[name]['mean']:.3f}" for name in names)]
        for pool, found in [*result["pools"].items(), ("all", result["all"])]
    ]
    return tables.markdown(["worst tenth of", "photos", *names], rows)


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain mend``."""
    parser = command_line("mend", __doc__)
    parser.add_argument("network", type=Path, help="checkpoint or .onnx")
    return measured_on_photos(parser, report, table, argv)
