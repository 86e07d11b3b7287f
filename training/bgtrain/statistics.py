"""Means over photos, their standard errors, and how both are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_of(values: Iterable[float]) -> dict[str, float]:
    """``mean`` over photos and its standard error ``se``, to five digits."""
    array = np.fromiter(values, np.float64)
    return {"mean": round(float(array.mean()), 5), "se": round(standard_error(array), 5)}


def standard_error(values: ArrayLike) -> float:
    """Of the mean of ``values``; 0 for a single one, which has no spread."""
    array = np.asarray(values, np.float64)
    return float(array.std(ddof=1) / np.sqrt(len(array))) if len(array) > 1 else 0.0


def resampled(count: int, draws: int) -> NDArray[np.int64]:
    """(draws, count): indices of ``count`` values, drawn with replacement (bootstrap); always the same ones."""
    return np.random.default_rng(0).integers(count, size=(draws, count))


def with_error(found: Mapping[str, float], form: str = ".3f") -> str:
    """``mean`` and ``se``, both by a format: "0.917 ± 0.004"."""
    return f"{found['mean']:{form}} ± {found['se']:{form}}"
