"""Twelve public-domain photos before and after, failures among them: the sheet and the page docs/gallery.md.

    pip install scikit-image==0.26.0 PyWavelets==1.9.0
    python examples/gallery.py

The three portraits come first, then what a network for people may take for people. Seven of the photos are files of two
packages, which are read and not imported. With --portraits, the sheet of the README is made anew, too. The network of
this package runs in this process, with the default options.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from demo import HERE, PORTRAITS, checkerboard, sheet
from PIL import Image, ImageDraw, ImageOps

from bgclient import Client, Cutout

DOCS = HERE.parent / "docs"
SHEET = "images/gallery.jpg"
CELL, GAP, COLUMNS = 200, 6, 3
QUALITY = 88


@dataclass(frozen=True)
class Shown:
    """One photo, and what its package says of it."""

    file: str
    """In this folder, or in a package: "skimage/data/coins.png"."""
    title: str
    source: str
    terms: str

    def photo(self) -> Image.Image:
        """The photo. ``FileNotFoundError`` says what to install."""
        package, _, inside = self.file.rpartition("/data/")
        if not package:
            return Image.open(HERE / self.file)
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise FileNotFoundError(f"{self.file}: pip install scikit-image==0.26.0 PyWavelets==1.9.0")
        path = Path(found.origin).parent / "data" / inside
        if path.suffix == ".npz":
            return Image.fromarray(np.load(path)["data"].astype(np.uint8))
        return Image.open(path)


CC0, PUBLIC = "CC0", "public domain"
PHOTOS = (
    Shown("grace_hopper.jpg", "Grace Hopper", "US Navy, in matplotlib", PUBLIC),
    Shown("astronaut.png", "Eileen Collins", "NASA, in scikit-image", PUBLIC),
    Shown("camera.png", "a man with a camera", "Lav Varshney, in scikit-image", CC0),
    Shown("pywt/data/ascent.npz", "people on stairs", "public-domain-image.com, in PyWavelets", PUBLIC),
    Shown("skimage/data/horse.png", "the silhouette of a horse", "Andreas Preuss, in scikit-image", CC0),
    Shown("skimage/data/retina.jpg", "the inside of an eye", "Mikael Häggström, in scikit-image", CC0),
    Shown("skimage/data/hubble_deep_field.jpg", "galaxies", "NASA, in scikit-image", PUBLIC),
    Shown(
        "skimage/data/coins.png",
        "coins with heads",
        "Brooklyn Museum, in scikit-image",
        "no known restrictions",
    ),
    Shown("skimage/data/coffee.png", "a cup of coffee", "Rachel Michetti, in scikit-image", CC0),
    Shown(
        "skimage/data/clock_motion.png", "a clock that moves", "Stefan van der Walt, in scikit-image", PUBLIC
    ),
    Shown("chelsea.png", "a cat", "Stéfan van der Walt, in scikit-image", CC0),
    Shown("rocket.jpg", "a rocket", "SpaceX, in scikit-image", PUBLIC),
)


def outcome(cutout: Cutout) -> str:
    """What was found, in words."""
    return "no people found" if cutout.box is None else f"expected IoU {cutout.expected_iou:.2f}"


def contact_sheet(found: list[tuple[Image.Image, Cutout]]) -> Image.Image:
    """Before and after of every photo, numbered, ``COLUMNS`` in a row."""
    width, height = 2 * CELL + 3 * GAP, CELL + 2 * GAP
    whole = Image.new("RGB", (COLUMNS * width, -(-len(found) // COLUMNS) * height), "#444444")
    draw = ImageDraw.Draw(whole)
    for number, (before, cutout) in enumerate(found):
        after = checkerboard(cutout.image.size)
        after.paste(cutout.image, mask=cutout.image.getchannel("A"))
        left, top = number % COLUMNS * width, number // COLUMNS * height
        for column, picture in enumerate((before.convert("RGB"), after)):
            small = ImageOps.contain(picture, (CELL, CELL))
            x = left + GAP + column * (CELL + GAP) + (CELL - small.width) // 2
            whole.paste(small, (x, top + GAP + (CELL - small.height) // 2))
        draw.text(
            (left + GAP + 4, top + GAP + 2), str(number + 1), "#ffffff", stroke_width=2, stroke_fill="#000000"
        )
    return whole


def page(shown: list[tuple[Shown, Cutout]]) -> str:
    """docs/gallery.md."""
    rows = [
        f"| {number} | {one.title} | {outcome(cutout)} | {one.source} | {one.terms} |"
        for number, (one, cutout) in enumerate(shown, 1)
    ]
    return "\n".join(
        [
            "# Gallery",
            "",
            "Written by `python examples/gallery.py`: the packaged network with the default options. Photos 1 to 3 are",
            "what it is for. Photo 4 shows people who are small, cut off and behind bars. The others show no people:",
            "whatever is marked there is a failure. Look at a cut-out whose expected IoU is below 0.8.",
            "",
            f"![Twelve photos, before and after]({SHEET})",
            "",
            "| | photo | result | source | terms |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """0 when sheet and page are written."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of gallery.md and images/")
    parser.add_argument("--portraits", action="store_true", help="make images/before-after.jpg anew as well")
    args = parser.parse_args()
    (args.docs / "images").mkdir(parents=True, exist_ok=True)
    with Client(engine="onnxruntime") as client:
        photos = [one.photo() for one in PHOTOS]
        cutouts = [client.cut(photo) for photo in photos]
        portraits = [(HERE / name, client.cut(HERE / name)) for name in PORTRAITS] if args.portraits else []
    contact_sheet(list(zip(photos, cutouts, strict=True))).save(args.docs / SHEET, quality=QUALITY)
    (args.docs / "gallery.md").write_text(page(list(zip(PHOTOS, cutouts, strict=True))), encoding="utf-8")
    if portraits:
        sheet(portraits).resize((900, 900)).save(args.docs / "images/before-after.jpg", quality=QUALITY)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FileNotFoundError as error:
        sys.exit(str(error))
