"""A folder with broken photos in it, killed half-way and run again: nothing is lost, nothing is done twice."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bgclient.testing import FakeServer
from bgimage.codec import decode, encode
from bgimage.contract import Contract

TIMEOUT_S = 900
"""Long: a test machine may be busy."""


@pytest.fixture(params=["wire", pytest.param("triton", marks=pytest.mark.server)])
def served(request, grpc_servers):
    """Address of a server, what counts its requests, and how many photos to send; the real one, which also asks itself,
    counts none and gets fewer."""
    if request.param == "triton":
        return request.getfixturevalue("server").grpc_url, None, 100
    # A small network, so that the run is the client's and not the fake's.
    server = grpc_servers(FakeServer(contract=Contract(size_hw=(64, 64))))
    return server.url, lambda: len(server.fake.requests), 1000


@pytest.mark.slow
def test_a_folder_of_photos_killed_half_way_and_resumed(tmp_path, root, served):
    url, asked, photos = served
    folder, out = tmp_path / "photos", tmp_path / "cut"
    random = np.random.default_rng(7)
    broken = set(random.choice(photos, photos // 50, replace=False).tolist())
    whole = photos - len(broken)
    for number in range(photos):
        colour = random.integers(0, 255, 3, np.uint8)
        data = encode(np.broadcast_to(colour, (24, 32, 3)).copy(), "jpeg", quality=90)
        path = folder / f"{number // 100}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: len(data) // 2] if number in broken else data)
    environment = {**os.environ, "PYTHONPATH": str(root / "client"), "BGCLIENT_URL": url}
    command = [sys.executable, "-m", "bgclient", "cut", str(folder), str(out), "--timeout", "120"]

    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as killed:
        until = time.monotonic() + TIMEOUT_S
        while sum(1 for _ in out.rglob("*.png")) < photos // 2:
            assert killed.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    before = asked and asked()
    assert photos // 2 <= len(first) < whole

    resumed = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )

    there = sorted(path for path in out.rglob("*") if path.is_file())
    expected = sorted(out / f"{n // 100}" / f"{n:04}.png" for n in range(photos) if n not in broken)
    assert there == expected  # no missing one, no temporary file, no second copy
    assert resumed.returncode == 1
    failed = [line for line in resumed.stderr.splitlines() if line.startswith("failed: ")]
    assert {int(line.partition(".jpg")[0][-4:]) for line in failed} == broken
    assert len(failed) == len(broken)
    assert f"{whole - len(first)} cut, " in resumed.stderr
    assert f" {len(first)} were there already" in resumed.stderr
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in first.items())
    if asked:
        assert asked() - before <= whole - len(first) + 4  # 4 were on their way
    assert all(decode(path.read_bytes()).size_hw == (24, 32) for path in there)
