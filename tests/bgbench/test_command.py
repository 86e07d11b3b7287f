"""Exit statuses of the benches' program, and a result that is written before it is judged."""

import pytest

from bgbench import cli
from bgbench.errors import ToolMissing
from bgbench.results import Result


def raising(error):
    def act(*args):
        raise error

    return act


def test_a_failure_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cli.Result, "read", raising(ToolMissing("no hammer")))
    assert cli.main(["compare", "a.json", "b.json"]) == 1
    assert capsys.readouterr().err == "ToolMissing: no hammer\n"


def test_ctrl_c_is_not_a_success(monkeypatch):
    monkeypatch.setattr(cli.Result, "read", raising(KeyboardInterrupt()))
    assert cli.main(["compare", "a.json", "b.json"]) == 130


def test_a_result_with_faults_is_written_all_the_same(tmp_path, capsys):
    target = tmp_path / "results" / "a.json"
    result = Result(set="chaos", started="2026-01-01T00:00:00Z", environment={})
    with pytest.raises(SystemExit, match="one thing\nanother"):
        cli.conclude(result, target, ["one thing", "another"])
    assert Result.read(target) == result
    assert capsys.readouterr().out == f"{target}\n"
    cli.conclude(result, target, [])
