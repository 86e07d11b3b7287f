"""Compare two runs: which series changed by more than the noise."""

from __future__ import annotations

from dataclasses import dataclass

from bgbench.results import Case, Result, Series

NOISE = 0.10
"""Smaller changes of a median count as noise. Values measured fewer than three times are never reported as changed."""
BETTER_HIGH = ("photos/s", "GFLOP/s", "GB/s")


@dataclass(frozen=True)
class Change:
    """One series in both runs."""

    case: str
    series: str
    unit: str
    before: float
    after: float
    verdict: str
    """"faster", "slower", or "same"."""

    @property
    def factor(self) -> float:
        """How many times better than before; below 1: worse."""
        return self.after / self.before if self.unit in BETTER_HIGH else self.before / self.after


def _key(case: Case) -> tuple[str, str]:
    """What a case has in common with the same one of another run: not its measured knee."""
    plain = {
        name: value for name, value in case.setting.items() if name not in ("knee", "versions", "device")
    }
    return case.scenario, ", ".join(f"{name} {value}" for name, value in sorted(plain.items()))


def compare(before: Result, after: Result) -> list[Change]:
    """Latencies and rates that both runs have, in the order of the later one."""
    old = {_key(case): case for case in before.cases}
    changes = []
    for case in after.cases:
        if (twin := old.get(_key(case))) is None:
            continue
        for name, series in case.series.items():
            other = twin.series.get(name)
            if other and series.values and other.values and series.unit in ("ms", "s", *BETTER_HIGH):
                changes.append(_change(" ".join(_key(case)), name, other, series))
    return changes


def _change(case: str, name: str, before: Series, after: Series) -> Change:
    old, new = before.summary, after.summary
    change = Change(case, name, after.unit, old.p50, new.p50, "same")
    overlap = old.low <= new.high and new.low <= old.high
    single = min(old.count, new.count) < 3
    if single or old.p50 <= 0 or new.p50 <= 0 or overlap or abs(new.p50 / old.p50 - 1) < NOISE:
        return change
    return Change(case, name, after.unit, old.p50, new.p50, "faster" if change.factor > 1 else "slower")


def strangers(before: Result, after: Result) -> str | None:
    """A warning where the runs are of different machines."""
    one, other = (run.environment.get("device") for run in (before, after))
    return None if one == other else f"different machines: {one} before, {other} after"


def table(changes: list[Change]) -> str:
    """Text: what changed first, then a line about the rest."""
    moved = [one for one in changes if one.verdict != "same"]
    lines = [
        f"{one.verdict} {max(one.factor, 1 / one.factor):.2f} times: {one.case}, {one.series}: "
        f"{one.before:.4g} -> {one.after:.4g} {one.unit}"
        for one in sorted(moved, key=lambda one: one.factor)
    ]
    same = len(changes) - len(moved)
    return "\n".join(
        [*lines, f"{same} of {len(changes)} series did not change beyond {NOISE:.0%} and the noise"]
    )
