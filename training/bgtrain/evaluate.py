"""Score a network, or any tool's alphas, on labelled photos: ``python -m bgtrain evaluate NETWORK``.

The network runs behind the pre- and post-processing that serves it (``bgimage``), so the figures are those of
the product. Choices are made on ``--split val``; figures that are quoted come from ``--split test``.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from bgimage import codec, finish, geometry, runtimes
from bgimage.arrays import eight_bits
from bgimage.contract import Contract
from bgimage.options import Options
from bgtrain import metrics, sheets, tables
from bgtrain.command import command_line, data_option
from bgtrain.errors import BrokenData, DataError, existing
from bgtrain.metrics import Alpha, Scores
from bgtrain.shards import PERSON_LABELS, Row, Shards, data_folder
from bgtrain.slices import ORDER, slices_of
from bgtrain.statistics import mean_of, resampled, with_error

COCO_JSON = "coco_instances_person.json"
MARKED_LIMIT = 0.01
"""A photo without people counts as failed when more than this share of it is marked."""
SMALLEST = 0.02
"""Share of the photo below which people are too small to be cut out."""
EDGES = ("none", "fast")


class MatteSource(Protocol):
    """A network or a folder: gives the matte of a photo."""

    def alpha(self, key: str, photo: bytes) -> Alpha:
        """float32 (H, W) in [0, 1], at the photo's size."""

    def describe(self) -> dict[str, Any]:
        """What it is, for the result's JSON."""


class Pipeline:
    """A checkpoint or an ONNX file behind the serving pre- and post-processing.

    ``edges`` is the option of that name (``bgimage.options``); ``None``: what the server does by default.
    """

    def __init__(self, path: Path, *, threads: int = 2, edges: str | None = None) -> None:
        self.path = existing(path, "network")
        self.threads = threads
        load = _onnx if path.suffix == ".onnx" else _checkpoint
        self.contract, self._infer = load(path, threads)
        self._options = Options(output="matte") if edges is None else Options(output="matte", edges=edges)

    def network_alpha(self, photo: codec.Photo) -> Alpha:
        """float32 (S, S) in [0, 1]: the network's own answer, letterbox and all."""
        return self._infer(geometry.network_input(photo, self.contract)[None])[0, 0]

    def mirrored_alpha(self, photo: codec.Photo) -> Alpha:
        """``network_alpha`` of the mirrored photo, turned back."""
        mirrored = np.ascontiguousarray(photo.pixels[:, ::-1])
        return self.network_alpha(dataclasses.replace(photo, pixels=mirrored))[:, ::-1]

    def alpha(self, key: str, photo: bytes) -> Alpha:
        """float32 (H, W) in [0, 1]: what the server would send, 8-bit steps and all."""
        decoded = codec.decode(photo)
        return self.finished(decoded, self.network_alpha(decoded))

    def finished(self, photo: codec.Photo, alpha: Alpha) -> Alpha:
        """``network_alpha``'s answer as the server would send it: float32 (H, W) in [0, 1]."""
        return as_alpha(finish.finish(photo, alpha, self.contract, self._options).matte)

    def describe(self) -> dict[str, Any]:
        """File, hash and contract."""
        return {
            "network": self.path.name,
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "contract": self.contract.fingerprint,
            "size_hw": list(self.contract.size_hw),
            "edges": self._options.edges,
            "threads": self.threads,
        }


def _onnx(path: Path, threads: int) -> tuple[Contract, Callable[[NDArray[np.uint8]], Alpha]]:
    session = runtimes.session(path, threads=threads)
    text = session.get_modelmeta().custom_metadata_map.get("contract")
    if text is None:
        raise BrokenData(f"{path} carries no contract in its metadata; export it with python -m bgexport")
    contract = Contract.from_json(text)

    def infer(image: NDArray[np.uint8]) -> Alpha:
        (alpha,) = session.run([contract.output_tensor], {contract.input_tensor: image})
        return np.asarray(alpha, np.float32)

    return contract, infer


def _checkpoint(path: Path, threads: int) -> tuple[Contract, Callable[[NDArray[np.uint8]], Alpha]]:
    import torch

    from bgtrain import checkpoint, networks

    torch.set_num_threads(threads)
    loaded = checkpoint.load(path)
    served = networks.ServedModule(loaded.model(), loaded.contract)

    @torch.inference_mode()
    def infer(image: NDArray[np.uint8]) -> Alpha:
        return np.asarray(served(torch.from_numpy(image)).numpy(), np.float32)

    return loaded.contract, infer


class AlphaFolder:
    """Mattes that another tool wrote: ``KEY.png``, grey or with an alpha channel, of any size."""

    def __init__(self, folder: Path) -> None:
        self.folder = existing(folder, "folder of alphas")

    def alpha(self, key: str, photo: bytes) -> Alpha:
        """float32 (H, W) in [0, 1]; stretched to the photo where the tool wrote another size."""
        path = existing(self.folder / f"{key}.png", f"alpha for {key}")
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if read is None:
            raise BrokenData(f"{path} cannot be decoded")
        if read.ndim == 3:
            read = read[..., 3] if read.shape[2] == 4 else cv2.cvtColor(read, cv2.COLOR_BGR2GRAY)
        height, width = codec.probe(photo, codec.Limits()).size_hw
        alpha = as_alpha(read)
        if alpha.shape != (height, width):
            alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)
        return alpha

    def describe(self) -> dict[str, Any]:
        """The folder's name."""
        return {"alphas": self.folder.name}


def as_alpha(matte: NDArray[Any]) -> Alpha:
    """float32 in [0, 1] from uint8, uint16 or float."""
    top = np.iinfo(matte.dtype).max if np.issubdtype(matte.dtype, np.integer) else 1
    return np.asarray(matte, np.float32) / np.float32(top)


@dataclass(frozen=True)
class ScoredPhoto:
    """One photo and its errors."""

    key: str
    pool: str
    label: str
    slices: tuple[str, ...]
    scores: Scores
    bins: NDArray[np.float64] = field(repr=False)
    """For the calibration error (``metrics.calibration_bins``)."""
    held: float | None = None
    """Share of the points on held things that the matte keeps (``held_share``)."""

    @property
    def error(self) -> float:
        """0 (perfect) .. 1, by which the worst are picked: 1 - IoU; without people, the share that is marked."""
        return 1 - self.scores.iou if self.label in PERSON_LABELS else self.scores.marked


@dataclass(frozen=True)
class Target:
    """A figure that the served network is to reach."""

    name: str
    group: str
    """Pool, or slice of ``coco_person`` or of the photos without people."""
    measure: str
    limit: float

    def met(self, value: float) -> bool:
        """Whether ``value`` keeps the limit."""
        return value <= self.limit if self.measure == "marked" else value >= self.limit


TARGETS = (
    Target("ccp", "ccp", "iou", 0.96),
    Target("ccp, boundary IoU", "ccp", "boundary_iou", 0.86),
    Target("vikram_humanseg", "vikram_humanseg", "iou", 0.935),
    Target("vikram_humanseg, boundary IoU", "vikram_humanseg", "boundary_iou", 0.73),
    Target("people_pseudo", "people_pseudo", "iou", 0.975),
    Target("people_pseudo, boundary IoU", "people_pseudo", "boundary_iou", 0.88),
    Target("pennfudan", "pennfudan", "iou", 0.86),
    Target("COCO, people cover 20-70 %", "20-70 % people", "iou", 0.81),
    Target("COCO, people cover 20-70 %, boundary IoU", "20-70 % people", "boundary_iou", 0.52),
    Target("COCO, at most 3 people who cover 20-70 %", "<= 3 people, 20-70 %", "iou", 0.86),
    Target("area marked on photos without people", "no people", "marked", 0.005),
)


def score_photos(
    source: MatteSource,
    shards: Shards,
    *,
    parts: dict[str, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[ScoredPhoto]:
    """Every photo of ``shards``, scored at its own size."""
    scored = []
    for number, row in enumerate(shards.rows):
        alpha, truth = source.alpha(row.key, shards.photo(row.key)), true_matte(shards, row)
        if alpha.shape != truth.shape:
            raise DataError(f"{row.key}: matte of {alpha.shape} for a photo whose truth is {truth.shape}")
        real = as_alpha(truth)
        scored.append(
            ScoredPhoto(
                row.key,
                row.pool,
                row.label,
                slices_of(row, truth, parts),
                metrics.score(alpha, real),
                metrics.calibration_bins(alpha, real),
                held_share(row.key, alpha),
            )
        )
        if progress is not None:
            progress(number + 1, len(shards.rows))
    return scored


def true_matte(shards: Shards, row: Row) -> NDArray[np.uint8]:
    """uint8 (H, W): the label; all zero in a photo without people."""
    matte = shards.matte(row.key) if row.label in PERSON_LABELS else None
    return np.zeros((row.height, row.width), np.uint8) if matte is None else matte


@cache
def held_points() -> dict[str, dict[str, Any]]:
    """By photo: the ``thing`` that a person holds, ``size_hw``, and ``points`` (x, y) on it, in pixels at that size."""
    text = resources.files("bgtrain").joinpath("held_points.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def held_share(key: str, alpha: Alpha) -> float | None:
    """Share (0..1) of the photo's ``held_points`` that ``alpha``, of any size, keeps; ``None`` without points."""
    if (marks := held_points().get(key)) is None:
        return None
    scale = np.divide(alpha.shape, marks["size_hw"])[::-1]
    x, y = ((np.array(marks["points"]) + 0.5) * scale).astype(int).T
    return float(metrics.mask_of(alpha)[y, x].mean())


def polygon_parts(folder: Path) -> dict[str, int]:
    """Per COCO photo, the most polygons any one person is drawn with; above 1, something is in front."""
    path = folder / COCO_JSON
    if not path.exists():
        return {}
    coco = json.loads(path.read_text(encoding="utf-8"))
    keys = {image["id"]: Path(image["file_name"]).stem for image in coco["images"]}
    parts: dict[str, int] = defaultdict(int)
    for annotation in coco["annotations"]:
        key = keys[annotation["image_id"]]
        parts[key] = max(parts[key], len(annotation["segmentation"]))
    return dict(parts)


def summarise(scored: list[ScoredPhoto]) -> dict[str, Any]:
    """Means and standard errors of one group of photos, ready for JSON."""
    summary: dict[str, Any] = {"photos": len(scored)}
    peopled = scored[0].label in PERSON_LABELS
    for measure in metrics.MEASURES if peopled else ("marked", "mae", "sad", "ghost"):
        summary[measure] = mean_of(getattr(one.scores, measure) for one in scored)
    if peopled:
        worst = sorted(one.scores.iou for one in scored)[: max(1, round(len(scored) / 10))]
        summary["iou_worst_tenth"] = mean_of(worst)
    if not peopled:
        failed = [float(one.scores.marked > MARKED_LIMIT) for one in scored]
        summary["marked_over_1_percent"] = mean_of(failed)
    bins = np.stack([one.bins for one in scored])
    summary["calibration"] = {
        "mean": round(metrics.calibration_error(bins.sum(axis=0)), 5),
        "se": round(_bootstrap_se(bins), 5),
    }
    return summary


def _bootstrap_se(bins: NDArray[np.float64], draws: int = 200) -> float:
    """Standard error of the calibration error, which is not a mean over photos, from resampling the photos."""
    drawn = resampled(len(bins), draws)
    return float(np.std([metrics.calibration_error(bins[draw].sum(axis=0)) for draw in drawn]))


def report(scored: list[ScoredPhoto], source: MatteSource, *, split: str, seconds: float) -> dict[str, Any]:
    """The whole result: pools, slices, held things, targets, and every photo's raw errors."""
    pools: dict[str, list[ScoredPhoto]] = defaultdict(list)
    slices: dict[str, list[ScoredPhoto]] = defaultdict(list)
    for one in scored:
        pools[one.pool].append(one)
        for name in one.slices:
            slices[name].append(one)
    result: dict[str, Any] = {
        **source.describe(),
        "split": split,
        "photos": len(scored),
        "seconds_per_photo": round(seconds / max(1, len(scored)), 4),
        "pools": {name: summarise(pools[name]) for name in sorted(pools)},
        "slices": {name: summarise(slices[name]) for name in ORDER if name in slices},
    }
    if held := {one.key: round(one.held, 5) for one in scored if one.held is not None}:
        result["held"] = {"photos": len(held), **mean_of(held.values()), "shares": held}
    result["members"] = {name: [one.key for one in group] for name, group in slices.items()}
    result["targets"] = [
        {
            "name": target.name,
            "measure": target.measure,
            "limit": target.limit,
            **found[target.measure],
            "met": target.met(found[target.measure]["mean"]),
        }
        for target in TARGETS
        if (found := groups(result).get(target.group))
    ]
    result["raw"] = [
        [one.key, *(round(getattr(one.scores, measure), 5) for measure in metrics.MEASURES)] for one in scored
    ]
    return result


COLUMNS = {
    "iou": ("IoU", ".3f"),
    "iou_worst_tenth": ("worst tenth", ".3f"),
    "boundary_iou": ("boundary IoU", ".3f"),
    "ghost": ("ghost", ".2%"),
    "mae": ("MAE", ".4f"),
    "sad": ("SAD", ".2f"),
    "mse": ("MSE", ".2f"),
    "gradient": ("gradient", ".2f"),
    "connectivity": ("connectivity", ".2f"),
    "calibration": ("ECE", ".3f"),
}
"""Measure to title and format, of groups with people,"""
EMPTY_COLUMNS = {
    "marked": ("area marked", ".2%"),
    "marked_over_1_percent": ("photos with more than 1 % marked", ".1%"),
    "mae": COLUMNS["mae"],
    "calibration": COLUMNS["calibration"],
}
"""and of groups without."""


def groups(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Summaries of all pools, then all slices, by name."""
    return {**result["pools"], **result["slices"]}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: pools and slices with people, those without, held things, targets."""
    people = {name: found for name, found in groups(result).items() if "iou" in found}
    empty = {name: found for name, found in groups(result).items() if "iou" not in found}
    parts = [
        f"{result.get('network', result.get('alphas'))}, split {result['split']}, {result['photos']} photos; "
        "mean ± standard error of the mean over photos"
    ]
    for title, members, columns in (
        ("photos", people, COLUMNS),
        ("no people in the photo", empty, EMPTY_COLUMNS),
    ):
        rows = [
            [
                name,
                found["photos"],
                *(with_error(found[measure], form) for measure, (_, form) in columns.items()),
            ]
            for name, found in members.items()
        ]
        if rows:
            parts.append(tables.markdown([title, "n", *(head for head, _ in columns.values())], rows))
    if held := result.get("held"):
        parts.append(held_things(held))
    if result["targets"]:
        parts.append(targets_table(result["targets"]))
    return "\n\n".join(parts)


def held_things(held: dict[str, Any]) -> str:
    """What a result's ``held`` says, in a sentence."""
    kept = f"{with_error(held)} of the points marked on them are kept, mean over {held['photos']} photos"
    return f"Held things: {kept}."


def targets_table(targets: list[dict[str, Any]]) -> str:
    """A result's ``targets``, their limits, and what was reached, as Markdown."""
    rows = []
    for target in targets:
        if target["measure"] == "marked":
            limit, reached = f"<= {target['limit']:.1%}", f"{target['mean']:.2%}"
        else:
            limit, reached = f">= {target['limit']:.3g}", f"{target['mean']:.3f}"
        rows.append([target["name"], limit, reached, "yes" if target["met"] else "no"])
    return tables.markdown(["target", "limit", "reached", "met"], rows)


def worst_sheet(
    scored: list[ScoredPhoto], source: MatteSource, shards: Shards, *, count: int = 20, panel: int = 200
) -> NDArray[np.uint8]:
    """RGB sheet of the worst photos: photo, cut-out on green, errors (red missed, blue marked falsely).

    People too small to be cut out (below ``SMALLEST`` of the photo) are left out: they would fill the sheet.
    """
    rows = {row.key: row for row in shards.rows}
    cells = []
    shown = [
        one for one in scored if one.label not in PERSON_LABELS or rows[one.key].person_fraction >= SMALLEST
    ]
    for one in sorted(shown, key=lambda one: -one.error)[:count]:
        data = shards.photo(one.key)
        photo = eight_bits(codec.decode(data).pixels)
        alpha, truth = source.alpha(one.key, data), as_alpha(true_matte(shards, rows[one.key]))
        panels = [photo, sheets.on_colour(photo, alpha), sheets.errors_on(photo, alpha, truth)]
        score = (
            f"IoU {one.scores.iou:.3f}" if one.label in PERSON_LABELS else f"marked {one.scores.marked:.1%}"
        )
        cells.append(
            sheets.titled(
                sheets.row([sheets.fitted(image, panel) for image in panels]), f"{score}  {one.key}"
            )
        )
    return sheets.grid(cells, columns=2)


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain evaluate``."""
    parser = command_line("evaluate", __doc__)
    parser.add_argument("network", type=Path, nargs="?", help="checkpoint or .onnx")
    parser.add_argument("--alphas", type=Path, help="instead of a network: a folder of KEY.png from any tool")
    photo_options(parser)
    parser.add_argument(
        "--edges", choices=EDGES, help="edge refinement; default: what the server does by default"
    )
    parser.add_argument(
        "--sheet", type=Path, help="write a sheet of the 20 worst photos here (it shows the photos)"
    )
    args = parser.parse_args(argv)
    if (args.network is None) == (args.alphas is None):
        parser.error("give either a NETWORK or --alphas FOLDER")

    folder = data_folder(args.data)
    cv2.setNumThreads(args.threads)
    with Shards(folder, split=args.split, pools=args.pool) as shards:
        if not shards.rows:
            raise DataError(
                f"{folder} has no photos of split {args.split!r} in pools {args.pool or 'of any name'}"
            )
        source: MatteSource = (
            AlphaFolder(args.alphas)
            if args.alphas is not None
            else Pipeline(args.network, threads=args.threads, edges=args.edges)
        )
        started = time.perf_counter()
        scored = score_photos(source, shards, parts=polygon_parts(folder), progress=_progress)
        result = report(scored, source, split=args.split, seconds=time.perf_counter() - started)
        if args.sheet is not None:
            sheets.save(args.sheet, worst_sheet(scored, source, shards))
    print(table(result))
    if args.json is not None:
        write_json(args.json, result)
    return 0


def photo_options(parser: argparse.ArgumentParser) -> None:
    """Which photos, on how many threads, and where the result goes."""
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    data_option(parser)
    parser.add_argument("--pool", action="append", help="only this pool (may be given several times)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the result here")


def measured_on_photos(
    parser: argparse.ArgumentParser,
    report: Callable[[Pipeline, Shards, str], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    argv: list[str] | None,
) -> int:
    """The command line of what measures a network on labelled photos: prints the ``table`` of its ``report``."""
    photo_options(parser)
    args = parser.parse_args(argv)
    cv2.setNumThreads(args.threads)
    with Shards(data_folder(args.data), split=args.split, pools=args.pool) as shards:
        result = report(Pipeline(args.network, threads=args.threads), shards, args.split)
    print(table(result))
    if args.json is not None:
        write_json(args.json, result)
    return 0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() or done == total or done % 100 == 0:
        print(f"\r{done}/{total} photos", end="\n" if done == total else "", file=sys.stderr, flush=True)


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Indented JSON; the raw errors a photo a line, so that a diff can be read."""
    raw = result.get("raw", [])
    text = json.dumps({**result, "raw": []}, indent=1)
    lines = ",\n  ".join(json.dumps(one) for one in raw)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace('"raw": []', f'"raw": [\n  {lines}\n ]') + "\n", encoding="utf-8")
