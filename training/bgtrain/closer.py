"""What looking again gains where the first cut-out is doubtful: ``python -m bgtrain closer NETWORK``.

Two ways are tried on every photo whose expected IoU is below ``at_least``: the mean with the answer to the mirrored
photo, and a closer look at the people (``bgimage.closer``). As in the client, an answer counts where its own expected
IoU is higher than the first's. Photos without people in which a person was found count with IoU 0. IoU is that at the
network's own resolution. ``bgimage.closer``'s own numbers were chosen on ``--split val``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bgimage import codec, finish, people
from bgimage.closer import Closer
from bgimage.options import Options
from bgtrain import metrics, tables
from bgtrain.command import command_line
from bgtrain.errors import DataError
from bgtrain.evaluate import Pipeline, measured_on_photos, true_matte
from bgtrain.expected import answers
from bgtrain.shards import Shards
from bgtrain.statistics import mean_of

LIMITS = (0.8, 0.9)
"""Values of ``at_least`` that are reported."""
WAYS = ("first", "mirrored", "closer")
Scores = dict[str, tuple[float, float]]
"""Expected and true IoU, by way."""


def looked_at(
    photo: codec.Photo, first: NDArray[np.float32], truth: NDArray[np.bool_], network: Pipeline
) -> Scores:
    """Every way's expected and true IoU; ``truth``, bool (h, w), has the size of the photo in the network's picture."""
    contract, options = network.contract, Options()
    ways = {"first": first, "mirrored": (first + network.mirrored_alpha(photo)) / np.float32(2)}
    closer = Closer.on(photo, finish.meant(photo, first, contract, options)[0])
    if closer is not None:
        ways["closer"] = closer.whole(network.network_alpha(closer.photo), photo.size_hw, contract)
    scores = {}
    for way, alpha in ways.items():
        small, hoped = finish.meant(photo, alpha, contract, options)
        scores[way] = hoped, metrics.iou(small > people.INSIDE, truth)
    return scores


def report(network: Pipeline, shards: Shards, split: str) -> dict[str, Any]:
    """Means by ``at_least`` and by way, ready for JSON."""
    found: list[tuple[str, Scores]] = []
    photos = 0
    for row, first, small, _ in answers(network, shards, empty=True):
        photos += 1
        photo = codec.decode(shards.photo(row.key))
        if 0 < finish.meant(photo, first, network.contract, Options())[1] < max(LIMITS):
            truth = cv2.resize(true_matte(shards, row), small.shape[::-1], interpolation=cv2.INTER_AREA)
            found.append((row.key, looked_at(photo, first, truth > 127, network)))
    if not found:
        raise DataError(f"split {split}: no photo has a cut-out with an expected IoU below {max(LIMITS)}")
    limits = {}
    for limit in LIMITS:
        below = [scores for _, scores in found if scores["first"][0] < limit]
        limits[f"{limit:g}"] = {"photos": len(below)} | {way: _gain(way, below, limit) for way in WAYS[1:]}
        limits[f"{limit:g}"]["first"] = _means(scores["first"][1] for scores in below)
    raw = [[key, *(round(v, 5) for way in WAYS if way in s for v in s[way])] for key, s in found]
    return {**network.describe(), "split": split, "photos": photos, "at_least": limits, "raw": raw}


def _gain(way: str, below: list[Scores], limit: float) -> dict[str, Any]:
    """What ``way`` gives where it is taken when it is surer than the first look."""
    taken = [max(s["first"], s.get(way, s["first"]), key=lambda one: one[0]) for s in below]
    reached = [(s["first"][1], *one) for s, one in zip(below, taken, strict=True) if one[0] >= limit]
    result = {
        "iou": _means(iou for _, iou in taken),
        "gain": _means(one[1] - s["first"][1] for s, one in zip(below, taken, strict=True)),
        "reach it": len(reached),
    }
    for number, name in enumerate(("first", "expected", "iou")):
        result[f"of these, {name}"] = _means(one[number] for one in reached)
    return result


def _means(values: Iterable[float]) -> dict[str, float]:
    kept = list(values)
    return mean_of(kept) if kept else {}


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    head = ["`at_least`", "photos below it", "way", "mean IoU, first look", "the surer of both"]
    head += ["photos that reach it", "their IoU, first look", "expected", "true"]
    rows = []
    for limit, found in result["at_least"].items():
        for way in WAYS[1:]:
            one = found[way]
            cells = [limit, found["photos"], way, _cell(found["first"]), _cell(one["iou"]), one["reach it"]]
            cells += [_cell(one.get(f"of these, {name}")) for name in ("first", "expected", "iou")]
            rows.append(cells)
    return tables.markdown(head, rows)


def _cell(value: dict[str, float] | None) -> str:
    return f"{value['mean']:.3f}" if value else ""


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain closer``."""
    parser = command_line("closer", __doc__)
    parser.add_argument("network", type=Path, help="checkpoint or .onnx")
    return measured_on_photos(parser, report, table, argv)
