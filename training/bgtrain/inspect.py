"""Look at training photos before training on them: ``python -m bgtrain inspect``.

Prints a table of the pools, writes a contact sheet per pool and split and histograms of area and people into
``--out`` (they show the photos: keep them out of the repository), and fails where two splits share a photo.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bgtrain import sheets, tables
from bgtrain.command import command_line, data_option
from bgtrain.duplicates import Fingerprint, Pair, near_duplicates
from bgtrain.shards import PERSON_LABELS, SPLITS, Row, Shards

SHEET_PHOTOS = 48
"""Photos of a contact sheet, drawn by the order of their keys at equal distances."""


def contact_sheet(
    shards: Shards, rows: Sequence[Row], *, side: int = 160, columns: int = 8
) -> NDArray[np.uint8]:
    """RGB sheet: each photo, what is not person tinted green, with its key's end and its share of person."""
    cells = []
    for row in rows:
        photo = shards.image(row.key)
        matte = shards.matte(row.key)
        if matte is not None and row.label not in ("empty", "none"):
            tinted = sheets.on_colour(photo, np.asarray(matte, np.float32) / np.float32(255))
            photo = cv2.addWeighted(photo, 0.35, tinted, 0.65, 0)
        title = f"{row.key[-16:]} {row.person_fraction:.0%}"
        cells.append(sheets.titled(sheets.fitted(photo, side), title))
    return sheets.grid(cells, columns=columns)


def find_duplicates(shards: Shards) -> list[Pair]:
    """Photos that two splits share."""
    return near_duplicates([Fingerprint.of(row.key, row.split, shards.image(row.key)) for row in shards.rows])


def summary(rows: Sequence[Row]) -> str:
    """Per pool: photos by split, label, quartiles of the share of person, people where counted."""
    pools: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        pools[row.pool].append(row)
    table = []
    for pool, members in sorted(pools.items()):
        splits = Counter(row.split for row in members)
        quartiles = np.percentile([row.person_fraction for row in members], [25, 50, 75])
        people = Counter(min(row.persons, 9) for row in members if row.persons is not None)
        counted = ", ".join(f"{'9+' if n == 9 else n}: {people[n]}" for n in sorted(people))
        shares = ", ".join(f"{share:.1%}" for share in quartiles)
        table.append([pool, members[0].label, *(splits[split] for split in SPLITS), shares, counted])
    head = ["pool", "label", *SPLITS, "people cover (quartiles)", "number of people: photos"]
    return tables.markdown(head, table)


def plot_histograms(rows: Sequence[Row], path: Path) -> None:
    """Share of person and number of people, a line a pool, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    areas, people = figure.subplots(1, 2)
    for pool in sorted({row.pool for row in rows if row.label in PERSON_LABELS}):
        members = [row for row in rows if row.pool == pool]
        edges = np.linspace(0, 1, 21)
        shares, _ = np.histogram([row.person_fraction for row in members], edges)
        areas.stairs(shares / len(members), edges * 100, label=f"{pool} ({len(members)})")
        counts = Counter(row.persons for row in members if row.persons is not None)
        if counts:
            people.plot(sorted(counts), [counts[n] for n in sorted(counts)], "o-", label=pool)
    areas.set(xlabel="people cover, % of the photo", ylabel="share of the pool's photos")
    people.set(xlabel="people in the photo", ylabel="photos", yscale="log")
    for axes in (areas, people):
        axes.legend()
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain inspect``; 1 where two splits share a photo."""
    parser = command_line("inspect", __doc__)
    data_option(parser)
    parser.add_argument("--out", type=Path, help="write contact sheets and histograms into this folder")
    parser.add_argument("--pool", action="append", help="only this pool (may be given several times)")
    parser.add_argument("--all", action="store_true", help="also the photos that left_out.txt keeps out")
    args = parser.parse_args(argv)
    with Shards(args.data, pools=args.pool, left_out=() if args.all else None) as shards:
        print(summary(shards.rows))
        if args.out is not None:
            _draw(shards, args.out)
        pairs = find_duplicates(shards)
    print(f"\nnear-duplicates across splits: {len(pairs)}")
    for pair in pairs:
        print(f"{pair.likeness:.3f}  {pair.first}  {pair.second}{'  (mirrored)' if pair.mirrored else ''}")
    return 1 if pairs else 0


def _draw(shards: Shards, out: Path) -> None:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in shards.rows:
        groups[f"{row.pool}-{row.split}"].append(row)
    for name, rows in sorted(groups.items()):
        chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), SHEET_PHOTOS)).astype(int)]
        sheets.save(out / f"{name}.jpg", contact_sheet(shards, chosen))
    plot_histograms(shards.rows, out / "histograms.png")
    print(f"{len(groups)} contact sheets and histograms.png are in {out}", file=sys.stderr)
