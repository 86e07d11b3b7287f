"""The documentation says what is: its examples run, its tables are complete."""

import doctest
import re

import pytest
from PIL import Image
from typer.main import get_command

from bgclient.cli import app
from bgclient.cli._console import Status


def examples_of(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_client_s_page_run_one_after_another(
    root, run_python, grpc_server, jpeg, tmp_path
):
    blocks = examples_of(root / "docs" / "client.md")
    assert len(blocks) >= 9
    for name in ("me.jpg", "you.jpg"):
        (tmp_path / name).write_bytes(jpeg)
    (tmp_path / "nobody.jpg").write_bytes(jpeg[:200])
    script = "\n".join([f"import os; os.chdir({str(tmp_path)!r})", *blocks])
    done = run_python(script, BGCLIENT_URL=grpc_server.url)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"me.png", "me.webp", "me-on-white.jpg", "0.png", "1.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert "broken_photo" in done.stdout


def test_the_examples_of_the_readme_run_and_print_what_it_says(root, run_python, grpc_server, tmp_path):
    session, script = examples_of(root / "README.md")
    Image.open(root / "examples" / "astronaut.png").save(tmp_path / "me.jpg", quality=95)
    photo = (tmp_path / "me.jpg").read_bytes()
    examples = doctest.DocTestParser().get_examples(session)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(photo)
    here = f"import os; os.chdir({str(tmp_path)!r})\n"
    lines = [f"print({one.source.strip()})" if one.want else one.source for one in examples]
    done = run_python(here + "\n".join(lines))
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = "".join(one.want for one in examples)
    # figures differ by a pixel from processor to processor
    shown, wanted = (re.sub(r"\d+", "9", text) for text in (done.stdout, wanted))
    assert doctest.OutputChecker().check_output(wanted, shown, doctest.ELLIPSIS), done.stdout
    assert {"me.png", "me-on-white.jpg"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "me.jpg").read_bytes() == photo
    done = run_python(here + script.replace("gpu-host:8001", grpc_server.url), BGCLIENT_URL=grpc_server.url)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "photos" / "one.png").exists()


@pytest.mark.parametrize("command", ["cut", "serve", "web", "mcp", "info", "doctor"])
def test_every_command_and_every_option_of_cut_stands_on_the_page(root, command):
    page = (root / "docs" / "cli.md").read_text()
    assert f"bgclient {command}" in page
    if command == "cut":
        for option in get_command(app).commands["cut"].params:
            for name in option.opts if option.param_type_name == "option" else ():
                assert f"`{name}" in page, name


def test_every_exit_status_stands_on_the_page_and_in_the_module(root):
    import bgclient.cli

    page = (root / "docs" / "cli.md").read_text()
    for status in Status:
        assert f"| {int(status)} |" in page
        assert re.search(rf"^    {int(status)} ", bgclient.cli.__doc__, re.MULTILINE)
