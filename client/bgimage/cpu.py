"""What the kernel says of the processor."""

from __future__ import annotations

import platform
from pathlib import Path


def facts() -> dict[str, str]:
    """The first core's lines of ``/proc/cpuinfo``: name to value. Empty on systems without that file."""
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def flags() -> set[str]:
    """Instruction sets in the kernel's names ("avx2", "avx512_bf16"). Empty where the kernel names none."""
    return set(facts().get("flags", "").split())


def model() -> str:
    """The processor's name ("AMD EPYC"), else its architecture ("arm64")."""
    return facts().get("model name", platform.machine())
