"""What is said about raw values: percentiles with their uncertainty, whether a series held still, where the knee is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bgtrain.statistics import resampled

STEADY = 0.15
"""Largest allowed difference between the medians of a series' thirds, over the median of all."""
CONFIDENCE = 0.95
DRAWS = 1000
"""Of the bootstrap."""
FEW = 6
"""Below so many values an interval of the median is their range, and nothing is said about drift."""


@dataclass(frozen=True)
class Summary:
    """Of one series, in the unit of its values."""

    count: int
    mean: float
    p50: float
    p95: float
    """NaN below 20 values: nothing lies beyond it then."""
    p99: float
    """NaN below 100 values."""
    low: float
    """Lower end of the 95 % interval of the median, for few values of their range."""
    high: float
    """Upper end."""


def summary(values: Sequence[float]) -> Summary:
    """``Summary`` of at least one value; ``ValueError`` without any."""
    if not len(values):
        raise ValueError("a summary of no values; nothing was measured")
    array = np.asarray(values, np.float64)
    low, high = median_interval(values)

    def percentile(share: float, least: int) -> float:
        return float(np.percentile(array, share)) if len(array) >= least else math.nan

    return Summary(
        len(array), float(array.mean()), percentile(50, 1), percentile(95, 20), percentile(99, 100), low, high
    )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Bootstrap interval of the median at ``CONFIDENCE``, the range of ``FEW`` values; the same for the same values."""
    array = np.asarray(values, np.float64)
    if len(array) < FEW:
        return float(array.min()), float(array.max())
    medians = np.median(array[resampled(len(array), DRAWS)], axis=1)
    low, high = np.percentile(medians, (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)))
    return float(low), float(high)


def drift(values: Sequence[float]) -> float:
    """Spread of the medians of the first, middle and last third over the median of all; 0 below ``FEW`` values."""
    array = np.asarray(values, np.float64)
    if len(array) < FEW or not np.median(array):
        return 0.0
    medians = [float(np.median(third)) for third in np.array_split(array, 3)]
    return (max(medians) - min(medians)) / float(np.median(array))


def knee(throughputs: Sequence[float], latencies: Sequence[float]) -> int:
    """Index of the point with the greatest throughput over latency, Kleinrock's "power" (ICC 1979).

    Below it a little latency buys much throughput, above it the other way round.
    """
    if len(throughputs) != len(latencies) or not len(throughputs):
        raise ValueError(
            f"{len(throughputs)} throughputs for {len(latencies)} latencies; give one of each a point"
        )
    return int(np.argmax(np.asarray(throughputs, np.float64) / np.asarray(latencies, np.float64)))
