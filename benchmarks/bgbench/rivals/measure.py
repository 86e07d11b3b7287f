"""All removers on the same photos: how fast to the same output, and how good on the labelled test split."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
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


def speed(
    rivals: Sequence[Rival], cache: Path, *, megapixels: int = 12, count: int = 2, repeat: int = 3
) -> Iterator[Case]:
    """JPEG bytes to RGBA PNG bytes, each rival by its own call and encoder, one photo at a time."""
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(photos.jpegs(megapixels, count, cache)):
            (Path(folder) / f"{number}.jpg").write_bytes(data)
        for rival in rivals:
            with watching() as watch:
                timings = Environment(rival, cache).run(
                    Path(folder), Path(folder) / rival.name, form="cutout", repeat=repeat
                )
            values = [second for seconds in timings.seconds.values() for second in seconds]
            pictures = (Path(folder) / rival.name).glob("*.png")
            yield Case(
                scenario="rival speed",
                setting={"rival": rival.name, "megapixels": megapixels, **_about(rival, timings.about)},
                tool="closed loop",
                series={
                    "cutout": Series(unit="s", values=values),
                    "load": Series(unit="s", values=[timings.about["load_s"]]),
                    "PNG": Series(unit="MB", values=[path.stat().st_size / 1e6 for path in pictures]),
                },
                others=watch.others,
            )


def _about(rival: Rival, about: dict[str, object]) -> dict[str, object]:
    return {
        "versions": about["versions"],
        "device": about["device"],
        "parameters, millions": rival.parameters_m,
    }


def quality(
    rivals: Sequence[Rival], cache: Path, *, data: Path | None = None, split: str = "test", every: int = 1
) -> Iterator[Case]:
    """Errors of every rival's mattes on the labelled photos, by the measures of ``bgtrain evaluate``.

    Args:
        every: only each so-manieth photo of a pool, the same for all.
    """
    with Shards(data, split=split) as shards, tempfile.TemporaryDirectory() as folder:
        rows = defaultdict(list)
        for row in shards.rows:
            rows[row.pool].append(row)
        shards.rows = [row for pool in sorted(rows) if pool != "bg_scenes" for row in rows[pool][::every]]
        source = Path(folder) / "photos"
        source.mkdir()
        for row in shards.rows:
            (source / f"{row.key}.jpg").write_bytes(shards.photo(row.key))
        for rival in rivals:
            out = Path(folder) / rival.name
            with watching() as watch:
                timings = Environment(rival, cache).run(source, out, form="alpha")
            judged = evaluate.judge(evaluate.AlphaFolder(out), shards)
            for group in GROUPS:
                chosen = [one for one in judged if group in (one.pool, *one.slices)]
                if chosen:
                    yield Case(
                        scenario="rival quality",
                        setting={"rival": rival.name, "group": group, "split": split, "photos": len(chosen)},
                        tool="bgtrain evaluate",
                        series={
                            **{
                                measure: Series(
                                    unit="ratio", values=[getattr(one.scores, measure) for one in chosen]
                                )
                                for measure in MEASURES
                            },
                            "seconds": Series(
                                unit="s", values=[timings.seconds[one.key][0] for one in chosen]
                            ),
                        },
                        others=watch.others,
                    )
