"""What the containers run, run here: the entry point and the probe against the real server, no engine in between."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest


def environment(deploy, **more):
    """As in the image: the virtual environment and the scripts come first on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), str(deploy / "image"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, **more}


@pytest.fixture
def run(deploy):
    """Runs a command as the container would; gives status, stdout and stderr."""

    def ran(*command, **settings):
        said = subprocess.run(
            command,
            env=environment(deploy, **settings),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return said.returncode, said.stdout, said.stderr

    return ran


class Container:
    """The entry point as the first process of something."""

    def __init__(self, deploy, log, **settings):
        self._log = log
        ports = {f"BGSERVER_{name}_PORT": "0" for name in ("GRPC", "HTTP", "METRICS")}
        settings = {
            "BGSERVER_VARIANT": "cpu",
            "BGSERVER_THREADS": "2",
            "BGSERVER_START_TIMEOUT_S": "300",
            **settings,
        }
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                ["entrypoint"],
                env=environment(deploy, **ports, **settings),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )

    def until_ready(self):
        """Its HTTP address, once it has printed one."""
        line = self.process.stdout.readline()
        assert line, self._log.read_text()[-2000:]
        return line.split()[1]

    def events(self):
        """What its watchdog said, from the log."""
        lines = map(json.loads, self._log.read_text().splitlines())
        return [line for line in lines if "event" in line]

    def stop(self):
        """SIGTERM and the exit status."""
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def container(deploy, tmp_path):
    """A running one, killed in the end if it still runs."""
    made = Container(deploy, tmp_path / "log", BGSERVER_CANARY_EVERY_S="2", BGSERVER_CANARY_TIMEOUT_S="60")
    yield made
    if made.process.poll() is None:
        made.stop()


def children(parent):
    """Process ids and names of a process's children."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition(" (")[2].rpartition(")")
            except OSError:
                continue
            if int(rest.split()[1]) == parent:
                found[int(entry.name)] = name
    return found


def triton_says_ready(url):
    with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as answer:
        return answer.status == 200


@pytest.mark.server
@pytest.mark.slow
def test_the_entry_point_serves_the_probe_sees_it_and_sigterm_leaves_nothing(container, run):
    url = container.until_ready()
    assert run("health", "60", url) == (0, "", "")
    (ready,) = container.events()
    folder = Path(os.readlink(f"/proc/{ready['pid']}/cwd")).parent
    assert list(Path("/dev/shm").glob(f"{folder.name}-*"))
    assert container.stop() == 0
    assert [event["event"] for event in container.events()] == ["ready", "stopped"]
    assert not folder.exists()
    assert not list(Path("/dev/shm").glob(f"{folder.name}-*"))
    status, _, sentence = run("health", "5", url)
    assert status == 1
    assert sentence.startswith("canary_failed: no server answers at")
    assert sentence.count("\n") == 1


@pytest.mark.server
@pytest.mark.slow
def test_triton_says_ready_with_a_dead_model_and_the_probe_does_not(container, run):
    url = container.until_ready()
    (ready,) = container.events()
    triton = ready["pid"]
    (keeper,) = [pid for pid in children(container.process.pid) if triton in children(pid)]
    os.kill(keeper, signal.SIGSTOP)  # without its watchdog a Triton shows its true face
    stubs = [pid for pid, name in children(triton).items() if name.startswith("triton_python")]
    for stub in stubs:
        os.kill(stub, signal.SIGKILL)
    try:
        assert triton_says_ready(url)
        status, _, sentence = run("health", "20", url)
        assert status == 1
        assert sentence.startswith("canary_failed: ")
    finally:
        os.kill(keeper, signal.SIGCONT)
    deadline = time.monotonic() + 240
    while [event["event"] for event in container.events()] != ["ready", "restarting", "ready"]:
        assert time.monotonic() < deadline, container.events()
        time.sleep(0.5)
    assert run("health", "60", url)[0] == 0, "back at the same address"


@pytest.mark.server
def test_a_busy_port_is_one_sentence_and_status_1(deploy, run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        settings = {"BGSERVER_HTTP_PORT": port, "BGSERVER_GRPC_PORT": "0", "BGSERVER_METRICS_PORT": "0"}
        status, out, log = run("entrypoint", BGSERVER_VARIANT="cpu", **settings)
    assert (status, out) == (1, "")
    last = log.strip().splitlines()[-1]
    assert last.startswith(f"port_busy: http port {port} on 127.0.0.1")


@pytest.mark.server
@pytest.mark.slow
def test_sigterm_while_it_still_starts_ends_it_at_once_with_status_0(container):
    deadline = time.monotonic() + 60
    while not [
        p for c in children(container.process.pid) for p in children(c).values() if p == "tritonserver"
    ]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert container.stop() == 0
    assert container.process.stdout.read() == ""


def test_the_trt_variant_without_a_folder_for_plans_says_so(run):
    status, _, sentence = run("entrypoint", "serve", BGSERVER_VARIANT="trt", BGSERVER_PLANS="")
    assert status != 0
    assert "the trt variant needs a folder for plans" in sentence


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_drained_waits_for_the_last_connection_of_a_front_that_listens_no_more(deploy, family):
    """As the server of a pod does before its own end."""
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    front = socket.create_server((host, 0), family=family)
    port = str(front.getsockname()[1])
    caller = socket.create_connection((host, int(port)))
    accepted, _ = front.accept()
    waiting = subprocess.Popen(["drained", "0", "60", port], env=environment(deploy))
    time.sleep(1.5)
    assert waiting.poll() is None, "it still listens"
    front.close()
    time.sleep(1.5)
    assert waiting.poll() is None, "a request is still being answered"
    accepted.close()
    caller.close()
    assert waiting.wait(10) == 0


def test_drained_waits_no_longer_than_it_was_told_and_not_at_all_without_a_front(run):
    with socket.create_server(("127.0.0.1", 0)) as front:
        port = str(front.getsockname()[1])
        began = time.monotonic()
        assert run("drained", "0", "2", port) == (0, "", "")
        assert time.monotonic() - began >= 2
    assert run("drained", "0", "60", port) == (0, "", "")


def test_any_other_command_is_run_as_it_is(run):
    assert run("entrypoint", "sh", "-c", "echo $0 said hello; exit 7", "somebody") == (
        7,
        "somebody said hello\n",
        "",
    )


def test_a_setting_that_is_wrong_is_refused_before_anything_starts(run):
    status, out, sentence = run("entrypoint", BGSERVER_VARIANT="tensorrt")
    assert (status, out) == (2, "")
    assert "tensorrt" in sentence
    status, _, sentence = run("entrypoint", BGSERVER_TLS_CERT="cert.pem")
    assert status == 2
    assert "--tls-cert and --tls-key belong together" in sentence
