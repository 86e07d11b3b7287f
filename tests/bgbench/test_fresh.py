"""What an installation takes: the table in docs/client.md."""

import sys
from pathlib import Path

import pytest

from bgbench.measure import fresh
from bgbench.results import Result

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results" / "fresh").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_table_in_the_docs_is_made_from_the_committed_values(path):
    assert fresh.table(Result.read(path)) in (ROOT / "docs" / "client.md").read_text()


def test_a_fresh_process_imports_and_cuts_and_says_how_long_each_took(monkeypatch):
    monkeypatch.delenv("BGCLIENT_URL", raising=False)
    series = fresh.first_cuts(sys.executable, runs=2)
    assert set(series) == {"import", "import, CPU", "first cut-out", "first cut-out, CPU"}
    for one in series.values():
        assert len(one.warm_up) == len(one.values) == 1
        assert one.values[0] > 0


def test_a_file_with_two_names_takes_the_disk_once(tmp_path):
    (tmp_path / "one").write_bytes(bytes(1_000_000))
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert fresh.megabytes(tmp_path) == pytest.approx(1.0, abs=0.1)
