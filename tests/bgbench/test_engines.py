"""The table of precisions and engines in docs/export.md."""

from pathlib import Path

import pytest

from bgbench.measure import engines
from bgbench.results import Result

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results" / "engines").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_table_in_the_docs_is_made_from_the_committed_values(path: Path) -> None:
    assert engines.table(Result.read(path)) in (ROOT / "docs" / "export.md").read_text()
