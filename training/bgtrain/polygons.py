"""Coarse polygon masks pulled towards the edges of the photo, and the measurement that shows it helps.

COCO's outlines are a few dozen clicks each, 3-8 px off in a photo of 512 px. The polygon is right about who is
meant and wrong about where exactly they end, so only a band around the outline is decided anew: by GrabCut (Rother
et al. 2004), whose colour models learn from what is surely inside and surely outside, and whose cut prefers the
photo's edges.

``python -m bgtrain polygons`` makes the drawn masks of the training photos coarse on purpose and reports how much of
the damage ``refined`` undoes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bgimage import codec
from bgtrain import metrics, tables
from bgtrain.command import command_line, data_option
from bgtrain.shards import Shards
from bgtrain.statistics import standard_error

Mask = NDArray[np.bool_]

REACH = 4 / 512
"""Half the width of the band that is decided anew, over the photo's long side. Chosen on the train split: 6 px gain a
little more on the coarsest outlines and lose on good ones, 12 px lose everywhere."""
ROUNDS = 2
"""Of learning the colours and cutting; more change nothing."""
MARGIN = 6
"""How much of the surroundings the colour models see, in reaches around the mask's box."""
TOLERANCES_PX = (3, 5, 8, 12)
"""How far the coarse masks may be off, pixels of a photo of about 512; COCO's are 3-8, in places."""


def refined(photo: NDArray[np.uint8], mask: Mask, *, reach: float = REACH) -> Mask:
    """bool (H, W): ``mask`` with its outline moved to the photo's edges, at most ``reach`` of the long side away.

    photo: uint8 (H, W, 3), RGB. The same input gives the same mask. A mask too thin to have a sure inside stays.
    """
    band = max(2.0, reach * max(mask.shape))
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    if not w:
        return mask
    margin = round(MARGIN * band)
    rows, columns = slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin)
    inside = signed_distance(mask)[rows, columns]
    states = np.full(inside.shape, cv2.GC_BGD, np.uint8)
    states[inside > -band] = cv2.GC_PR_BGD
    states[inside > 0] = cv2.GC_PR_FGD
    states[inside > band] = cv2.GC_FGD
    if not (states == cv2.GC_FGD).any() or not (states == cv2.GC_BGD).any():
        return mask
    colours = np.ascontiguousarray(photo[rows, columns])
    cv2.setRNGSeed(0)  # GrabCut starts its clusters at random
    unused = (0, 0, 1, 1)
    cv2.grabCut(colours, states, unused, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    result = mask.copy()
    result[rows, columns] = (states == cv2.GC_FGD) | (states == cv2.GC_PR_FGD)
    return result


def signed_distance(mask: Mask) -> NDArray[np.float32]:
    """float32 (H, W): pixels to the outline, positive inside; the photo's border is not an outline."""
    grey = mask.astype(np.uint8)
    inside, outside = (cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_5) for side in (grey, 1 - grey))
    return np.asarray(inside - outside, np.float32)


def coarse(mask: Mask, tolerance_px: float, rng: np.random.Generator) -> Mask:
    """bool (H, W): ``mask`` redrawn the way an annotator clicks: a polygon within ``tolerance_px``, each click off."""
    contours, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = np.zeros(mask.shape, np.uint8)
    for contour, (_, _, _, parent) in zip(contours, tree[0] if len(contours) else [], strict=True):
        if cv2.contourArea(contour) < 4 * tolerance_px**2:
            continue  # annotators do not outline specks or pinholes
        clicks = cv2.approxPolyDP(contour, tolerance_px, closed=True).astype(np.float64)
        clicks += rng.normal(0, tolerance_px / 2, clicks.shape)
        cv2.fillPoly(drawn, [clicks.round().astype(np.int32)], 0 if parent >= 0 else 1)
    return drawn.astype(bool)


def outline_error_px(mask: Mask, truth: Mask) -> float:
    """Mean distance between the two outlines, pixels, both ways; NaN where one of them has none."""
    lines = [
        cv2.morphologyEx(side.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        for side in (mask, truth)
    ]
    if not all(line.any() for line in lines):
        return float("nan")
    far = [cv2.distanceTransform(1 - line, cv2.DIST_L2, cv2.DIST_MASK_5) for line in lines]
    return float((far[1][lines[0] > 0].mean() + far[0][lines[1] > 0].mean()) / 2)


def measure(
    shards: Shards, *, tolerances_px: Sequence[float] = TOLERANCES_PX, reach: float = REACH
) -> list[dict[str, Any]]:
    """Per pool and tolerance: IoU, boundary IoU and outline error of the coarse masks, before and after ``refined``."""
    raw: dict[tuple[str, float], list[tuple[float, ...]]] = {}
    seconds = 0.0
    for row in shards.rows:
        photo = codec.decode(shards.photo(row.key)).pixels.astype(np.uint8, copy=False)
        matte = shards.matte(row.key)
        if matte is None:
            continue
        truth = matte > 127
        for tolerance in tolerances_px:
            before = coarse(truth, tolerance, np.random.default_rng(0))
            started = time.perf_counter()
            after = refined(photo, before, reach=reach)
            seconds += time.perf_counter() - started
            raw.setdefault((row.pool, tolerance), []).append(
                tuple(
                    measured(mask, truth)
                    for measured in (metrics.iou, metrics.boundary_iou, outline_error_px)
                    for mask in (before, after)
                )
            )
        print(f"\r{row.key:<40}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    names = [
        f"{name}_{when}" for name in ("iou", "boundary_iou", "outline_px") for when in ("before", "after")
    ]
    found = []
    for (pool, tolerance), values in raw.items():
        array = np.array(values)
        gain = array[:, 3] - array[:, 2]
        means = {
            name: round(float(mean), 4) for name, mean in zip(names, np.nanmean(array, axis=0), strict=True)
        }
        found.append(
            {
                "pool": pool,
                "tolerance_px": tolerance,
                "photos": len(values),
                **means,
                "boundary_iou_gain_se": round(standard_error(gain), 4),
                "better_share": round(float((gain > 0).mean()), 3),
            }
        )
    print(f"{1000 * seconds / max(1, sum(map(len, raw.values()))):.0f} ms a mask", file=sys.stderr)
    return found


def markdown(found: Sequence[dict[str, Any]]) -> str:
    """The measurement as a table."""
    head = ["pool", "photos", "clicks off by", "IoU", "boundary IoU", "outline off by", "photos improved"]
    rows = [
        [
            one["pool"],
            str(one["photos"]),
            f"{one['tolerance_px']} px",
            f"{one['iou_before']:.3f} → {one['iou_after']:.3f}",
            f"{one['boundary_iou_before']:.3f} → {one['boundary_iou_after']:.3f} ± {one['boundary_iou_gain_se']:.3f}",
            f"{one['outline_px_before']:.2f} → {one['outline_px_after']:.2f} px",
            f"{one['better_share']:.0%}",
        ]
        for one in found
    ]
    return tables.markdown(head, rows)


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain polygons``."""
    parser = command_line("polygons", __doc__)
    data_option(parser)
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--pool", action="append", help="pools with drawn masks; default ccp and pennfudan")
    parser.add_argument("--photos", type=int, help="at most so many of each pool")
    parser.add_argument("--reach", type=float, default=REACH, help="half the band's width over the long side")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    pools = args.pool or ["ccp", "pennfudan"]
    with Shards(args.data, split=args.split, pools=pools) as shards:
        if args.photos is not None:
            by_pool = [[row for row in shards.rows if row.pool == pool] for pool in pools]
            shards.rows = [row for rows in by_pool for row in rows[: args.photos]]
        found = measure(shards, reach=args.reach)
    print(markdown(found))
    if args.json is not None:
        settings = {
            "method": "grabcut",
            "reach": args.reach,
            "rounds": ROUNDS,
            "margin": MARGIN,
            "split": args.split,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(
            json.dumps({**settings, "opencv": cv2.__version__, "results": found}, indent=1) + "\n"
        )
    return 0
