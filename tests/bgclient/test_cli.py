"""The command line as its users meet it: files, stdout, stderr and the exit status."""

import itertools
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from bgclient._served import ServerInfo
from bgclient.cli import _cut, _doctor, _run, app
from bgclient.cli._console import CommandError, run_app
from bgclient.cli._info import lines
from bgclient.cli._plan import Job, Plan, plan
from bgclient.cli._server_options import _client
from bgclient.errors import ServerBusy, ServerFault, ServerUnavailable, TargetError
from bgclient.results import Cutout
from bgimage.codec import decode


@pytest.fixture
def bgclient(capfdbinary, monkeypatch, grpc_server):
    """Runs a command line in this process; gives exit status, stdout and stderr."""
    monkeypatch.setenv("BGCLIENT_URL", grpc_server.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bgclient", *map(str, arguments)])
        capfdbinary.readouterr()
        status = run_app(app)
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return types.SimpleNamespace(status=status, out=out, err=err.decode())

    return run


@pytest.fixture
def me(tmp_path, jpeg):
    path = tmp_path / "me.jpg"
    path.write_bytes(jpeg)
    return path


@pytest.fixture
def album(tmp_path, jpeg):
    """A tree of photos with a name that occurs twice, a broken photo, and what is no photo."""
    folder = tmp_path / "album"
    for name in ("a.jpg", "summer/a.jpg", "summer/b.jpeg", "summer/beach/c.JPG", ".hidden/h.jpg", ".d.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg)
    (folder / "summer" / "broken.jpg").write_bytes(jpeg[:300])
    (folder / "notes.txt").write_text("no photo")
    return folder


CUT_OUTS = ["a.png", "summer/a.png", "summer/b.png", "summer/beach/c.png"]


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_photo_becomes_one_png_beside_it(bgclient, me):
    done = bgclient("cut", me)
    assert (done.status, done.out) == (0, b"")
    assert "me-cut.png" in done.err
    assert decode(me.with_name("me-cut.png").read_bytes()).alpha is not None


def test_the_target_s_suffix_says_the_format(bgclient, me):
    assert bgclient("cut", me, me.with_name("out.webp")).status == 0
    assert decode(me.with_name("out.webp").read_bytes()).format == "webp"


def test_a_target_may_be_a_folder(bgclient, me, tmp_path):
    assert bgclient("cut", me, f"{tmp_path}/new/").status == 0
    assert tree(tmp_path / "new") == ["me.png"]


def test_nothing_is_overwritten_without_force(bgclient, me):
    target = me.with_name("out.png")
    target.write_bytes(b"mine")
    done = bgclient("cut", me, target)
    assert done.status == 2
    assert "out.png exists; --force overwrites it" in done.err
    assert target.read_bytes() == b"mine"
    assert bgclient("cut", me, target, "--force").status == 0
    assert target.read_bytes() != b"mine"


@pytest.mark.parametrize(("name", "status"), [("you.jpg", 2), ("me2.jpg", 2), ("me-white.jpg", 0)])
def test_force_overwrites_no_other_photo_but_what_is_named_after_this_one(bgclient, me, jpeg, name, status):
    target = me.with_name(name)
    target.write_bytes(jpeg)
    done = bgclient("cut", me, target, "--bgcolor", "white", "--force")
    assert (done.status, target.read_bytes() == jpeg) == (status, status == 2)
    assert ("may be a photo of yours" in done.err) == (status == 2)


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        (["-om"], "L"),
        (["--only-mask"], "L"),
        (["-bgc", "white"], "RGB"),
        (["--bgcolor", "255,136,0"], "RGB"),
        (["--blur", "4"], "RGB"),
        (["--inverse"], "RGBA"),
        (["--crop", "--margin", "3px"], "RGBA"),
        (["--people", "main", "--edges", "none"], "RGBA"),
        (["--keep", "5,5", "--remove", '[{"points": [[60, 40]], "radius": 2}]'], "RGBA"),
        (["--canvas", "200x100", "--position", "center"], "RGBA"),
        (["--where", "server"], "RGBA"),
    ],
)
def test_an_option_reaches_the_picture(bgclient, me, flags, mode):
    target = me.with_name("out.png")
    assert bgclient("cut", me, target, *flags).status == 0
    with Image.open(target) as picture:
        assert picture.mode == mode
        if "--canvas" in flags:
            assert picture.size == (200, 100)
        if "--crop" in flags:
            assert picture.size < (120, 90)


def test_a_picture_may_lie_behind_the_people(bgclient, me, tmp_path):
    behind = tmp_path / "behind.png"
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(behind)
    assert bgclient("cut", me, tmp_path / "out.png", "-bi", behind).status == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.getpixel((0, 0)) == (200, 200, 200)


def test_a_mark_outside_the_photo_is_named(bgclient, me):
    done = bgclient("cut", me, "--remove", "999,1")
    assert done.status == 2
    assert "remove: [999.0, 1.0] is outside the photo of 120 x 90 pixels" in done.err


def test_marks_come_from_numbers_json_and_files(bgclient, me, tmp_path):
    (tmp_path / "marks.json").write_text("[[20, 30]]")
    made = []
    for number, given in enumerate(["20,30", "[[20, 30]]", tmp_path / "marks.json"]):
        target = tmp_path / f"{number}.png"
        assert bgclient("cut", me, target, "--remove", given).status == 0
        made.append(target.read_bytes())
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nothing.jpg"], "nothing.jpg: no such file or folder"),
        (["ME", "out.jpg"], "JPEG has no transparency; give --bgcolor"),
        (["ME", "out.xyz"], "out.xyz: unknown suffix"),
        (["ME", "--format", "gif"], "format='gif': use one of"),
        (["ME", "--edges", "fine"], "edges='fine': use one of none, fast"),
        (["ME", "--keep", "nothing.json"], "--keep nothing.json: neither x,y nor JSON, nor a file"),
        (["ME", "--keep", "[1"], "--keep [1: not JSON"),
        (["ME", "--people", "1,2,3"], "people=(1, 2, 3)"),
        (["ME", "--bgcolor", "nocolour"], "background='nocolour'"),
        (["ME", "--bgcolor", "1;2"], "write numbers separated by commas"),
        (["ME", "-om", "-bgc", "white"], "choose one of"),
        (["ME", "--where", "here"], "'here' is not one of 'client', 'server'"),
        (["ME", "--url", "localhost"], "the port is missing"),
        (["ME", "--header", "nocolon"], '"Name: value"'),
        (["ME", "--timeout", "0"], "timeout_s"),
        (["ME", "--cert-file", "c.pem"], "together"),
        (["ME", "-", "--json"], "--json and the picture"),
        (["ME", "ME", "no-folder"], "is not a folder"),
        (["-", "ME", "FOLDER"], "cannot be mixed"),
        (["FOLDER", "-"], "does not fit into stdout"),
        (["FOLDER", "ME"], "is a file"),
        (["FOLDER", "FOLDER"], "is the folder of the photos"),
        (["ME", "--watch"], "--watch wants one folder"),
        (["https://example.com/me.jpg"], "--allow-urls"),
        (["--nope"], "No such option"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_status_2_and_a_sentence_before_anything_is_asked(
    bgclient, grpc_server, me, tmp_path, monkeypatch, arguments, why
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    named = {"ME": str(me), "FOLDER": str(tmp_path / "folder")}
    done = bgclient("cut", *[named.get(argument, argument) for argument in arguments])
    assert done.status == 2
    assert why in done.err
    assert done.out == b""
    assert grpc_server.fake.requests == []


def test_a_broken_photo_is_status_1_and_its_reason(bgclient, tmp_path, jpeg):
    (tmp_path / "broken.jpg").write_bytes(jpeg[:300])
    done = bgclient("cut", tmp_path / "broken.jpg")
    assert done.status == 1
    assert done.err.startswith("bgclient: broken_photo: ")
    assert tree(tmp_path) == ["broken.jpg"]


def test_nobody_in_the_photo_is_status_1_where_a_person_is_required(bgclient, grpc_server, me):
    grpc_server.fake.network = lambda image: np.zeros(image.shape[1:], np.float32)
    assert bgclient("cut", me, "--require-person").status == 1
    assert bgclient("cut", me).status == 0


def test_no_server_is_status_3_and_how_to_get_one(bgclient, me):
    done = bgclient("cut", me, "--url", "127.0.0.1:1")
    assert done.status == 3
    assert "no Triton at 127.0.0.1:1" in done.err
    assert '"bgclient serve"' in done.err


def test_json_is_one_line_a_photo_on_stdout(bgclient, me):
    done = bgclient("cut", me, "--json")
    said = json.loads(done.out)
    assert (said["photo"], said["output"], said["status"]) == (
        str(me),
        str(me.with_name("me-cut.png")),
        "cut",
    )
    assert len(said["box"]) == 4
    assert said["timings"]["tries"] == 1


def test_stdin_to_stdout(root, grpc_server, jpeg):
    done = subprocess.run(
        [sys.executable, "-m", "bgclient", "cut", "-", "-"],
        input=jpeg,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(root / "client"), "BGCLIENT_URL": grpc_server.url},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert decode(done.stdout).size_hw == (90, 120)


def test_a_folder_keeps_its_tree_names_what_failed_and_ends_with_status_1(bgclient, album):
    done = bgclient("cut", album)
    assert done.status == 1
    assert tree(album.parent / "album-cut") == CUT_OUTS
    assert "4 cut, 1 failed" in done.err
    assert re.search(r"failed: .*summer/broken\.jpg: broken_photo: ", done.err)


def test_a_second_run_cuts_only_what_is_missing_and_force_everything(bgclient, grpc_server, album, tmp_path):
    bgclient("cut", album, tmp_path / "out")
    (tmp_path / "out" / "a.png").unlink()
    before = len(grpc_server.fake.requests)
    done = bgclient("cut", album, tmp_path / "out")
    assert done.status == 1
    assert "1 cut, 3 were there already (--force cuts them again), 1 failed" in done.err
    assert len(grpc_server.fake.requests) == before + 1
    assert "4 cut, 1 failed" in bgclient("cut", album, tmp_path / "out", "--force").err


def test_cut_outs_inside_the_folder_of_the_photos_are_not_cut_again(bgclient, album):
    (album / "summer" / "broken.jpg").unlink()
    assert bgclient("cut", album, album / "cut").status == 0
    done = bgclient("cut", album, album / "cut")
    assert "0 cut, 4 were there already" in done.err
    assert tree(album / "cut") == CUT_OUTS


def test_a_folder_in_json_has_a_line_for_each_photo(bgclient, album):
    bgclient("cut", album)
    done = bgclient("cut", album, "--json", "--quiet")
    said = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(line["status"] for line in said) == ["failed", *["skipped"] * 4]
    (failed,) = (line for line in said if line["status"] == "failed")
    assert failed["error"]["code"] == "broken_photo"


def test_photos_whose_names_would_collide_keep_their_suffixes(bgclient, tmp_path, jpeg):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "a.jpeg", "A.JPG", "b.jpg"):
        (folder / name).write_bytes(jpeg)
    assert bgclient("cut", folder, tmp_path / "out").status == 0
    assert tree(tmp_path / "out") == ["A.JPG.png", "a.jpeg.png", "a.jpg.png", "b.png"]


def test_several_photos_go_into_a_folder(bgclient, album, me, tmp_path):
    done = bgclient("cut", me, album / "a.jpg", album / "summer", f"{tmp_path}/out/")
    assert done.status == 1
    assert tree(tmp_path / "out") == ["a.png", "me.png", "summer/a.png", "summer/b.png", "summer/beach/c.png"]


def test_two_photos_of_one_name_do_not_go_into_one_folder():
    with pytest.raises(CommandError, match="no such file"):
        plan(["x/a.jpg", "y/a.jpg", "out/"], None)


def test_two_photos_of_one_name_keep_apart_or_are_refused(album, tmp_path):
    planned = plan([str(album / "a.jpg"), str(album / "summer" / "b.jpeg"), f"{tmp_path}/out/"], "webp")
    assert [job.target for job in planned.jobs] == [tmp_path / "out/a.webp", tmp_path / "out/b.webp"]
    with pytest.raises(CommandError, match="two photos would become"):
        plan([str(album / "a.jpg"), str(album / "summer" / "a.jpg"), f"{tmp_path}/out/"], None)


def test_every_photo_of_a_folder_has_its_own_cut_out(bgclient, tmp_path, jpeg):
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "a.jpg.png", "b.jfif", "B.HIF"):
        (folder / name).write_bytes(jpeg)
    done = bgclient("cut", folder, tmp_path / "out")
    assert "5 cut" in done.err
    assert f"cut-outs are in {tmp_path / 'out'}" in done.err
    assert len(tree(tmp_path / "out")) == 5
    assert "0 cut, 5 were there already" in bgclient("cut", folder, tmp_path / "out").err


def test_a_cut_out_beside_its_photo_is_not_cut_again(bgclient, tmp_path, jpeg):
    folder = tmp_path / "album"
    (folder / "trip").mkdir(parents=True)
    for name in ("me.jpg", "trip/a.jpg", "clear-cut.jpg"):
        (folder / name).write_bytes(jpeg)
    assert bgclient("cut", folder / "me.jpg").status == 0
    assert bgclient("cut", folder / "trip").status == 0
    done = bgclient("cut", folder, tmp_path / "out")
    assert tree(tmp_path / "out") == ["clear-cut.png", "me.png", "trip/a.png"]
    assert "1 cut-outs next to their photos left out" in done.err


@pytest.mark.skipif(os.name == "nt", reason="no pipes, no links there")
def test_what_cannot_be_read_in_a_folder_is_a_failure_and_no_silence(bgclient, tmp_path, jpeg):
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(jpeg)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    done = bgclient("cut", folder, tmp_path / "out")
    assert done.status == 1
    assert "1 cut, 3 failed" in done.err
    assert all(f"{name}.jpg" in done.err for name in ("pipe", "loop", "gone"))
    assert tree(tmp_path / "out") == ["good.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_cannot_be_looked_into_is_a_failure_for_its_user(bgclient, album, tmp_path):
    (album / "summer").chmod(0)
    try:
        done = bgclient("cut", album, tmp_path / "out")
    finally:
        (album / "summer").chmod(0o755)
    assert done.status == 1
    assert "summer" in done.err


def test_a_folder_that_cannot_be_looked_into_is_a_failure(bgclient, album, tmp_path, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("summer"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    done = bgclient("cut", album, tmp_path / "out")
    assert done.status == 1
    assert "1 cut, 1 failed" in done.err
    assert re.search(
        r"failed: \S*summer: unreadable_source: Permission denied; its photos are left out", done.err
    )


def test_a_folder_without_write_permission_ends_the_run_with_one_line(
    bgclient, album, tmp_path, monkeypatch, grpc_server
):
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    if os.access(out, os.W_OK):  # root may write everywhere
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != out and access(path, mode))
    done = bgclient("cut", album, out)
    assert done.status == 1
    assert done.err == f"bgclient: cannot_write: {out}: no permission to write there; name another folder\n"
    assert grpc_server.fake.requests == []


def test_a_target_that_is_no_folder_ends_the_run_with_one_line(bgclient, album, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    done = bgclient("cut", album, f"{tmp_path}/loop/")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "loop exists and is not a folder" in done.err


def test_a_full_disk_ends_the_run_with_one_line(bgclient, album, tmp_path, monkeypatch):
    def full(target, data, *, overwrite):
        raise TargetError.of(target, OSError(28, "No space left on device"))

    monkeypatch.setattr(_run, "write_atomically", full)
    done = bgclient("cut", album, tmp_path / "out", "--jobs", "1")
    assert done.status == 1
    assert done.err.count("No space left on device") == 1
    assert "photos are left; the same command goes on from here" in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_a_failure_whatever_its_buffer(me, root, grpc_server, unbuffered):
    environment = {**os.environ, "BGCLIENT_URL": grpc_server.url, "PYTHONUNBUFFERED": unbuffered}
    environment["PYTHONPATH"] = str(root / "client")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bgclient", "cut", str(me), "-"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_a_second_photo_is_never_taken_for_the_target(bgclient, me, jpeg):
    other = me.with_name("you.jpg")
    other.write_bytes(jpeg)
    for flags in ([], ["--force"], ["-bgc", "white"], ["-bgc", "white", "--force"]):
        done = bgclient("cut", me, other, *flags)
        assert done.status == 2, flags
        assert "cutouts/" in done.err
        assert other.read_bytes() == jpeg
    done = bgclient("cut", me, me, "-bgc", "white", "--force")
    assert (done.status, me.read_bytes()) == (2, jpeg)
    assert "is the photo itself" in done.err


@pytest.mark.skipif(os.name == "nt", reason="no pipes there")
def test_the_one_photo_may_come_through_a_named_pipe(bgclient, tmp_path, jpeg):
    os.mkfifo(tmp_path / "me.jpg")
    writer = threading.Thread(target=(tmp_path / "me.jpg").write_bytes, args=(jpeg,))
    writer.start()
    assert bgclient("cut", tmp_path / "me.jpg", tmp_path / "out.png").status == 0
    writer.join()


def test_the_summary_says_in_how_many_nobody_was_found(bgclient, album, tmp_path, grpc_server):
    grpc_server.fake.network = lambda image: np.zeros(image.shape[1:], np.float32)
    assert "4 cut, no people found in 4 of them, 1 failed" in bgclient("cut", album, tmp_path / "out").err


def test_a_fault_with_one_photo_is_that_photos_failure(bgclient, album, tmp_path, monkeypatch):
    made = Cutout.encode

    def encode(cutout, *rest, **options):
        if next(calls) == 2:
            raise struct.error("'I' format requires 0 <= number <= 4294967295")
        return made(cutout, *rest, **options)

    calls = itertools.count()
    monkeypatch.setattr(Cutout, "encode", encode)
    done = bgclient("cut", album, tmp_path / "out")
    assert done.status == 1
    assert "3 cut, 2 failed" in done.err
    assert "internal_error" in done.err


def test_a_url_is_named_after_its_last_part():
    assert plan(["https://example.com/photos/me.jpg?size=1"], None).jobs == [
        Job("https://example.com/photos/me.jpg?size=1", Path("me-cut.png"))
    ]


def test_an_empty_folder_is_well(bgclient, tmp_path):
    (tmp_path / "empty").mkdir()
    assert bgclient("cut", tmp_path / "empty").status == 0


def test_a_server_that_goes_away_ends_the_run_with_what_is_left(bgclient, grpc_server, album):
    grpc_server.fake.fail(*[ServerUnavailable("gone")] * 100)
    done = bgclient("cut", album, "--jobs", "1")
    assert done.status == 3
    assert "5 of 5 photos are left; the same command goes on from here:\n  bgclient cut" in done.err
    assert tree(album.parent / "album-cut") == [] if (album.parent / "album-cut").exists() else True


def test_one_photo_s_trouble_on_the_server_is_that_photo_s_only(bgclient, grpc_server, album):
    grpc_server.fake.fail(ServerFault("broke"), ServerBusy("full"))
    done = bgclient("cut", album, "--jobs", "1")
    assert done.status == 1
    assert "3 cut, 2 failed" in done.err


def test_a_target_that_cannot_be_written_is_said_for_each_photo(bgclient, album, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summer").write_text("a file where a folder has to be")
    done = bgclient("cut", album, tmp_path / "out")
    assert done.status == 1
    assert "1 cut, 4 failed" in done.err
    assert "cannot_write" in done.err


def start(root, url, *arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "bgclient", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root / "client"), "BGCLIENT_URL": url},
        **more,
    )


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def slow_album(tmp_path, jpeg):
    folder = tmp_path / "slow"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.jpg").write_bytes(jpeg)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_photos_in_flight_and_says_how_to_go_on(root, grpc_server, slow_album, number):
    grpc_server.fake.delay_s = 0.3
    out = slow_album.with_name("slow-cut")
    running = start(root, grpc_server.url, "cut", slow_album, "--jobs", "2")
    wait_for(lambda: out.exists() and tree(out))
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    there = tree(out)
    assert 1 <= len(there) < 30
    assert (
        f"{30 - len(there)} of 30 photos are left; the same command goes on from here:\n  bgclient cut" in err
    )
    assert "Traceback" not in err
    assert len(grpc_server.fake.requests) == len(there)
    assert all(decode((out / name).read_bytes()).size_hw == (90, 120) for name in there)


def test_a_second_ctrl_c_drops_the_photos_in_flight(root, grpc_server, slow_album):
    grpc_server.fake.delay_s = 60.0
    running = start(root, grpc_server.url, "cut", slow_album, "--jobs", "2")
    wait_for(lambda: len(grpc_server.fake.requests) == 2)
    running.send_signal(signal.SIGINT)
    assert "Ctrl-C again" in _line(running.stderr)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "30 of 30 photos are left" in err
    assert grpc_server.noticed.is_set()


def _line(stream):
    return next(line for line in stream if line.strip())


def test_watching_cuts_what_is_there_and_what_comes_and_ends_with_ctrl_c(root, grpc_server, tmp_path, jpeg):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "first.jpg").write_bytes(jpeg)
    running = start(root, grpc_server.url, "cut", folder, tmp_path / "out", "--watch")
    wait_for(lambda: (tmp_path / "out" / "first.png").exists())
    (folder / "broken.jpg").write_bytes(jpeg[:200])
    (folder / "new").mkdir()
    (folder / "new" / "second.jpg").write_bytes(jpeg)
    wait_for(lambda: (tmp_path / "out" / "new" / "second.png").exists())
    (folder / "broken.jpg").write_bytes(jpeg)
    wait_for(lambda: (tmp_path / "out" / "broken.png").exists())
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0  # what failed half-copied was cut in the end
    assert "3 cut, 0 failed" in err
    assert err.count("broken_photo") == 1


def test_watching_tells_once_of_a_folder_that_cannot_be_looked_into(monkeypatch, tmp_path, capsys):
    closed = tmp_path / "in" / "closed"
    closed.mkdir(parents=True)
    scan, may_read = os.scandir, iter([False, False, True, False, True])

    def scandir(path):
        if Path(path) == closed and not next(may_read):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    def look(client, cutter, list_jobs, **_):
        for _ in range(5):
            assert list_jobs() == []
        return _run.RunSummary()

    monkeypatch.setattr(_cut, "watch", look)
    planned = Plan([], many=True, folder=closed.parent, target=tmp_path / "out")
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(typer.Exit):
        _cut._watch(None, None, planned, None, jobs=1, as_json=False)
    told = f"{closed}: Permission denied; its photos are left out until it can be read\n"
    assert capsys.readouterr().err.count(told) == 2  # it was open in between


def test_a_reader_of_stdout_that_goes_away_is_no_traceback(root, grpc_server, album):
    running = start(root, grpc_server.url, "cut", album, "--json")
    running.stdout.close()
    err = running.stderr.read()
    running.wait(60)
    assert "Traceback" not in err
    assert "fault of bgclient" not in err


def test_info_says_what_runs_where(bgclient, grpc_server):
    done = bgclient("info")
    assert done.status == 0
    assert f"server   {grpc_server.url}: ready" in done.out.decode()
    height, width = grpc_server.fake.contract.size_hw
    assert f"sees {width} x {height} pixels" in done.out.decode()
    said = json.loads(bgclient("info", "--json").out)
    assert said["servers"][0]["network"] == "fake_network"
    assert said["servers"][0]["contract"]["fingerprint"] == grpc_server.fake.contract.fingerprint


def test_info_names_no_engine_that_it_cannot_know():
    said = lines(ServerInfo("host:8001", True, network="n", backend="onnxruntime (python)", devices=("cpu",)))
    assert said[1] == "network  n, ONNX Runtime or OpenVINO (its log says which) on cpu"
    said = lines(ServerInfo("this process", True, network="n", backend="OpenVINO 2025.3.0 on CPU, FP32"))
    assert said[1] == "network  n, OpenVINO 2025.3.0 on CPU, FP32"


def test_doctor_advises_no_server_where_none_can_be_had(bgclient, monkeypatch):
    from bgserver import installation

    monkeypatch.setattr(installation.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(installation, "SYSTEM_TRITON", Path("nowhere"))
    monkeypatch.setattr(_doctor, "_packages", lambda extra=None: ["not-installed-anywhere"] if extra else [])
    monkeypatch.setattr(_doctor, "_EXTRAS", ["server"])
    monkeypatch.setitem(sys.modules, "pytriton", None)
    out = bgclient("doctor").out.decode()
    assert "bgclient[server]" not in out
    assert re.search(
        r"^note +triton .*arm64.* What works here: pip install 'bgclient\[local\]'", out, re.MULTILINE
    )


def test_info_without_a_server_is_status_3(bgclient):
    done = bgclient("info", "-u", "127.0.0.1:1")
    assert done.status == 3
    assert "not ready" in done.out.decode()


def test_doctor_looks_at_everything_and_cuts_a_test_photo(bgclient):
    done = bgclient("doctor")
    assert done.status == 0, done.out
    out = done.out.decode()
    for part in ("bgclient", "needed", "server", "gpu", "limits", "network", "contract", "canary"):
        assert re.search(rf"^(ok|note) +{part} ", out, re.MULTILINE), part
    assert out.count("canary") == 2
    said = [json.loads(line) for line in bgclient("doctor", "--json").out.splitlines()]
    assert {finding["state"] for finding in said} <= {"ok", "note"}


def test_a_command_that_starts_a_server_says_so_and_no_other_does(monkeypatch, capsys):
    monkeypatch.delenv("BGCLIENT_URL", raising=False)
    _client(engine="triton")
    assert "starting a tritonserver" in capsys.readouterr().err
    monkeypatch.setenv("BGCLIENT_ENGINE", "triton")
    _client(url="127.0.0.1:1")
    _client(engine="onnxruntime")
    assert capsys.readouterr().err == ""


def test_doctor_without_a_server_says_so_and_ends_with_status_3(bgclient):
    done = bgclient("doctor", "-u", "127.0.0.1:1", "--timeout", "3")
    assert done.status == 3
    assert re.search(
        r"^WRONG +error +server_unavailable: no Triton at 127\.0\.0\.1:1", done.out.decode(), re.MULTILINE
    )


def test_doctor_tells_when_photos_do_not_come_back(bgclient, grpc_server):
    grpc_server.fake.fail(ServerFault("broke"))
    done = bgclient("doctor")
    assert done.status == 1
    assert re.search(r"^WRONG +canary +client: server_fault", done.out.decode(), re.MULTILINE)


def test_serve_takes_each_setting_from_its_option_before_the_environment(bgclient, monkeypatch):
    import bgserver

    seen = []

    def refused(settings, **_):
        seen.append(settings)
        raise bgserver.ServerError("seen")

    monkeypatch.setattr(bgserver, "Server", refused)
    monkeypatch.setenv("BGSERVER_DRAIN_S", "7")
    monkeypatch.setenv("BGSERVER_GRPC_PORT", "9001")
    monkeypatch.setenv("BGSERVER_TLS_KEY", "k.pem")
    monkeypatch.setenv("BGSERVER_ADMIN_KEY", "")  # as Compose hands on what is not set
    bgclient("serve", "--tls-cert", "c.pem", "--grpc-port", "9002")
    done = bgclient("serve", "--tls-cert", "c.pem", "--admin-key", "k", "--threads", "3")
    assert (done.status, done.err.strip().splitlines()[-1]) == (3, "bgclient: server_error: seen")
    first, second = seen
    assert (first.grpc_port, first.http_port, first.metrics_port, first.drain_s) == (9002, 8000, 8002, 7.0)
    assert (first.tls_cert, first.tls_key) == (Path("c.pem").absolute(), Path("k.pem").absolute())
    assert (second.grpc_port, second.admin_key, second.threads) == (9001, "k", 3)
    assert len(first.admin_key) >= 32


@pytest.mark.parametrize(
    "arguments",
    [["--threads", "0"], ["--drain-s", "inf"], ["--http-port", "70000"], ["--canary-timeout-s", "nan"]],
)
def test_serve_refuses_a_setting_outside_its_range_with_one_line(bgclient, arguments):
    done = bgclient("serve", *arguments)
    assert done.status == 2
    assert re.fullmatch(r"bgclient: bad_option: \w+=\S+: use a number from \S+( to \d+)?", done.err.strip())


def test_both_commands_that_serve_have_the_same_options(bgclient, run_python):
    ours = set(re.findall(r"--[a-z-]+", bgclient("serve", "--help").out.decode()))
    script = "import sys; sys.argv[1:] = ['serve', '--help']; from bgserver.__main__ import main; main()"
    theirs = set(re.findall(r"--[a-z-]+", run_python(script, COLUMNS="200", TERM="dumb").stdout))
    assert ours - theirs == {"--log"}
    assert not theirs - ours
    assert {"--variant", "--tls-cert", "--drain-s", "--admin-key", "--canary-every-s"} <= ours


def test_serve_refuses_half_a_certificate(bgclient):
    pytest.importorskip("bgserver")
    for half in ("--tls-cert", "--tls-key", "--tls-clients"):
        done = bgclient("serve", half, "some.pem")
        assert done.status == 2
        assert "--tls-cert and --tls-key belong together" in done.err


def test_serve_says_why_it_restarts_the_server(capsys):
    pytest.importorskip("bgserver")
    from bgclient.cli._serve import _tell
    from bgserver import keeper

    keeper.tell("restarting", why="tritonserver ended with status -9")
    _tell(json.loads(capsys.readouterr().out))
    assert "restarting the server: tritonserver ended with status -9" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["web", "mcp"])
def test_a_part_that_is_not_installed_is_status_4_and_how_to_install_it(bgclient, monkeypatch, command):
    monkeypatch.setitem(sys.modules, f"bgclient.{command}", None)
    done = bgclient(command)
    assert done.status == 4
    assert f"pip install 'bgclient[{command}]'" in done.err


def test_a_fault_of_our_own_is_a_sentence_and_never_a_traceback(bgclient, me, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(_cut, "plan", broken)
    done = bgclient("cut", me)
    assert done.status == 1
    assert "fault of bgclient: ZeroDivisionError: oops; set BGCLIENT_DEBUG=1" in done.err


COMPLETING = "import sys; sys.argv = ['bgclient']; from bgclient.cli import main; main()"


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", {"COMP_WORDS": "bgclient d", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "bgclient d"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "bgclient d", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_completion_knows_the_commands(run_python, shell, words):
    done = run_python(COMPLETING, **words, _BGCLIENT_COMPLETE=f"complete_{shell}")
    assert re.findall(r"\b(?:cut|serve|web|info|doctor)\b", done.stdout) == ["doctor"]


def test_completion_knows_the_options_of_a_command(run_python):
    words = {"COMP_WORDS": "bgclient cut --shad", "COMP_CWORD": "2"}
    done = run_python(COMPLETING, **words, _BGCLIENT_COMPLETE="complete_bash")
    assert done.stdout.split() == ["--shadow"]


def test_the_help_names_every_exit_status(bgclient):
    done = bgclient("--help")
    text = " ".join(done.out.decode().split())
    for status in (
        "0 all well",
        "1 a photo failed",
        "2 wrong usage",
        "3 no server",
        "4 a part",
        "130 stopped",
    ):
        assert status in text


def test_two_runs_over_one_folder_do_not_disturb_each_other(root, grpc_server, slow_album):
    runs = [start(root, grpc_server.url, "cut", slow_album, "--jobs", "2") for _ in range(2)]
    ends = []
    readers = [
        threading.Thread(target=lambda run=run: ends.append(run.communicate(timeout=120))) for run in runs
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    out = slow_album.with_name("slow-cut")
    assert [run.returncode for run in runs] == [0, 0]
    assert tree(out) == [f"{number:02}.png" for number in range(30)]
    assert all(decode((out / name).read_bytes()).size_hw == (90, 120) for name in tree(out))


def test_a_folder_run_names_the_photos_to_look_at_the_most_doubtful_first(bgclient, tmp_path, grpc_server):
    """The made-up network is as sure as the photo is bright."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, level in (("sure", 255), ("doubtful", 180), ("worse", 150), ("nobody", 60)):
        Image.new("L", (96, 96), level).save(folder / f"{name}.png")

    def bright(image):
        alpha = np.zeros(image.shape[1:], np.float32)
        alpha[40:-40, 40:-40] = image[0, 40:-40, 40:-40] / 255
        return alpha

    grpc_server.fake.network = bright
    done = bgclient("cut", folder, tmp_path / "cut", "--json")
    assert done.status == 0
    named = [line for line in done.err.splitlines() if line.startswith("look at: ")]
    assert [line.split("/")[-1].split(":")[0] for line in named] == ["worse.png", "doubtful.png"]
    told = {Path(one["photo"]).stem: one["expected_iou"] for one in map(json.loads, done.out.splitlines())}
    assert told["nobody"] == 0 < told["worse"] < told["doubtful"] < 0.8 < told["sure"]
    assert f"expected IoU {told['worse']:.2f}" in named[0]


def test_a_photo_that_may_be_cut_badly_can_be_refused(bgclient, me, tmp_path):
    done = bgclient("cut", me, tmp_path / "out.png", "--at-least", "0.99")
    assert done.status == 1
    assert "doubtful: expected IoU 0." in done.err
    assert "mend it with keep= or remove=" in done.err
    assert not (tmp_path / "out.png").exists()
