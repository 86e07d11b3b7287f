"""What can go wrong with a benchmark.

BenchError(BgError)
├── ToolMissing      perf_analyzer, a rival or a package is not installed; the message says how to
├── ToolFailed       it is installed and did not do its work; the message carries its last words
├── BrokenResult     a result file that is not what ``results`` writes
└── Unreadable       output of a tool that the parsers do not know
"""

from __future__ import annotations

from typing import ClassVar

from bgimage.errors import BgError


class BenchError(BgError):
    """A benchmark could not be made."""

    code: ClassVar[str] = "benchmark"


class ToolMissing(BenchError):
    """Something that a benchmark drives is not installed."""

    code = "tool_missing"


class ToolFailed(BenchError):
    """Something that a benchmark drives did not do its work."""

    code = "tool_failed"


class BrokenResult(BenchError):
    """A result file that cannot be used."""

    code = "broken_result"


class Unreadable(BenchError):
    """The output of a tool is not what its parser knows."""

    code = "unreadable"
