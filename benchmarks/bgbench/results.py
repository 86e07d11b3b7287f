"""A benchmark's result as data: raw values with units, what was run, on what; tables are made from it later.

Result                    one run, one JSON file
├── environment           machine, versions, commit, contract, backends that really ran (``environment``)
└── cases: Case           one scenario in one setting
    └── series: Series    raw values of one quantity; warm-up values apart
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bgbench.errors import BrokenResult
from bgbench.statistics import STEADY, Summary, drift, summary

SCHEMA = 1
"""Raised when the meaning of a field changes."""
UNITS = ("ms", "s", "photos/s", "MB", "GFLOP", "GFLOP/s", "GB/s", "ratio", "count", "thousands", "levels")
OTHERS_LIMIT = 0.15
"""Share of the machine's cores that other programs may use before a case counts as disturbed."""
SHORT_MS = 10.0
"""A shorter part of a longer case may move as it likes: that is what the clock and the threads make of it."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Raw values of one quantity, in the order in which they were measured."""

    unit: str
    """One of ``UNITS``."""
    values: list[float]
    warm_up: list[float] = field(default_factory=list)
    """Measured first, and not counted."""

    def __post_init__(self) -> None:
        """Refuse what no table could show."""
        if self.unit not in UNITS:
            raise ValueError(f"Series.unit={self.unit!r}: unknown; use one of {', '.join(UNITS)}")
        if any(not isinstance(value, int | float) or value != value for value in self.values):
            raise ValueError(
                "Series.values has something that is not a number; leave it out and say so in the notes"
            )

    @property
    def summary(self) -> Summary:
        """Percentiles of ``values``."""
        return summary(self.values)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scenario in one setting."""

    scenario: str
    """Its name in ``scenarios``."""
    setting: dict[str, Any]
    """What distinguishes it from the scenario's other cases, such as {"transport": "grpc", "megapixels": 12}."""
    tool: str
    """What measured: perf_analyzer, open loop, closed loop, timer."""
    series: dict[str, Series]
    command: list[str] = field(default_factory=list)
    """How the tool was called."""
    others: float | None = None
    """Share of the cores that programs other than ours used meanwhile, 0..1."""
    notes: list[str] = field(default_factory=list)
    """What a reader must know: failures, saturation, instability as the tool says it."""

    @property
    def doubts(self) -> list[str]:
        """Why the case should be run again; empty for a steady one."""
        found = [note for note in self.notes if note.startswith("unstable")]
        if self.others is not None and self.others > OTHERS_LIMIT:
            found.append(f"other programs used {self.others:.0%} of the cores")
        # open-loop latencies follow the queue, not only the machine
        closed = self.tool in ("timer", "closed loop")
        for name, series in self.series.items():
            if closed and self._counts(series) and (moved := drift(series.values)) > STEADY:
                found.append(f"{name} moved by {moved:.0%} during the measurement")
        return found

    def _counts(self, series: Series) -> bool:
        """Whether it is a time that says something of the machine."""
        if series.unit not in ("ms", "s") or not series.values:
            return False
        alone = sum(one.unit in ("ms", "s") for one in self.series.values()) == 1
        return alone or series.summary.p50 * {"ms": 1, "s": 1e3}[series.unit] >= SHORT_MS

    def value(self, name: str) -> float:
        """Median of a series. ``BrokenResult`` where the case has none of that name."""
        if name not in self.series:
            raise BrokenResult(
                f"{self.scenario} {self.setting} has no {name!r}, only {', '.join(self.series)}"
            )
        return self.series[name].summary.p50


@dataclass(kw_only=True)
class Result:
    """One run."""

    set: str
    """What was measured: a variant of the server (cpu, onnx-gpu, trt), rivals, chaos, ..."""
    started: str
    """UTC, ISO 8601."""
    environment: dict[str, Any]
    cases: list[Case] = field(default_factory=list)
    seconds: float = 0.0
    """The whole run."""
    failures: list[str] = field(default_factory=list)
    """Scenarios that could not be measured, and why."""
    schema: int = SCHEMA

    def of(self, scenario: str, **setting: Any) -> Iterator[Case]:
        """The cases of a scenario whose setting has these values."""
        for case in self.cases:
            if case.scenario == scenario and setting.items() <= case.setting.items():
                yield case

    def differs(self, earlier: Result) -> str | None:
        """Why cases of ``earlier`` cannot be kept with these (another machine, network or commit); None: they can."""
        for fact in ("device", "network", "commit"):
            if earlier.environment.get(fact) != self.environment.get(fact):
                return f"another {fact}"
        commit = self.environment.get("commit")
        return None if commit and not commit.endswith("+") else "code that no commit holds"

    def keep(self, path: Path, wanted: Callable[[Case], bool]) -> None:
        """Begin with the ``wanted`` cases of an earlier file. ``BrokenResult`` where it ``differs``."""
        earlier = Result.read(path)
        if (difference := self.differs(earlier)) is not None:
            raise BrokenResult(f"{path} is of {difference}; measure all of it again, without --add")
        self.cases = [case for case in earlier.cases if wanted(case)]
        self.environment["kept"] = [
            *earlier.environment.get("kept", []),
            f"{earlier.started}, commit {earlier.environment['commit']}",
        ]

    def write(self, path: Path) -> None:
        """JSON; the raw values of a series on one line, so that a diff can be read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_json(dataclasses.asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read what ``write`` wrote. ``BrokenResult`` names the file and what is wrong with it."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields.get("schema") != SCHEMA:
                raise BrokenResult(
                    f"{path} has schema {fields.get('schema')}, this program reads {SCHEMA}; run it again"
                )
            cases = [
                Case(**{**case, "series": {name: Series(**one) for name, one in case["series"].items()}})
                for case in fields.pop("cases")
            ]
            return cls(**fields, cases=cases)
        except OSError as error:
            raise BrokenResult(f"{path} cannot be read: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BrokenResult(f"{path} is not a result of bgbench: {error}") from error


def _json(value: Any, indent: int = 0) -> str:
    """Indented JSON, but lists of plain values on one line and floats with six digits."""
    pad = " " * (indent + 1)
    if isinstance(value, dict) and value:
        lines = ",\n".join(
            f"{pad}{json.dumps(str(key))}: {_json(one, indent + 1)}" for key, one in value.items()
        )
        return f"{{\n{lines}\n{' ' * indent}}}"
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        lines = ",\n".join(pad + _json(one, indent + 1) for one in value)
        return f"[\n{lines}\n{' ' * indent}]"
    if isinstance(value, list):
        return "[" + ", ".join(_json(one) for one in value) + "]"
    if isinstance(value, float):
        return json.dumps(float(f"{value:.6g}"))
    return json.dumps(value, ensure_ascii=False)
