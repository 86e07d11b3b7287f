"""The page as static files: what is written, what is refused, and a photo cut with nothing but a file server."""

from __future__ import annotations

import functools
import gzip
import http.server
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bgclient import Client
from bgclient.cli import main
from bgclient.errors import OptionError, TargetError
from bgclient.web import page
from bgclient.web.errors import AssetsMissing, FolderTaken
from bgclient.web.export import export

from .browser import Visit
from .support import opened, same

ROOT = Path(__file__).parents[2]


@pytest.fixture
def static(tmp_path, monkeypatch):
    """The page's files with a runtime of three bytes each, so that no test here needs npm."""
    ignored = shutil.ignore_patterns("vendor", "network.onnx")
    static = shutil.copytree(page.STATIC, tmp_path / "page", ignore=ignored)
    (static / "vendor").mkdir()
    for name in page.ON_DEVICE:
        (static / name).write_bytes(gzip.compress(b"raw") if name.endswith(".gz") else b"raw")
    monkeypatch.setattr(page, "STATIC", static)
    return static


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_export_holds_what_the_page_loads_with_the_runtime_unpacked_and_nothing_of_the_server(
    static, tmp_path
):
    out = tmp_path / "a" / "site"
    written = export(out)
    assert {path.relative_to(out).as_posix() for path in written} == files_of(out)
    names = files_of(out)
    assert {"index.html", "static/style.css", "static/js/main.js", "static/network.onnx"} <= names
    assert (out / "static/vendor/ort-wasm-simd-threaded.wasm").read_bytes() == b"raw"
    assert not any(name.endswith(".gz") or "docs" in name for name in names)
    assert '<html lang="en" data-only="device">' in (out / "index.html").read_text()


def test_an_earlier_export_is_written_over(static, tmp_path):
    out = tmp_path / "site"
    export(out)
    (out / "static" / "style.css").write_text("old")
    (out / "static" / "icon.svg").unlink()  # as where an export was stopped
    export(out)
    assert (out / "static" / "style.css").read_bytes() == (static / "style.css").read_bytes()
    assert (out / "static" / "icon.svg").exists()


@pytest.mark.parametrize("name", ["thesis.odt", "index.html", "static/notes.txt", ".git/config"])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(static, tmp_path, name):
    mine = tmp_path / "site" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(FolderTaken, match=f"such as {name}") as caught:
        export(tmp_path / "site")
    assert isinstance(caught.value, OptionError)
    assert files_of(tmp_path / "site") == {name}
    assert mine.read_text() == "mine"


def test_a_strange_file_or_a_link_in_an_earlier_export_is_refused(static, tmp_path):
    out = tmp_path / "site"
    export(out)
    (out / "CNAME").write_text("example.com")
    with pytest.raises(FolderTaken, match="such as CNAME"):
        export(out)
    (out / "CNAME").unlink()
    elsewhere = tmp_path / "elsewhere.css"
    elsewhere.write_text("mine")
    (out / "static" / "style.css").unlink()
    (out / "static" / "style.css").symlink_to(elsewhere)
    with pytest.raises(FolderTaken, match="such as static/style"):
        export(out)
    assert elsewhere.read_text() == "mine"


def test_a_file_in_the_folders_place_is_an_error_that_names_it(static, tmp_path):
    (tmp_path / "site").write_text("mine")
    with pytest.raises(TargetError, match="site"):
        export(tmp_path / "site")
    assert (tmp_path / "site").read_text() == "mine"


@pytest.mark.parametrize("name", ["network.onnx", "vendor/ort-wasm-simd-threaded.wasm.gz"])
def test_without_network_or_runtime_nothing_is_written(static, tmp_path, name):
    (static / name).unlink()
    with pytest.raises(AssetsMissing, match=f"{name} .*make web-assets"):
        export(tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_the_command_says_what_is_missing_with_status_4(static, tmp_path, monkeypatch, capsys):
    (static / "network.onnx").unlink()
    monkeypatch.setattr(sys, "argv", ["bgclient", "web", "--export", str(tmp_path / "site")])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 4
    assert said.count("\n") == 1
    assert "make web-assets" in said


def bgclient_web(*arguments):
    command = [sys.executable, "-m", "bgclient", "web", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_options_of_a_server_are_refused_beside_export(tmp_path):
    done = bgclient_web("--export", tmp_path / "site", "--port", "80")
    assert done.returncode == 2
    assert "--port is for a server" in done.stderr
    assert not (tmp_path / "site").exists()


@contextmanager
def plain_http_server(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        asked: list[tuple[str, str]] = []  # noqa: RUF012

        def log_message(self, *_):
            self.asked.append((self.command, self.path))

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Quiet.asked
        server.shutdown()


@pytest.mark.browser
@pytest.mark.slow
def test_an_exported_page_cuts_a_photo_as_the_server_does_with_nothing_but_a_file_server(chromium, tmp_path):
    missing = page.missing_assets()
    if missing:
        pytest.skip(f"not there: {', '.join(missing)}; make web-assets fetches ONNX Runtime from npm")
    site = tmp_path / "sites" / "bgclient"  # under a path, as project pages are
    done = bgclient_web("--export", site)
    assert done.returncode == 0, done.stderr
    assert "python -m http.server" in done.stderr
    photo = tmp_path / "two.png"
    pair = Image.new("RGB", (792, 512), (60, 70, 60))
    for name, crop, size, place in (
        ("camera.png", (0, 0, 512, 512), (512, 512), (0, 0)),
        ("astronaut.png", (80, 0, 360, 280), (280, 280), (512, 232)),
    ):
        with Image.open(ROOT / "examples" / name) as one:
            pair.paste(one.crop(crop).resize(size), place)
    pair.save(photo)
    with plain_http_server(site.parent) as (address, asked):
        here = Visit(chromium, f"{address}/bgclient")
        assert "nothing is sent" in here.one("#privacy").text
        here.put(photo)
        here.until_done()
        for css in ("#device-switch", '[href="docs"]', "#main-only"):
            assert not here.one(css).is_displayed(), css
        assert "server" not in here.one("body").text.lower()
        assert here.one("#facts").text == "792 × 512 pixels, cut on this device"

        def matte():
            return np.asarray(opened(here.downloaded("#download", "two-cutout.png")))[..., 3]

        both = matte()
        here.record_marks()
        here.click("#brush-remove")
        here.script("document.querySelector('#brush-size').value = 12")
        here.draw("pen", (0.72, 0.7), (0.72, 0.98))
        here.until(lambda: here.pixel("#after", 0.72, 0.95)[3] == 0, "the other is removed")
        here.until_done()
        left, marks = matte(), here.marks()[-1]
        hosts = here.script(
            "return [...new Set(performance.getEntriesByType('resource').map(e => new URL(e.name).host))]"
        )
        assert here.complaints() == []
    assert {method for method, _ in asked} == {"GET"}
    assert all(path.startswith("/bgclient/") for _, path in asked), asked
    assert set(hosts) <= {"", address.removeprefix("http://")}
    with Client(engine="onnxruntime") as client:
        same(both, client.cut(photo).matte)
        same(left, client.cut(photo, **marks).matte)
    assert both[:, 560:].max() == 255
    assert left[:, 560:].max() == 0
