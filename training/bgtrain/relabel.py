"""Let a teacher draw the outlines that polygons only sketch: ``python -m bgtrain relabel MATTES OUT``.

A polygon is right about who is meant and wrong about where exactly they end; a matting network is the other way
round. Where the two agree about the person, the teacher's matte decides in a band along the polygon's outline. What
the teacher adds outside that band (a racket, a bag) is left out of the loss: polygons cut held things out, other
labels keep them.

``MATTES`` holds ``KEY.png`` from any tool, ``OUT`` becomes a folder of shards with everything that the data has.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bgtrain import metrics
from bgtrain.command import command_line, data_option
from bgtrain.errors import BrokenData, DataError
from bgtrain.evaluate import COCO_JSON
from bgtrain.polygons import signed_distance
from bgtrain.shards import Sample, Shards, data_folder, write_shards

BAND = 0.02
"""Half the width of the band that the teacher decides, over the photo's long side."""
LEAST = 0.8
"""IoU of polygon and teacher below which they do not speak of the same people: the polygon stays as it is."""


def merged(
    polygon: NDArray[np.uint8], teacher: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], float]:
    """The new matte uint8 (H, W), the pixels it leaves open bool (H, W), and the IoU of ``polygon`` and ``teacher``.

    Both uint8 (H, W), 255 = person.
    """
    person, taught = polygon > 127, teacher > 127
    near = np.abs(signed_distance(person)) <= BAND * max(polygon.shape)
    return np.where(near, teacher, polygon), taught & ~person & ~near, metrics.iou(person, taught)


def relabelled(shards: Shards, mattes: Path, least: float = LEAST) -> Iterator[Sample]:
    """The photos labelled by polygon that ``mattes`` has, with labels of kind ``pseudo`` where the two agree."""
    for row in shards.rows:
        path, polygon = mattes / f"{row.key}.png", shards.matte(row.key)
        if row.label != "polygon" or polygon is None or not path.exists():
            continue
        teacher = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if teacher is None or teacher.shape != polygon.shape:
            raise BrokenData(f"{path}: not a grey picture of the photo's size, {row.width} x {row.height}")
        matte, open_, agreement = merged(polygon, teacher)
        if agreement < least:
            continue
        ignore = shards.ignore(row.key)
        yield Sample(
            key=row.key,
            jpeg=shards.photo(row.key),
            matte=matte,
            ignore=open_ if ignore is None else open_ | ignore,
            size_hw=(row.height, row.width),
            pool=row.pool,
            label="pseudo",
            persons=row.persons,
            split=row.split,
            agreement=round(agreement, 4),
            source=row.source,
            licence=row.licence,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m bgtrain relabel``."""
    parser = command_line("relabel", __doc__)
    parser.add_argument(
        "mattes", type=Path, help="folder of KEY.png, the teacher's mattes of training photos"
    )
    parser.add_argument("out", type=Path, help="folder of shards to make")
    data_option(parser)
    parser.add_argument("--least", type=float, default=LEAST, help="IoU from which the teacher is believed")
    args = parser.parse_args(argv)
    folder = data_folder(args.data)
    if args.out.exists() and args.out.resolve() == folder.resolve():
        raise DataError(f"{args.out}: the data itself; name another folder")
    args.out.mkdir(parents=True, exist_ok=True)
    with Shards(folder, split="train") as train, Shards(folder, left_out=()) as everything:
        changed = list(relabelled(train, args.mattes, args.least))
        keys = {sample.key for sample in changed}
        for name in {row.shard for row in everything.rows}:
            _link(folder / name, args.out / name)
        if (folder / COCO_JSON).exists():
            _link(folder / COCO_JSON, args.out / COCO_JSON)
        write_shards(
            changed, args.out, prefix="relabelled", kept=[r for r in everything.rows if r.key not in keys]
        )
    print(json.dumps({"relabelled": len(changed), "photos": len(everything.rows)}))
    return 0


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
