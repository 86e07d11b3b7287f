import pytest

from bgbench.cli import main


def test_an_unknown_scenario_is_answered_with_the_known_ones(capsys):
    assert main(["run", "--only", "everything"]) == 1
    assert "bare_network" in capsys.readouterr().err


def test_a_wrong_option_is_a_usage_error(capsys):
    assert main(["run", "--colour", "red"]) == 2
    assert "colour" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["install", "run", "rivals", "report", "compare", "stroke"])
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_a_report_without_results_fails_with_a_sentence(tmp_path, capsys):
    assert main(["report", "--results", str(tmp_path), "--out", str(tmp_path / "R.md")]) == 1
    assert "has no result file" in capsys.readouterr().err


def test_two_files_are_compared(tmp_path, capsys):
    from bgbench.results import Case, Result, Series

    for name, value in (("a", 100.0), ("b", 40.0)):
        case = Case(
            scenario="s", setting={}, tool="timer", series={"latency": Series(unit="ms", values=[value] * 9)}
        )
        Result(set="cpu", started="", environment={}, cases=[case]).write(tmp_path / f"{name}.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert "faster 2.50 times" in capsys.readouterr().out


def test_a_scenario_that_fails_is_told_and_the_others_are_measured(tmp_path, monkeypatch, capsys):
    from bgbench.errors import ToolFailed
    from bgbench.measure import scenarios
    from bgbench.results import Case, Result, Series

    def broken(bench):
        raise ToolFailed("the tool broke")
        yield

    def whole(bench):
        yield Case(
            scenario="s", setting={}, tool="timer", series={"latency": Series(unit="ms", values=[1.0])}
        )

    network = tmp_path / "none.onnx"
    monkeypatch.setattr(scenarios.Bench, "network", network)
    monkeypatch.setattr(scenarios.Bench, "served", type("Served", (), {"describe": lambda self: {}})())
    monkeypatch.setattr(scenarios, "SCENARIOS", (broken, whole))
    out = tmp_path / "r.json"
    assert main(["run", "--out", str(out)]) == 1
    assert "broken failed: the tool broke" in capsys.readouterr().err
    written = Result.read(out)
    assert [case.scenario for case in written.cases] == ["s"]
    assert written.failures == ["broken: ToolFailed: the tool broke"]
