"""Pack a published data set into shards: ``python -m bgtrain convert voc VOCdevkit/VOC2012 shards/voc``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from bgimage import codec
from bgtrain.command import command_line
from bgtrain.readers import READERS, Example, Reader, reader
from bgtrain.shards import Row, Sample, write_shards

JPEG_QUALITY = 95


def samples(source: Reader, *, max_side: int | None = None, people_only: bool = False) -> Iterator[Sample]:
    """``Sample``s of a reader's examples; those without a single pixel of person get the label ``empty``."""
    for example in source:
        found = bool((example.matte > 127).any())
        if found or not people_only:
            yield as_sample(example, pool=source.name, max_side=max_side)


def as_sample(example: Example, *, pool: str, max_side: int | None = None) -> Sample:
    """One example as it goes into a shard, at most ``max_side`` pixels long; a JPEG that fits keeps its bytes."""
    photo, matte, ignore, jpeg = example.photo, example.matte, example.ignore, example.jpeg
    scale = min(1.0, max_side / max(matte.shape)) if max_side else 1.0
    if scale < 1:
        size = max(1, round(matte.shape[1] * scale)), max(1, round(matte.shape[0] * scale))
        photo, matte = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (photo, matte))
        ignore = cv2.resize(ignore.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        jpeg = None
    found = bool((matte > 127).any())
    return Sample(
        key=example.key,
        jpeg=jpeg or codec.encode(photo, "jpeg", quality=JPEG_QUALITY),
        matte=matte if found or ignore.any() else None,
        ignore=ignore if ignore.any() else None,
        size_hw=(matte.shape[0], matte.shape[1]),
        pool=pool,
        label=example.label if found else "empty",
        persons=example.persons,
        split=example.split,
        agreement=example.agreement,
    )


def tell(rows: list[Row], source: Reader, out: Path) -> None:
    """Say on stderr what was packed, and list what was skipped."""
    print(f"{len(rows)} photos packed into {out}, {len(source.skipped)} skipped", file=sys.stderr)
    for skipped in source.skipped:
        print(f"skipped {skipped.photo}: {skipped.why}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain convert``; 1 where photos had to be skipped."""
    parser = command_line("convert", __doc__)
    parser.add_argument("kind", choices=sorted(READERS))
    parser.add_argument("folder", type=Path, help="the data set, as published")
    parser.add_argument("out", type=Path, help="folder for the shards and index.csv")
    parser.add_argument("--max-side", type=int, help="shrink longer photos to this many pixels")
    parser.add_argument("--people-only", action="store_true", help="leave out photos without people")
    parser.add_argument("--photos-per-shard", type=int, default=1000)
    args = parser.parse_args(argv)
    source = reader(args.kind, args.folder)
    packed = samples(source, max_side=args.max_side, people_only=args.people_only)
    tell(
        write_shards(packed, args.out, photos_per_shard=args.photos_per_shard, prefix=args.kind),
        source,
        args.out,
    )
    return 1 if source.skipped else 0
