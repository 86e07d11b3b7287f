"""The parsers, on what perf_analyzer 2.50.0 really wrote (``captured/``)."""

import base64
import json
import os
from pathlib import Path

import pytest

from bgbench.errors import ToolFailed, ToolMissing, Unreadable
from bgbench.measure import perf

CAPTURED = Path(__file__).with_name("captured")


def test_the_export_s_requests_are_read_between_the_raw_bytes_of_photos():
    content = (CAPTURED / "profile_export.json").read_bytes()
    with pytest.raises(
        UnicodeDecodeError
    ):  # JPEG bytes lie in it as they are: no JSON parser reads this file
        content.decode()
    found = perf.parse_export(content)
    assert len(found.latencies_ms) == 6
    # the same requests, as the tool itself summed them up: mean and 99th percentile in ms, inferences a second
    assert sum(found.latencies_ms) / 6 == pytest.approx(912.61, rel=0.01)
    assert max(found.latencies_ms) == pytest.approx(1174.547, rel=0.001)
    assert 6 / found.window_s == pytest.approx(1.96852, rel=1e-5)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xd8\xff", b'{"experiments":[]}'])
def test_something_else_than_an_export_is_refused(content):
    with pytest.raises(Unreadable, match="not a profile export"):
        perf.parse_export(content)


def test_a_photo_carries_its_length_inside_the_base64(tmp_path):
    path = perf.write_photos(tmp_path / "in.json", [b"\xff\xd8\xff\xe0 photo"])
    (entry,) = json.loads(path.read_text())["data"]
    assert base64.b64decode(entry["photo"]["content"]["b64"]) == b"\x0a\0\0\0\xff\xd8\xff\xe0 photo"
    assert entry["photo"]["shape"] == [1]


def tool(tmp_path, body):
    """A perf_analyzer that does what ``body`` (shell) says; its arguments end up in the file ``arguments``."""
    binary = tmp_path / "perf_analyzer"
    binary.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/arguments"\n'
        'while [ $# -gt 0 ]; do case "$1" in --profile-export-file) export="$2";; esac; shift; done\n'
        f"{body}\n"
    )
    binary.chmod(0o755)
    return perf.PerfAnalyzer(binary)


COPY = f'cp "{CAPTURED}/profile_export.json" "$export"'


def test_a_measurement_brings_requests_and_the_command(tmp_path):
    measured = tool(tmp_path, COPY).measure(
        "cutout",
        "localhost:8001",
        data=Path("/somewhere/photos.json"),
        concurrency=2,
        count=6,
        headers={"key": "secret"},
    )
    assert len(measured.requests.latencies_ms) == 6
    assert measured.notes == []
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[arguments.index("--concurrency-range") + 1] == "2"
    assert arguments[arguments.index("--request-count") + 1] == "6"
    assert arguments[arguments.index("--input-data") + 1] == "/somewhere/photos.json"
    # published without the folders of this machine
    assert measured.command[measured.command.index("--input-data") + 1] == "photos.json"
    assert not any(word.startswith("/") for word in measured.command)
    # nor what opens the server
    assert arguments[arguments.index("-H") + 1] == "key:secret"
    assert not any("secret" in word for word in measured.command)


def test_shared_memory_gets_its_room(tmp_path):
    tool(tmp_path, COPY).measure(
        "net", "http://localhost:8000", protocol="http", concurrency=1, shared_memory_bytes=4096
    )
    arguments = " ".join((tmp_path / "arguments").read_text().splitlines())
    assert "--shared-memory system --output-shared-memory-size 4096" in arguments
    assert "-u localhost:8000 -i http" in arguments
    assert "--input-data random" in arguments


def test_an_unstable_load_is_said_and_has_no_figures(tmp_path):
    measured = tool(tmp_path, 'echo "Failed to obtain stable measurement."; exit 2').measure(
        "net", "x", concurrency=1
    )
    assert measured.requests is None
    assert measured.notes[0].startswith("unstable: perf_analyzer saw no three windows")


def test_no_answer_within_a_window_is_unstable_too(tmp_path):
    measured = tool(tmp_path, 'echo "No valid requests recorded within time interval." >&2; exit 3').measure(
        "net", "x", concurrency=1
    )
    assert measured.notes[0].startswith("unstable")


def test_failed_requests_are_an_error_with_the_tool_s_last_words(tmp_path):
    failing = tool(tmp_path, 'echo "error: failed to get model metadata" >&2; exit 99')
    with pytest.raises(ToolFailed, match="ended with 99: error: failed to get model metadata"):
        failing.measure("nosuch", "x", concurrency=1)


def test_a_missing_tool_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="python -m bgbench install"):
        perf.PerfAnalyzer.find(tmp_path)


def test_the_tool_on_path_is_preferred(tmp_path, monkeypatch):
    tool(tmp_path, "echo 3.0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = perf.PerfAnalyzer.find(tmp_path / "cache")
    assert found.binary == tmp_path / "perf_analyzer"
    assert found.version() == "3.0"
