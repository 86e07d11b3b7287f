"""A thousand photos, twenty of them broken, killed half-way and run again: nothing is lost, nothing is done twice."""

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

PHOTOS = 1000
BROKEN = 20
TIMEOUT_S = 900
"""Long: a test machine may be busy."""


@pytest.fixture(params=["wire", pytest.param("triton", marks=pytest.mark.server)])
def served(request, grpc_servers):
    """Address of a server, and what counts its requests; None for the real one, which also asks itself."""
    if request.param == "triton":
        return request.getfixturevalue("server").grpc_url, None
    # A small network, so that the run is the client's and not the fake's.
    server = grpc_servers(FakeServer(contract=Contract(size_hw=(64, 64))))
    return server.url, lambda: len(server.fake.requests)


@pytest.mark.slow
def test_a_thousand_photos_killed_half_way_and_resumed(tmp_path, root, served):
    url, asked = served
    folder, out = tmp_path / "photos", tmp_path / "cut"
    random = np.random.default_rng(7)
    broken = set(random.choice(PHOTOS, BROKEN, replace=False).tolist())
    for number in range(PHOTOS):
        colour = random.integers(0, 255, 3, np.uint8)
        data = encode(np.broadcast_to(colour, (24, 32, 3)).copy(), "jpeg", quality=90)
        path = folder / f"{number // 100}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: len(data) // 2] if number in broken else data)
    environment = {**os.environ, "PYTHONPATH": str(root / "client"), "BGCLIENT_URL": url}
    command = [sys.executable, "-m", "bgclient", "cut", str(folder), str(out), "--timeout", "120"]

    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as killed:
        until = time.monotonic() + TIMEOUT_S
        while sum(1 for _ in out.rglob("*.png")) < PHOTOS // 2:
            assert killed.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    before = asked and asked()
    assert PHOTOS // 2 <= len(first) < PHOTOS - BROKEN

    resumed = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )

    there = sorted(path for path in out.rglob("*") if path.is_file())
    expected = sorted(out / f"{n // 100}" / f"{n:04}.png" for n in range(PHOTOS) if n not in broken)
    assert there == expected  # 980 cut-outs, no temporary file, no second copy
    assert resumed.returncode == 1
    failed = [line for line in resumed.stderr.splitlines() if line.startswith("failed: ")]
    assert {int(line.partition(".jpg")[0][-4:]) for line in failed} == broken
    assert len(failed) == BROKEN
    assert f"{PHOTOS - BROKEN - len(first)} cut, " in resumed.stderr
    assert f" {len(first)} were there already" in resumed.stderr
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in first.items())
    if asked:
        assert asked() - before <= PHOTOS - BROKEN - len(first) + 4  # 4 were on their way
    assert all(decode(path.read_bytes()).size_hw == (24, 32) for path in there)
