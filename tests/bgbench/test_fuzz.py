"""The fuzzer must start from photos, and find what it looks for."""

import dataclasses

import numpy as np
import pytest

from bgbench import fuzz
from bgbench.errors import ToolMissing
from bgbench.report.chaos import write
from bgbench.results import Result

from .test_chaos import result as chaos_result


def test_every_seed_is_a_photo_and_every_format_has_one():
    seeds = fuzz.seeds()
    assert {name: fuzz.check(data) for name, data in seeds.items()} == dict.fromkeys(seeds, "photo")
    assert {name.split("-")[1] for name in seeds} >= {"jpeg", "png", "webp", "avif", "tiff", "bmp", "gif"}


def test_a_refusal_is_its_code():
    assert fuzz.check(b"") == "empty_photo"
    assert fuzz.check(b"no photo") == "unknown_format"


def test_a_photo_that_is_not_what_its_header_said_is_a_crash(monkeypatch):
    def other(*arguments, **settings):
        return dataclasses.replace(real(*arguments, **settings), size_hw=(1, 1))

    real = fuzz.decode
    monkeypatch.setattr(fuzz, "decode", other)
    with pytest.raises(AssertionError, match="the header says"):
        fuzz.check(fuzz.seeds()["00-jpeg"])


PLANTED = """
import sys
from bgbench import fuzz

def check(data):
    if data[:4] == b"RIFF":
        raise ZeroDivisionError("planted")
    return "photo"

fuzz.check = check
fuzz.child(sys.argv[1], sys.argv[2:])
"""


def test_a_defect_is_found_with_the_bytes_that_show_it(monkeypatch, tmp_path):
    pytest.importorskip("atheris", reason="no atheris for this platform")
    monkeypatch.setattr(fuzz, "_CHILD", PLANTED)
    executions, _, crashes = fuzz.fuzz(4.0, tmp_path)
    assert executions > 0
    assert "planted" in crashes[0]["said"]
    assert bytes.fromhex(crashes[0]["hex"])[:4] == b"RIFF"


def test_memory_of_the_process_that_starts_the_fuzzer_does_not_count(monkeypatch):
    monkeypatch.setattr(fuzz, "MEMORY_MB", 600)
    touched = np.ones(700 << 20, np.uint8)
    assert touched.all()
    try:
        result = fuzz.run(2.0)
    except ToolMissing as error:
        pytest.skip(str(error))
    assert result.cases[0].notes == []


def test_some_seconds_of_the_real_decoder_are_counted_and_reported(tmp_path):
    try:
        result = fuzz.run(5.0)
    except ToolMissing as error:
        pytest.skip(str(error))
    (case,) = result.cases
    assert case.value("executions") > 0
    assert case.notes == [], "a crash"
    chaos_result({"cut-out": 9}).write(tmp_path / "results" / "chaos" / "a-120s.json")
    result.write(tmp_path / "results" / "fuzz" / "a.json")
    assert Result.read(tmp_path / "results" / "fuzz" / "a.json").cases == result.cases
    text = write(tmp_path / "results", tmp_path / "CHAOS.md").read_text()
    assert f"{case.value('executions'):.0f} inputs" in text
    assert "**0 crashes**" in text
