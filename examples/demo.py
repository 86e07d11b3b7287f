"""Cut people out of the example photos with the real server: what ``make demo`` runs.

    python examples/demo.py [PHOTO ...]

Writes a PNG a photo and a before/after sheet to demo/out, and says how long each step took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from bgclient import Client, Cutout
from bgclient.errors import BgError
from bgserver import Server

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo" / "out"
CELL = 320
"""Side of a picture on the sheet, pixels."""
PORTRAITS = ("grace_hopper.jpg", "astronaut.png", "camera.png")
"""What comes first, and what the README shows."""


def checkerboard(size: tuple[int, int], square: int = 16) -> Image.Image:
    """What shows through where a cut-out is transparent."""
    board = Image.new("RGB", size, "#ffffff")
    draw = ImageDraw.Draw(board)
    for top in range(0, size[1], square):
        for left in range(top // square % 2 * square, size[0], 2 * square):
            draw.rectangle((left, top, left + square - 1, top + square - 1), "#dddddd")
    return board


def sheet(pairs: list[tuple[Path, Cutout]]) -> Image.Image:
    """Before, after on a checkerboard, and the matte: a row a photo."""
    gap, rows = 8, []
    for path, cutout in pairs:
        before = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        after = checkerboard(cutout.image.size)
        after.paste(cutout.image, mask=cutout.image.getchannel("A"))
        pictures = (before, after, Image.fromarray(cutout.matte).convert("RGB"))
        rows.append([ImageOps.contain(picture, (CELL, CELL)) for picture in pictures])
    height = sum(row[0].height + gap for row in rows) + gap
    whole = Image.new("RGB", (3 * CELL + 4 * gap, height), "#444444")
    top = gap
    for row in rows:
        for column, picture in enumerate(row):
            whole.paste(picture, (gap + column * (CELL + gap) + (CELL - picture.width) // 2, top))
        top += row[0].height + gap
    return whole


def main() -> int:
    """0 when every photo came back."""
    photos = [Path(name) for name in sys.argv[1:]] or sorted(
        (path for path in HERE.iterdir() if path.suffix in (".jpg", ".png")),
        key=lambda path: ([*PORTRAITS, path.name].index(path.name), path.name),
    )
    OUT.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    pairs, failures = [], 0
    with Server(log=OUT / "server.log") as server:
        print(
            f"server ready on {server.grpc_url} after {time.perf_counter() - began:.1f} s, a first photo cut"
        )
        for engine in server.facts["engines"]:
            print(f"the network runs in {engine}")
        with Client(server.grpc_url) as client:
            for path in photos:
                try:
                    cutout = client.cut(path)
                except BgError as error:
                    print(f"  {path.name}: {error.message()}", file=sys.stderr)
                    failures += 1
                    continue
                t = cutout.timings
                saving = time.perf_counter()
                target = OUT / f"{path.stem}.png"
                cutout.save(target)
                found = "no people found" if cutout.box is None else "person found"
                print(
                    f"  {path.name:18} {found}: read {t.load_ms + t.shrink_ms:.0f} ms, server {t.ask_ms:.0f} ms, "
                    f"finish {t.finish_ms:.0f} ms, write {(time.perf_counter() - saving) * 1e3:.0f} ms -> {target}"
                )
                pairs.append((path, cutout))
        stopping = time.perf_counter()
    print(f"server stopped after {time.perf_counter() - stopping:.1f} s")
    if pairs:
        sheet(pairs).save(OUT / "before-after.png")
        print(f"before and after: {OUT / 'before-after.png'}")
    print(f"{len(pairs)} of {len(photos)} photos in {time.perf_counter() - began:.1f} s")
    return 1 if failures or not photos else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BgError as error:
        sys.exit(error.message())
