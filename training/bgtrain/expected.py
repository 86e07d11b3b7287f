"""What IoU to expect of a cut-out: ``python -m bgtrain expected NETWORK``.

Fits the curve from ``bgimage.expected.soft_iou`` to the true IoU on the validation photos, and checks it on the test
photos: is a photo of which 0.8 is expected as good as 0.8 on average (reliability), and what share of the photos
must a person check so that the rest are good (risk and coverage)? Photos without people in which a person was
found count with IoU 0. IoU is that at the network's own resolution, as the default options leave it.

    python -m bgtrain expected model_repository/tiramisu_onnx/1/model.onnx --write

writes the curve, the figures behind the check and their plot to where the product and its documents read them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bgimage import codec, expected, finish, geometry, people
from bgimage.options import Options
from bgtrain import metrics, tables
from bgtrain.command import command_line, data_option
from bgtrain.errors import DataError
from bgtrain.evaluate import Pipeline, true_matte
from bgtrain.shards import PERSON_LABELS, Row, Shards, data_folder

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "training/results/expected-iou.json"
FIGURE = ROOT / "docs/images/expected-iou.png"
KNOTS = 24
"""Of the curve: as many photos lie between two as between any others."""
BINS = 10
GOOD = 0.9
Pairs = NDArray[np.float64]


def answers(network: Pipeline, shards: Shards, *, empty: bool) -> Iterator[tuple[Row, Any, Any, float]]:
    """Row, the network's answer, the alpha of the people that the default options mean, and its IoU.

    empty: photos without people too, of which the IoU is 0 unless nothing was found.
    """
    for row in shards.rows:
        if row.label not in PERSON_LABELS and not (empty and row.label == "empty"):
            continue
        photo = codec.decode(shards.photo(row.key), at_least=geometry.decode_side(network.contract))
        answer = network.network_alpha(photo)
        small, _ = finish.meant(photo, answer, network.contract, Options())
        truth = cv2.resize(true_matte(shards, row), small.shape[::-1], interpolation=cv2.INTER_AREA)
        yield row, answer, small, metrics.iou(small > people.INSIDE, truth > 127)


def measured(network: Pipeline, shards: Shards) -> Pairs:
    """(n, 2): soft IoU and true IoU of every photo in which a person was found."""
    found = [(expected.soft_iou(small), iou) for _, _, small, iou in answers(network, shards, empty=True)]
    return np.array([pair for pair in found if pair[0] > 0], np.float64).reshape(-1, 2)


def fitted(pairs: Pairs) -> tuple[list[float], list[float]]:
    """Knots of the rising curve: means over photos that are neighbours by soft IoU, pooled where they fall.

    Pool-adjacent-violators, after Ayer et al. 1955.
    """
    ordered = pairs[np.argsort(pairs[:, 0], kind="stable")]
    blocks: list[tuple[float, float, int]] = []
    for part in np.array_split(ordered, min(KNOTS, len(ordered))):
        blocks.append((*part.mean(0), len(part)))
        while len(blocks) > 1 and blocks[-1][1] <= blocks[-2][1]:
            (soft, iou, count), (more_soft, more_iou, more) = blocks[-2:]
            both = count + more
            pooled = (soft * count + more_soft * more) / both, (iou * count + more_iou * more) / both, both
            blocks[-2:] = [pooled]
    return [round(float(b[0]), 5) for b in blocks], [round(float(b[1]), 5) for b in blocks]


def checked(pairs: Pairs, curve: tuple[list[float], list[float]]) -> dict[str, Any]:
    """Reliability, and risk and coverage, of photos that the curve was not fitted on."""
    hoped, iou = np.interp(pairs[:, 0], *curve), pairs[:, 1]
    order = np.argsort(-pairs[:, 0], kind="stable")  # the surest first
    bins = [part[::-1] for part in np.array_split(order, BINS)][::-1]
    reliability = [
        {
            "expected": round(float(hoped[b].mean()), 4),
            "iou": round(float(iou[b].mean()), 4),
            "photos": len(b),
        }
        for b in bins
    ]
    shares = np.arange(1, len(iou) + 1) / len(iou)
    mean, good = np.cumsum(iou[order]), np.cumsum(iou[order] >= GOOD)
    at = [max(1, round(share * len(iou))) - 1 for share in np.arange(0.05, 1.001, 0.05)]
    coverage = [
        {
            "share": round(float(shares[n]), 3),
            "expected_at_least": round(float(hoped[order[n]]), 4),
            "mean_iou": round(float(mean[n] / (n + 1)), 4),
            f"share_with_iou_{GOOD:g}": round(float(good[n] / (n + 1)), 4),
        }
        for n in at
    ]
    errors = [abs(one["expected"] - one["iou"]) * one["photos"] for one in reliability]
    return {
        "photos": len(iou),
        "mean_absolute_error": round(float(abs(hoped - iou).mean()), 4),
        "calibration_error": round(float(sum(errors) / len(iou)), 4),
        "rank_correlation": round(_rank_correlation(hoped, iou), 4),
        "reliability": reliability,
        "risk_coverage": coverage,
    }


def _rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    ranks = [np.unique(values, return_inverse=True)[1].astype(float) for values in (one, other)]
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: one sentence, and a row for every tenth of the photos kept."""
    good = f"share_with_iou_{GOOD:g}"
    head = [
        "the surest photos",
        "all with an expected IoU of",
        "their mean IoU",
        f"of them with IoU ≥ {GOOD:g}",
    ]
    rows = [
        [f"{p['share']:.0%}", f"{p['expected_at_least']:.2f}", f"{p['mean_iou']:.3f}", f"{p[good]:.0%}"]
        for p in result["risk_coverage"][1::2]
    ]
    return (
        f"{result['photos']} photos: mean absolute error {result['mean_absolute_error']:.3f}, calibration error "
        f"{result['calibration_error']:.3f}, rank correlation {result['rank_correlation']:.2f}.\n\n"
        + tables.markdown(head, rows)
    )


def plot(result: dict[str, Any], path: Path) -> None:
    """Reliability and risk-coverage, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="#999", linewidth=1)
    left.plot(
        *zip(*((b["expected"], b["iou"]) for b in result["reliability"]), strict=True), "o-", color="#2f6fde"
    )
    left.set(
        xlabel="expected IoU",
        ylabel="true IoU",
        title="Reliability, tenths of the test photos",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    share = [point["share"] for point in result["risk_coverage"]]
    for name, label in (
        ("mean_iou", "their mean IoU"),
        (f"share_with_iou_{GOOD:g}", f"share with IoU ≥ {GOOD:g}"),
    ):
        right.plot(share, [point[name] for point in result["risk_coverage"]], label=label)
    right.set(
        xlabel="share of photos kept, the surest first", title="Risk and coverage", xlim=(0, 1), ylim=(0.5, 1)
    )
    right.legend(loc="lower left")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain expected``."""
    parser = command_line("expected", __doc__)
    parser.add_argument("network", type=Path, help="checkpoint or .onnx")
    data_option(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--write", action="store_true", help=f"write {expected.CURVE.name} and what goes with it"
    )
    args = parser.parse_args(argv)
    cv2.setNumThreads(args.threads)
    network, pairs = Pipeline(args.network, threads=args.threads), {}
    for split in ("val", "test"):
        with Shards(data_folder(args.data), split=split) as shards:
            pairs[split] = measured(network, shards)
        if len(pairs[split]) < BINS:
            raise DataError(
                f"split {split}: {len(pairs[split])} photos in which a person was found; at least {BINS} are needed"
            )
    soft, iou = fitted(pairs["val"])
    about = {name: network.describe()[name] for name in ("network", "sha256", "contract")}
    curve = {**about, "fitted_on": f"val, {len(pairs['val'])} photos", "soft_iou": soft, "iou": iou}
    result = {**about, "split": "test", **checked(pairs["test"], (soft, iou))}
    print(table(result))
    if args.write:
        for path, value in ((expected.CURVE, curve), (RESULT, result)):
            path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        plot(result, FIGURE)
    return 0
