"""What the kernel says of the processor."""

import platform
from pathlib import Path

from bgimage import cpu


def test_the_first_core_is_described(monkeypatch):
    text = "processor\t: 0\nmodel name\t: A: B\nflags\t\t: fpu avx2\npower management:\n\nprocessor\t: 1\n"
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    assert cpu.facts() == {
        "processor": "0",
        "model name": "A: B",
        "flags": "fpu avx2",
        "power management": "",
    }
    assert cpu.flags() == {"fpu", "avx2"}
    assert cpu.model() == "A: B"


def test_without_the_kernels_file_the_architecture_is_the_name(monkeypatch):
    def missing(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    assert (cpu.facts(), cpu.flags(), cpu.model()) == ({}, set(), platform.machine())
