"""A remover on the common photos: how fast to the common output, and how good on the labelled test split."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bgbench import photos
from bgbench.environment import watching
from bgbench.results import Case, Series
from bgbench.rivals import Environment, Rival
from bgtrain import evaluate
from bgtrain.metrics import MEASURES
from bgtrain.shards import Shards

GROUPS = (
    "ccp",
    "coco_person",
    "vikram_humanseg",
    "pennfudan",
    "people_pseudo",
    "20-70 % people",
    "no people",
)
"""Pools, and the slices of them that the tables name."""
MEGAPIXELS, PHOTOS = 12, 2
"""Of the speed test."""


def speed(rival: Rival, cache: Path, *, repeat: int) -> Iterator[Case]:
    """JPEG bytes to RGBA PNG bytes, and to the matte at the photo's size, one photo at a time."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "photos", Path(folder) / "pictures"
        source.mkdir()
        for number, data in enumerate(photos.jpegs(MEGAPIXELS, PHOTOS, cache)):
            (source / f"{number}.jpg").write_bytes(data)
        with watching() as watch:
            environment = Environment(rival, cache)
            mattes = environment.run(source, out, form="alpha", repeat=repeat)
            timings = environment.run(source, out, form="cutout", repeat=repeat)
        yield Case(
            scenario="rival speed",
            setting={
                "rival": rival.name,
                "megapixels": MEGAPIXELS,
                "versions": timings.about["versions"],
                "device": timings.about["device"],
            },
            tool="closed loop",
            series={
                "cutout": timings.series,
                "matte": mattes.series,
                "load": Series(unit="s", values=[timings.about["load_s"]]),
                "PNG": Series(
                    unit="MB", values=[path.stat().st_size / 1e6 for path in sorted(out.glob("*.png"))]
                ),
            },
            others=watch.others,
        )


def quality(rival: Rival, cache: Path, *, data: Path | None, every: int) -> Iterator[Case]:
    """Errors of the rival's mattes on the labelled photos, by the measures of ``bgtrain evaluate``.

    Args:
        every: use only every Nth photo of each pool, the same photos for every remover.
    """
    with Shards(data, split="test") as shards, tempfile.TemporaryDirectory() as folder:
        rows = defaultdict(list)
        for row in shards.rows:
            if row.pool in GROUPS or row.label == "empty":
                rows[row.pool].append(row)
        shards.rows = [row for pool in sorted(rows) for row in rows[pool][::every]]
        source, out = Path(folder) / "photos", Path(folder) / "alphas"
        source.mkdir()
        for row in shards.rows:
            (source / f"{row.key}.jpg").write_bytes(shards.photo(row.key))
        with watching() as watch:
            timings = Environment(rival, cache).run(source, out, form="alpha")
        scored = evaluate.score_photos(evaluate.AlphaFolder(out), shards)
    for group in GROUPS:
        chosen = [one for one in scored if group in (one.pool, *one.slices)]
        if chosen:
            raw = {name: [getattr(one.scores, name) for one in chosen] for name in MEASURES}
            yield Case(
                scenario="rival quality",
                setting={
                    "rival": rival.name,
                    "group": group,
                    "split": "test",
                    "photos": len(chosen),
                    "every": every,
                },
                tool="bgtrain evaluate",
                series={
                    **{name: Series(unit="ratio", values=values) for name, values in raw.items()},
                    "seconds": Series(unit="s", values=[timings.seconds[one.key][0] for one in chosen]),
                },
                others=watch.others,
            )
