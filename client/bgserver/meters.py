"""What the serving models count in addition to Triton's metrics; no label identifies a photo or a caller."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bgimage.errors import BgError, NoPersonFound

COUNTERS = {
    "bgclient_photos_total": "Photos decoded: one that the server finishes twice, before the network and after it",
    "bgclient_megapixels_total": "Megapixels of those photos as they came",
    "bgclient_stage_seconds_total": "Seconds spent, by stage",
    "bgclient_refusals_total": "Photos and options refused, by the code of the error",
    "bgclient_cutouts_total": "Photos finished, or refused for showing no person, by whether a person was found",
    "bgclient_kept_answers_total": "Photos that the network had answered before, and whose answer was kept",
}
"""Prometheus names to their help texts; every one has the label ``model``."""


class Meters:
    """The counters of one model."""

    def __init__(self, family: Any, model: str) -> None:
        """Args:
        family: what makes a family of metrics: ``triton_python_backend_utils.MetricFamily``.
        model: value of the label ``model``.
        """
        self._model = model
        self._families = {
            name: family(name=name, description=text, kind=family.COUNTER) for name, text in COUNTERS.items()
        }
        self._metrics: dict[tuple[str, ...], Any] = {}

    def _add(self, name: str, amount: float, **labels: str) -> None:
        key = (name, *labels.values())
        if key not in self._metrics:
            self._metrics[key] = self._families[name].Metric(labels={"model": self._model, **labels})
        self._metrics[key].increment(amount)

    def photo(self, size_hw: tuple[int, int]) -> None:
        """One photo was decoded; ``size_hw``: its full size, where it was decoded reduced."""
        self._add("bgclient_photos_total", 1)
        self._add("bgclient_megapixels_total", size_hw[0] * size_hw[1] / 1e6)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Around a stage; one that fails is not counted."""
        began = time.perf_counter()
        yield
        self._add("bgclient_stage_seconds_total", time.perf_counter() - began, stage=name)

    def refusal(self, error: BgError) -> None:
        """A photo, or its options, were refused."""
        self._add("bgclient_refusals_total", 1, code=error.code)
        if isinstance(error, NoPersonFound):
            self.cutout(found=False)

    def kept_answers(self, photos: int) -> None:
        """So many photos of a batch did not need the network."""
        self._add("bgclient_kept_answers_total", photos)

    def cutout(self, *, found: bool) -> None:
        """A photo was looked at to its end; ``found``: there was a person in it."""
        self._add("bgclient_cutouts_total", 1, person="found" if found else "none")
