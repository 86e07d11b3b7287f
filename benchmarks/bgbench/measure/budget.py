"""The highest rate of photos whose 95th percentile of latency stays under a budget, and the setting that reaches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Probe:
    """One rate that was tried."""

    rate: float
    """Photos a second that arrived."""
    p95_ms: float
    throughput: float
    """Photos a second that were answered."""
    steady: bool
    """False where answers fell behind arrivals or failed."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The outcome of a search."""

    budget_ms: float
    best: Probe | None
    """None where even the lowest rate is over the budget."""
    probes: list[Probe] = field(default_factory=list)


def search(
    probe: Callable[[float], Probe], *, budget_ms: float, low: float, high: float, steps: int = 5
) -> Found:
    """Bisect the rate between ``low`` and ``high``: latency grows with the rate, so the border is one point.

    Noise can put a probe on the wrong side; the best probe that was really within the budget is the answer, never an
    interpolation.
    """
    if not 0 < low <= high:
        raise ValueError(f"rates from {low} to {high}; the lowest must be above 0 and not above the highest")
    probes: list[Probe] = []

    def fits(rate: float) -> bool:
        probes.append(probe(rate))
        return probes[-1].steady and probes[-1].p95_ms <= budget_ms

    if fits(low) and not fits(high):
        for _ in range(steps - 2):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
    within = [one for one in probes if one.steady and one.p95_ms <= budget_ms]
    return Found(budget_ms=budget_ms, best=max(within, key=lambda one: one.rate, default=None), probes=probes)
