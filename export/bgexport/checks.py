"""A check: a name, a value, the limit it is held to, and the error that says it failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bgexport.errors import ExportError


@dataclass(frozen=True)
class Check:
    """One line of a report."""

    name: str
    """What was looked at, in words."""
    value: float
    """What was found; 0 and 1 stand for no and yes."""
    limit: float
    """The largest value that passes (``at_least``: the smallest)."""
    error: type[ExportError]
    """Raised where the check fails."""
    at_least: bool = False
    """The value must not be below the limit, instead of not above it."""

    @property
    def passed(self) -> bool:
        """False as well where the value is not a number."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        return (
            f"{'ok  ' if self.passed else 'FAIL'}  {self.name:<64} {self.value:>10.4g}  "
            f"{'≥' if self.at_least else '≤'} {self.limit:.4g}"
        )

    def to_dict(self) -> dict[str, object]:
        """For the JSON report."""
        return {
            "check": self.name,
            "value": self.value,
            "limit": self.limit,
            "at_least": self.at_least,
            "passed": self.passed,
            "error": self.error.code,
        }


def require(checks: Iterable[Check]) -> None:
    """Raise the error of the first check that failed; the sentence counts the others."""
    failed = [check for check in checks if not check.passed]
    if failed:
        first, others = failed[0], len(failed) - 1
        more = f" ({others} more failed)" if others else ""
        relation = "below" if first.at_least else "above"
        raise first.error(f"{first.name}: {first.value:.4g} is {relation} the limit {first.limit:.4g}{more}")
