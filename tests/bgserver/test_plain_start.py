"""The committed repository under plain Triton, as its README says: no launcher, no client of ours."""

import contextlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bgserver import canary, install

START_S = 240.0


def snippet(readme, name):
    """The code block below ``<!-- test: name -->``."""
    return re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", readme, re.DOTALL)[1]


@contextlib.contextmanager
def tritonserver(folder, *arguments):
    """NVIDIA's program over ``folder/model_repository``, with nothing but ``arguments``; its log is ``folder/log``.

    Its shared memory has a name of its own, by which what it leaves behind is removed.
    """
    region = f"plain-{os.getpid()}-{time.monotonic_ns()}-"
    named = f"--backend-config=python,shm-region-prefix-name={region}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                install().binary,
                "--model-repository=model_repository",
                "--exit-timeout-secs=2",
                named,
                *arguments,
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for left in Path("/dev/shm").glob(f"{region}*"):
            left.unlink()


@pytest.fixture(scope="module")
def readme(root):
    return (root / "model_repository" / "README.md").read_text()


@pytest.fixture(scope="module")
def fresh(root, tmp_path_factory):
    """What a clone holds: the committed files of the repository, and the backends beside it."""
    folder = tmp_path_factory.mktemp("plain")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "model_repository"], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).exists():  # not while a deletion waits for its commit
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
    subprocess.run([sys.executable, "-m", "bgserver", "backends", "backends"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def plain(fresh, free_ports):
    """Ports (HTTP, gRPC) of a tritonserver that was started as the README says."""
    http, grpc, metrics = free_ports(3)
    ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    local = [f"--{name}-address=127.0.0.1" for name in ("http", "grpc")]
    with tritonserver(fresh, "--backend-directory=backends", *ports, *local) as process:
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(canary.CanaryFailed):
                if canary.request(f"http://127.0.0.1:{http}", "GET", "/v2/health/ready")[0] == 200:
                    break
            time.sleep(0.2)
        else:
            pytest.fail((fresh / "log").read_text()[-3000:])
        yield http, grpc


def run(program, plain, root, folder):
    """A snippet in an empty folder with the examples, against the real ports."""
    http, grpc = plain
    (folder / "examples").symlink_to(root / "examples")
    text = (
        program[-1]
        .replace("localhost:8000", f"127.0.0.1:{http}")
        .replace("localhost:8001", f"127.0.0.1:{grpc}")
    )
    # isolated: nothing of ours is in reach by the folder it runs in
    done = subprocess.run([*program[:-1], text], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_the_answer(picture, readme):
    """As the README promises."""
    said = re.search(r"PNG of (\d+) x (\d+) pixels, RGBA, with between (\d+) and (\d+) %", readme)
    width, height, least, most = map(int, said.groups())
    assert picture.size == (width, height)
    assert picture.mode == "RGBA"
    assert least <= 100 * (np.asarray(picture)[..., 3] > 127).mean() <= most


def models_in(folder):
    return sorted(path.name for path in (folder / "model_repository").iterdir() if path.is_dir())


@pytest.mark.server
def test_the_committed_folder_loads_as_it_stands_with_every_model_ready(plain, fresh):
    http, _ = plain
    _, _, body = canary.request(f"http://127.0.0.1:{http}", "POST", "/v2/repository/index", b"")
    index = json.loads(body)
    assert sorted(model["name"] for model in index) == models_in(fresh)
    assert {model["state"] for model in index} == {"READY"}


@pytest.mark.server
def test_the_readme_s_request_by_curl_is_answered_as_it_says(plain, root, readme, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    run(["sh", "-euc", snippet(readme, "curl")], plain, root, tmp_path)
    check_the_answer(Image.open(tmp_path / "cutout.png"), readme)


@pytest.mark.server
def test_the_readme_s_one_line_shows_the_network_s_alpha(plain, root, readme, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    run(["sh", "-euc", snippet(readme, "matte")], plain, root, tmp_path)
    answer = (tmp_path / "answer").read_bytes()
    (output,) = json.JSONDecoder().raw_decode(answer.partition(b"}]}")[0].decode() + "}]}")[0]["outputs"]
    alpha = np.frombuffer(answer[-4 * math.prod(output["shape"]) :], np.float32)
    assert output["name"] == "alpha"
    assert alpha.min() >= 0
    assert alpha.max() <= 1 + 1e-6  # FP32 sigmoids round to a hair over 1
    assert 0.3 < alpha.mean() < 0.7


@pytest.mark.server
def test_the_readme_s_request_by_tritonclient_is_answered_as_it_says(plain, root, readme, tmp_path):
    code = snippet(readme, "tritonclient")
    assert len(code.splitlines()) <= 10
    facts = json.loads(run([sys.executable, "-c", code], plain, root, tmp_path))
    picture = Image.open(io.BytesIO((tmp_path / "cutout.png").read_bytes()))
    check_the_answer(picture, readme)
    said = json.loads(re.search(r"`(\{\"box\": .*\})`", readme)[1])
    # an edge differs by a pixel from processor to processor
    assert np.abs(np.subtract(facts["box"], said["box"])).max() <= 1
    assert facts["expected_iou"] == pytest.approx(said["expected_iou"], abs=0.01)
    assert facts["dropped"] == said["dropped"]


@pytest.mark.server
def test_the_readme_s_tree_is_what_is_served(fresh, readme):
    tree = readme.partition("## Models")[2]
    assert sorted(re.findall(r"^    (\w+) {3,}\w", tree, re.MULTILINE)) == models_in(fresh)
