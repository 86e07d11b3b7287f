"""The tools of ``bgclient mcp``, called by the official SDK's client over stdio, with the network in that process."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")
pytest.importorskip("onnxruntime")

from mcp.client import Client as Caller
from mcp.client.stdio import StdioServerParameters, stdio_client

from bgclient import Client
from bgclient.errors import FolderNotAllowed, OptionError
from bgclient.mcp import Folders


@pytest.fixture
def photos(root, tmp_path):
    """Two folders, of which one is allowed; a photo in each, and one of nobody."""
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed, other):
        folder.mkdir()
        (folder / "me.png").write_bytes((root / "examples" / "astronaut.png").read_bytes())
    Image.new("RGB", (200, 150), (90, 120, 150)).save(allowed / "sky.png")
    (allowed / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    (allowed / "way-out").symlink_to(other)
    (allowed / "out.png").symlink_to(other / "new.png")  # leads to nothing yet
    return tmp_path


def spoken(folder, *arguments):
    """A caller of a server process whose current folder is ``folder``."""
    arguments = ["-m", "bgclient", "mcp", "--engine", "onnxruntime", *map(str, arguments)]
    return Caller(
        stdio_client(StdioServerParameters(command=sys.executable, args=arguments, cwd=folder)),
        read_timeout_seconds=120,
    )


async def test_a_program_cuts_mattes_and_checks_photos_of_its_folder_and_no_others(photos):
    allowed, other = photos / "allowed", photos / "other"
    async with spoken(photos, "--folder", allowed) as caller:
        tools = {tool.name: tool for tool in (await caller.list_tools()).tools}
        assert set(tools) == {"cut", "matte", "check"}
        assert all(tool.output_schema for tool in tools.values())
        assert tools["check"].annotations.read_only_hint

        before = set(os.listdir(allowed))
        checked = (await caller.call_tool("check", {"photo": "me.png"})).structured_content
        assert set(os.listdir(allowed)) == before, "nothing is written"
        cut = (await caller.call_tool("cut", {"photo": str(allowed / "me.png")})).structured_content
        arguments = {"photo": "me.png", "output": "matte.png"}
        matte = (await caller.call_tool("matte", arguments)).structured_content
        nobody = (await caller.call_tool("check", {"photo": "sky.png"})).structured_content

        refused = []
        for tool, arguments, code in (
            ("check", {"photo": str(other / "me.png")}, "folder_not_allowed"),
            ("check", {"photo": "../other/me.png"}, "folder_not_allowed"),
            ("check", {"photo": "way-out/me.png"}, "folder_not_allowed"),
            ("cut", {"photo": "me.png", "output": str(other / "x.png")}, "folder_not_allowed"),
            ("cut", {"photo": "me.png", "output": "way-out/x.png"}, "folder_not_allowed"),
            ("cut", {"photo": "me.png", "output": "out.png"}, "folder_not_allowed"),
            ("cut", {"photo": "me.png"}, "cannot_write"),  # it is there by now
            ("cut", {"photo": "sky.png", "output": "me.png"}, "cannot_write"),
            ("cut", {"photo": "me.png", "output": "x.jpg"}, "bad_option"),
            ("cut", {"photo": "me.png", "output": "x.png", "background": "no colour"}, "bad_option"),
            ("cut", {"photo": "sky.png"}, "no_person_found"),
            ("check", {"photo": "missing.png"}, "unreadable_source"),
            ("check", {"photo": "http://127.0.0.1:9/me.png"}, "unreadable_source"),
            ("check", {"photo": "a\0b"}, "bad_option"),
            ("check", {"photo": "broken.jpg"}, "broken_photo"),
        ):
            answer = await caller.call_tool(tool, arguments)
            refused.append((tool, code, answer.is_error, answer.content[0].text))
    for tool, code, is_error, text in refused:
        assert is_error
        assert text.startswith(f"Error executing tool {tool}: {code}: ")
        assert "\n" not in text
    assert set(os.listdir(other)) == {"me.png"}
    assert set(os.listdir(allowed)) == before | {"me-cut.png", "matte.png"}

    with Client(engine="onnxruntime") as client:
        right = client.cut(allowed / "me.png")
    facts = {"people": True, "box": list(right.box), "expected_iou": round(right.expected_iou, 4)}
    assert checked == facts
    more = {"width": 512, "height": 512, "dropped": []}
    assert cut == {**facts, **more, "path": str(allowed / "me-cut.png")}
    assert matte == {**facts, **more, "path": str(allowed / "matte.png")}
    assert (np.asarray(Image.open(allowed / "me-cut.png")) == right.pixels).all()
    assert (np.asarray(Image.open(allowed / "matte.png")) == right.matte).all()
    assert nobody == {"people": False, "box": None, "expected_iou": 0.0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_while_stdin_is_open(tmp_path, number):
    command = [sys.executable, "-m", "bgclient", "mcp", "--folder", str(tmp_path)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as process:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(number)
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()
        assert process.stderr.read() == "bgclient: stopped\n"


def test_a_path_leads_where_its_links_lead_and_begins_in_the_first_folder(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (one / "over").symlink_to(two)
    (tmp_path / "one-more").mkdir()
    folders = Folders([one, two])
    assert folders.path("a.png") == one / "a.png"
    assert folders.path("over/a.png") == two / "a.png"
    with pytest.raises(FolderNotAllowed, match="allowed folders"):
        folders.path("../one-more/a.png")
    with pytest.raises(OptionError, match="not a folder"):
        Folders([tmp_path / "missing"])


def test_no_other_command_loads_the_sdk(run_python):
    done = run_python("import sys, bgclient.cli; print('mcp' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
