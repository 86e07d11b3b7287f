"""What the programs share: exit statuses, and a result that is written before it is judged."""

import pytest

from bgbench import command
from bgbench.errors import ToolMissing
from bgbench.results import Result


@pytest.fixture
def program():
    """Makes a program whose one command, ``go``, does ``act``."""

    def make(act):
        app = command.application("Goes.")
        app.command(name="go")(act)
        return app

    return make


def raising(error):
    def act() -> None:
        raise error

    return act


def test_a_command_alone_keeps_its_name_and_ends_with_0(program, capsys):
    assert command.run(program(lambda: print("gone")), ["go"]) == 0
    assert capsys.readouterr().out == "gone\n"
    assert command.run(program(lambda: None), ["stay"]) == 2


def test_a_failure_is_a_sentence(program, capsys):
    assert command.run(program(raising(ToolMissing("no hammer"))), ["go"]) == 1
    assert capsys.readouterr().err == "ToolMissing: no hammer\n"


def test_ctrl_c_is_no_success(program):
    assert command.run(program(raising(KeyboardInterrupt())), ["go"]) == 130


def test_a_result_with_faults_is_written_all_the_same(tmp_path, capsys):
    target = tmp_path / "results" / "a.json"
    result = Result(set="chaos", started="2026-01-01T00:00:00Z", environment={})
    with pytest.raises(SystemExit, match="one thing\nanother"):
        command.conclude(result, target, ["one thing", "another"])
    assert Result.read(target) == result
    assert capsys.readouterr().out == f"{target}\n"
    command.conclude(result, target, [])
