"""``bgclient web`` as a process: how it starts, how it refuses to, how it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from uvicorn.protocols.http.h11_impl import H11Protocol

from bgclient.web.connections import Connection
from bgclient.web.errors import CannotListen
from bgclient.web.listen import check_free

from .support import opened, picture

PHOTO = picture()

FRONT = """
import sys
from bgclient import transports
from bgclient.cli import main
from bgclient.testing import FakeServer

fake = FakeServer(delay_s=1.0)
transports.Network.connect = lambda self, endpoints, credentials: fake.connect(endpoints, credentials)
sys.argv = ["bgclient", "web", *sys.argv[1:]]
main()
"""
"""The command before a server that takes a second for each photo."""


@pytest.fixture
def port(free_ports):
    """One that is free."""
    return free_ports(1)[0]


@pytest.fixture
def started(root, port, tmp_path):
    """Starts the command; gives its process and its address once it answers."""
    running = []

    def start(*arguments, open_files=None, **settings):
        limit = open_files and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files)))
        environment = {**os.environ, "PYTHONPATH": str(root / "client"), "NO_PROXY": "*"}
        environment |= {f"BGCLIENT_WEB_{name.upper()}": str(value) for name, value in settings.items()}
        with (tmp_path / "log").open("wb") as log:
            command = [sys.executable, "-c", FRONT, "--port", str(port), "--url", "fake:8001", *arguments]
            running.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, preexec_fn=limit)
            )
        deadline = time.monotonic() + 60
        while not takes_requests(f"http://127.0.0.1:{port}"):
            assert running[0].poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return running[0], f"http://127.0.0.1:{port}"

    yield start
    for process in running:
        process.kill()
        process.wait()


def takes_requests(address):
    try:
        return requests.get(f"{address}/livez", timeout=5).ok
    except requests.ConnectionError:
        return False


def waiting_at(address):
    text = requests.get(f"{address}/metrics", timeout=5).text
    return float(re.search(r"^bgclient_web_requests_waiting (\S+)", text, re.MULTILINE)[1])


def test_sigterm_under_load_answers_what_was_accepted_and_takes_nothing_new(started):
    process, address = started(concurrency=1, wait_s=30)

    def ask(_):
        return requests.post(f"{address}/v1.0/removebg", files={"image_file": PHOTO}, timeout=60)

    with ThreadPoolExecutor(4) as callers:
        answers = [callers.submit(ask, number) for number in range(4)]
        deadline = time.monotonic() + 30
        while waiting_at(address) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        while takes_requests(address):
            assert time.monotonic() < deadline
        assert process.poll() is None, "and has not ended yet"
        for answer in answers:
            assert answer.result().status_code == 200
            assert opened(answer.result().content).size == (320, 240)
    assert process.wait(20) in (0, -signal.SIGTERM)


def test_what_takes_longer_than_the_drain_is_given_up(started):
    process, address = started(concurrency=1, wait_s=30, drain_s=1)
    with ThreadPoolExecutor(6) as callers:
        photo = {"image_file": PHOTO}
        url = f"{address}/v1.0/removebg"
        answers = [callers.submit(requests.post, url, files=photo, timeout=60) for _ in range(6)]
        deadline = time.monotonic() + 30
        while waiting_at(address) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        ended = [answer.exception() is None and answer.result().status_code == 200 for answer in answers]
    assert not all(ended)


def processes():
    """Every process of this machine that has not ended: its id, to its parent's and its name."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                name, _, rest = (entry / "stat").read_text().partition(" (")[2].rpartition(") ")
                if not rest.startswith("Z"):
                    found[int(entry.name)] = int(rest.split()[1]), name
    return found


def descendants(pid):
    """Process ids of a process's children and theirs, to their names."""
    everybody, found, more = processes(), {}, {pid}
    while more := {one for one, (parent, _) in everybody.items() if parent in more}:
        found |= {one: everybody[one][1] for one in more}
    return found


def until(condition, within_s=60):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def test_workers_whose_parent_is_killed_end_and_give_the_port_back(started, port):
    process, _ = started("--workers", "2")
    workers = descendants(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    until(lambda: not workers.keys() & processes().keys())
    check_free("127.0.0.1", port)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("ended", ["command", "server"])
def test_workers_share_one_server_and_command_and_server_end_with_each_other(ended, root, port, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(root / "client"), "NO_PROXY": "*"}
    environment.pop("BGCLIENT_URL", None)
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "bgclient", "web", "--port", str(port), "--workers", "2"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: takes_requests(f"http://127.0.0.1:{port}") or process.poll() is not None, 180)
        assert process.poll() is None, (tmp_path / "log").read_text()
        until(lambda: requests.get(f"http://127.0.0.1:{port}/healthz", timeout=60).ok, 120)
        started = descendants(process.pid)
        assert list(started.values()).count("tritonserver") == 1
        if ended == "command":
            process.terminate()
            process.wait(60)
        else:
            tritonserver = next(pid for pid, name in started.items() if name == "tritonserver")
            os.kill(processes()[tritonserver][0], signal.SIGTERM)  # its keeper
            assert process.wait(60) == 3
            assert (
                b"bgclient: server_died: its keeper was ended from outside (SIGTERM)"
                in (tmp_path / "log").read_bytes()
            )
        until(lambda: not started.keys() & processes().keys())
    finally:
        process.kill()
        process.wait()


def test_a_port_that_is_taken_is_one_sentence_and_no_log(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = subprocess.run(
            [sys.executable, "-m", "bgclient", "web", "--port", str(port), "--url", "127.0.0.1:1"],
            env={**os.environ, "PYTHONPATH": str(root / "client")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert said.returncode == 3
    assert said.stdout == ""
    assert said.stderr == (
        f"bgclient: web_port_busy: port {port} on 127.0.0.1 is taken; "
        "stop the program that listens there, or choose another with --port\n"
    )


def test_the_page_s_address_is_on_stdout(started, tmp_path):
    _, address = started()
    assert f"Open {address}\n" in (tmp_path / "log").read_text()


def test_without_an_engine_the_start_is_refused_with_one_line(root, port):
    code = (
        "import sys, bgserver.installation as i; from pathlib import Path; i.SYSTEM_TRITON = Path('/nowhere');"
        "import bgclient.web, bgclient.cli as c;"
        "i.importlib.util.find_spec = lambda name: None; i.unavailable = lambda: None; sys.exit(c.main())"
    )
    environment = {**os.environ, "PYTHONPATH": str(root / "client")}
    environment.pop("BGCLIENT_URL", None)
    said = subprocess.run(
        [sys.executable, "-c", code, "web", "--port", str(port)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (said.returncode, said.stdout) == (3, "")
    assert said.stderr.count("\n") == 1
    assert "nvidia-pytriton" in said.stderr


def test_a_request_that_offers_http_2_is_answered_with_its_body_read(started):
    _, address = started()
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    answer = requests.post(f"{address}/v1.0/removebg", files={"image_file": PHOTO}, headers=offer, timeout=60)
    assert answer.status_code == 200
    assert issubclass(Connection, H11Protocol)  # also where httptools is installed, which loses the body


def test_a_port_of_the_system_and_an_address_of_another_machine_are_sentences_too(monkeypatch, port):
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1: .*choose an address of this machine with --host"):
        check_free("192.0.2.1", port)
    with pytest.raises(CannotListen, match="choose an address of this machine"):
        check_free("no-such-host.invalid", port)

    def forbidden(self, address):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(CannotListen, match=r"port 80 on 127\.0\.0\.1: .*choose one from 1024 with --port"):
        check_free("127.0.0.1", 80)


def test_a_port_that_is_free_is_free(port):
    check_free("127.0.0.1", port)
    check_free("localhost", port)
    check_free("0.0.0.0", 0)
