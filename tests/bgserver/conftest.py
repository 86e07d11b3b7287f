"""Small model repositories and servers that are ended whatever a test does."""

import contextlib
import os
import time
from pathlib import Path

import pytest

from bgserver import Server, Settings

CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "photo" data_type: TYPE_STRING dims: [1] }
output { name: "cutout" data_type: TYPE_STRING dims: [1] }
instance_group { count: 1 kind: KIND_CPU }
"""

# Gives photos back as they are; a photo that says so is slow.
MODEL = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.response(pb_utils.get_input_tensor_by_name(r, "photo").as_numpy()) for r in requests]

    def response(self, photos):
        order, _, seconds = photos[0, 0].partition(b":")
        if order == b"sleep":
            time.sleep(float(seconds))
        if order == b"compute":
            end = time.monotonic() + float(seconds)
            while time.monotonic() < end:
                pass
        return pb_utils.InferenceResponse([pb_utils.Tensor("cutout", photos)])
"""


@pytest.fixture
def tiny_repository(tmp_path):
    """One Python model called cutout that gives photos back, in a folder whose path has a space."""
    model = tmp_path / "model repository" / "cutout"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    (model / "1" / "model.py").write_text(MODEL)
    return model.parent


@pytest.fixture
def tiny(tiny_repository, tmp_path):
    """Makes servers over ``tiny_repository``; all are stopped in the end."""
    with contextlib.ExitStack() as stack:

        def make(**settings):
            on_event, log = settings.pop("on_event", None), settings.pop("log", tmp_path / "log")
            settings = {
                "models": ("cutout",),
                "canary_timeout_s": 30.0,
                "repository": tiny_repository,
                **settings,
            }
            server = Server(Settings(variant="cpu", **settings), log=log, on_event=on_event)
            stack.callback(server.stop)
            return server

        yield make


def parents():
    """Every process id of this machine to that of its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


@pytest.fixture
def stubs():
    """Process ids of a server's Python models."""
    return lambda server: sorted(pid for pid, parent in parents().items() if parent == server.facts["pid"])


@pytest.fixture
def traces():
    """What a server leaves on the machine: its processes, its folder and its shared memory, as a function.

    Call it while the server runs to learn what belongs to it; the function returned then tells what is still there.
    """

    def remember(pid):
        family = {pid}
        while more := {p for p, parent in parents().items() if parent in family} - family:
            family |= more
        folder = Path(os.readlink(f"/proc/{pid}/cwd")).parent

        def left():
            alive = {p for p in family if (Path("/proc") / str(p)).exists() and _state(p) != "Z"}
            regions = list(Path("/dev/shm").glob(f"{folder.name}-*"))
            return [*sorted(alive), *([folder] if folder.exists() else []), *regions]

        return left

    return remember


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def eventually():
    """Waits until ``condition()`` is true, or fails with what it last said."""

    def wait(condition, within_s=60.0):
        deadline = time.monotonic() + within_s
        while not (said := condition()):
            assert time.monotonic() < deadline, f"{condition} still says {said!r} after {within_s} s"
            time.sleep(0.1)
        return said

    return wait
