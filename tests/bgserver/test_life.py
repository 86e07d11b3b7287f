"""A server starts, stays up and goes away without a trace, whatever happens to whom."""

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from bgserver import canary, errors
from bgserver.installation import TRITON, find_tritonserver
from bgserver.keeper import MAX_RESTARTS, Keeper

from .conftest import parents

pytestmark = pytest.mark.server


def echo(server, photo, timeout_s=30.0):
    return canary.infer(server.http_url, "cutout", photo, "cutout", timeout_s=timeout_s)[1][4:]


def test_a_server_answers_and_leaves_nothing_behind(tiny, traces):
    server = tiny().start()
    left = traces(server.facts["pid"])
    assert len(left()) >= 4  # server, model, folder, shared memory
    assert echo(server, canary.photo()) == canary.photo()
    server.stop()
    assert left() == []
    assert server.wait(5.0)
    assert server.state == "stopped"


def test_a_server_starts_for_a_user_without_a_home_and_without_a_name(tiny_repository):
    stranger = ["unshare", "--user", "--map-user=12345"]
    if subprocess.run([*stranger, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user namespace be made")
    start = (
        "import os, pwd\n"
        "from bgserver import Server, Settings\n"
        "assert 'HOME' not in os.environ\n"
        "try: pwd.getpwuid(os.getuid())\n"
        "except KeyError: pass\n"
        "else: raise SystemExit('this user has a name')\n"
        f"settings = Settings(variant='cpu', repository={str(tiny_repository)!r}, models=('cutout',))\n"
        "with Server(settings) as server:\n"
        "    print(server.state)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [*stranger, sys.executable, "-c", start], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


def test_a_stop_with_nothing_in_flight_does_not_wait_for_triton_s_own_end(tiny, traces, tmp_path):
    server = tiny(drain_s=30.0).start()
    left = traces(server.facts["pid"])
    assert echo(server, canary.photo()) == canary.photo()
    server.stop()
    assert left() == []
    log = (tmp_path / "log").read_text()
    assert "Timeout 30: Found 0 model versions that have in-flight inferences" in log
    assert "Timeout 29" not in log


def test_a_stop_does_not_wait_for_clients_that_were_answered_and_keep_their_connection(
    tiny, traces, tmp_path
):
    server = tiny(drain_s=30.0).start()
    left = traces(server.facts["pid"])
    idle = http.client.HTTPConnection(server.http_url.removeprefix("http://"))
    photo = {"name": "photo", "shape": [1, 1], "datatype": "BYTES", "data": ["sleep:0.3"]}
    idle.request("POST", "/v2/models/cutout/infer", json.dumps({"inputs": [photo]}))
    assert idle.getresponse().read()
    server.stop()
    assert left() == []
    log = (tmp_path / "log").read_text()
    assert "Timeout 30: Found 1 HTTP service connections" in log
    assert "Timeout 15" not in log
    idle.close()


def test_a_model_that_has_last_words_gets_to_say_them(tiny, tiny_repository, tmp_path):
    said = tmp_path / "last words"
    model = tiny_repository / "cutout" / "1" / "model.py"
    model.write_text(
        model.read_text() + f"\n    def finalize(self):\n        open({str(said)!r}, 'w').close()\n"
    )
    server = tiny().start()
    server.stop()
    assert said.exists()


def test_the_wheel_s_tritonserver_is_the_one_that_is_listed(tiny):
    if find_tritonserver().wheel is None:
        pytest.skip("this machine has a tritonserver of its own")
    told = json.loads(canary.request(tiny().start().http_url, "GET", "/v2")[2])
    assert f"tritonserver=={told['version']}" == TRITON


def test_ports_are_those_asked_for(tiny, free_ports):
    ports = free_ports(3)
    server = tiny(grpc_port=ports[0], http_port=ports[1], metrics_port=ports[2]).start()
    assert server.grpc_url == f"127.0.0.1:{ports[0]}"
    assert server.http_url == f"http://127.0.0.1:{ports[1]}"
    assert server.metrics_url == f"http://127.0.0.1:{ports[2]}/metrics"
    assert b"nv_inference_request_success" in canary.request(server.metrics_url, "GET", "/metrics")[2]


def test_a_stop_answers_accepted_photos_and_gives_idle_clients_no_more_than_its_time(tiny, traces):
    server = tiny(drain_s=6.0).start()
    left = traces(server.facts["pid"])
    # Triton waits for kept-alive connections until its timeout, ends with an error and leaks: not here.
    idle = http.client.HTTPConnection(server.http_url.removeprefix("http://"))
    idle.request("GET", "/v2/health/live")
    idle.getresponse().read()
    answers = []
    slow = threading.Thread(target=lambda: answers.append(echo(server, b"sleep:3")))
    slow.start()
    time.sleep(1.0)
    began = time.monotonic()
    server.stop()
    slow.join()
    assert answers == [b"sleep:3"]
    assert time.monotonic() - began < 20, "an idle kept-alive connection held the server up"
    assert left() == []
    idle.close()


def unused_memory():
    """Regions with the name that Triton gives by itself, without those of servers that run beside this test."""
    found, used = set(Path("/dev/shm").glob("triton_python_*")), ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # gone, or another user's
            used += maps.read_text()
    return {region for region in found if str(region) not in used}


def test_a_killed_model_is_noticed_and_the_server_comes_back_on_its_ports(tiny, stubs, eventually):
    server = tiny().start()
    addresses = server.grpc_url, server.http_url
    before = unused_memory()
    os.kill(stubs(server)[0], signal.SIGKILL)
    with contextlib.suppress(errors.CanaryFailed):
        echo(server, canary.photo())  # Triton maps memory of another name when it finds the model dead
    eventually(lambda: server.restarts == 1, 15.0)
    eventually(lambda: server.state == "ready")
    eventually(lambda: unused_memory() <= before, 5.0)
    assert (server.grpc_url, server.http_url) == addresses
    assert echo(server, canary.photo()) == canary.photo()


def test_a_stopped_model_is_noticed_and_replaced(tiny, stubs, eventually):
    server = tiny(canary_timeout_s=2.0, canary_every_s=1.0).start()
    os.kill(stubs(server)[0], signal.SIGSTOP)
    eventually(lambda: server.restarts == 1, 30.0)
    eventually(lambda: server.state == "ready")
    assert echo(server, canary.photo()) == canary.photo()


def test_a_model_that_never_answers_is_noticed_by_the_canary(tiny, eventually):
    server = tiny(canary_timeout_s=1.0, canary_every_s=0.5).start()
    with contextlib.suppress(errors.CanaryFailed):  # the server is ended over this one
        echo(server, b"sleep:60")
    eventually(lambda: server.restarts == 1, 30.0)
    eventually(lambda: server.state == "ready")


def test_a_busy_server_is_not_taken_for_a_stuck_one(tiny):
    server = tiny(canary_timeout_s=1.0, canary_every_s=0.5).start()
    busy = [threading.Thread(target=echo, args=(server, b"sleep:0.5")) for _ in range(12)]
    for thread in busy:
        thread.start()
    for thread in busy:
        thread.join()  # six seconds of queue; the canary at its end waits longer than its timeout
    assert server.restarts == 0


def test_a_photo_that_takes_long_to_compute_is_not_taken_for_a_stuck_model(tiny):
    server = tiny(canary_timeout_s=1.0, canary_every_s=0.5).start()
    assert echo(server, b"compute:6") == b"compute:6"
    assert server.restarts == 0


def test_a_killed_server_is_replaced(tiny, traces, eventually):
    before = set(Path("/tmp").glob("python_env_*"))
    server = tiny().start()
    environments = set(Path("/tmp").glob("python_env_*")) - before
    left = traces(server.facts["pid"])
    old = {what for what in left() if isinstance(what, int)}
    os.kill(server.facts["pid"], signal.SIGKILL)
    eventually(lambda: server.restarts == 1 and server.state == "ready")
    assert not old & set(left()), "models of the killed server live on"
    keeper = server._keeper.pid
    assert [pid for pid, parent in parents().items() if parent == keeper] == [server.facts["pid"]], "zombies"
    assert echo(server, canary.photo()) == canary.photo()
    server.stop()
    assert not [path for path in environments if path.exists()]


def test_a_server_that_is_killed_again_and_again_comes_back_every_time(tiny, eventually):
    server = tiny().start()
    for times in range(1, MAX_RESTARTS + 2):
        os.kill(server.facts["pid"], signal.SIGKILL)
        eventually(lambda times=times: server.restarts == times and server.state == "ready")
    assert echo(server, canary.photo()) == canary.photo()


def test_restarts_have_longer_and_longer_pauses_between_them(capsys):
    keeper = Keeper.__new__(Keeper)
    keeper._restarts = []
    assert [keeper._restart("it died") for _ in range(10)] == [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]
    assert '"why": "it died"' in capsys.readouterr().out


def test_a_killed_keeper_is_replaced_and_the_server_comes_back_on_its_ports(tiny, traces, eventually):
    server = tiny().start()
    left = traces(server.facts["pid"])
    addresses, old = (server.grpc_url, server.http_url), left()
    os.kill(server._keeper.pid, signal.SIGKILL)
    eventually(lambda: server.restarts == 1 and server.state == "ready")
    assert (server.grpc_url, server.http_url) == addresses
    assert echo(server, canary.photo()) == canary.photo()
    assert not set(old) & set(left())
    server.stop()
    assert server.state == "stopped"


FAILS_ONCE = {
    "first photo fails": ("def response(self, photos):", "raise RuntimeError('not yet')"),
    "model dies while it starts": ("def initialize(self, args):", "os._exit(1)"),
    "model does not come to an end of its start": ("def initialize(self, args):", "time.sleep(300)"),
}


@pytest.mark.parametrize("how", FAILS_ONCE)
def test_a_restarted_server_that_fails_once_is_started_once_more(tiny, eventually, tmp_path, how):
    server, bad = tiny(start_timeout_s=10.0).start(), tmp_path / "bad"
    model = server.settings.repository / "cutout" / "1" / "model.py"
    head, fails = FAILS_ONCE[how]
    fails_once = f"""    {head}
        import os, time
        if os.path.exists({str(bad)!r}):
            os.unlink({str(bad)!r})
            {fails}
"""
    text = model.read_text()
    model.write_text(text.replace(f"    {head}\n", fails_once) if head in text else f"{text}\n{fails_once}")
    bad.touch()
    os.kill(server.facts["pid"], signal.SIGKILL)
    eventually(lambda: server.restarts == 2 and server.state == "ready", 90.0)
    assert not bad.exists()
    assert echo(server, canary.photo()) == canary.photo()


def test_a_server_that_dies_again_and_again_is_given_up_with_a_sentence(tiny, eventually, tmp_path):
    gone = tmp_path / "gone"
    server = tiny(start_timeout_s=60.0).start()
    model = server.settings.repository / "cutout" / "1" / "model.py"
    os.rename(model, gone)
    os.kill(server.facts["pid"], signal.SIGKILL)
    with pytest.raises(errors.ServerError):
        server.wait(90.0)
    assert server.state == "failed"


def test_a_keeper_that_somebody_ends_takes_its_server_along_and_the_application_is_told(
    tiny, traces, eventually
):
    server = tiny().start()
    left = traces(server.facts["pid"])
    os.kill(server._keeper.pid, signal.SIGTERM)
    with pytest.raises(errors.ServerDied, match=r"its keeper was ended from outside \(SIGTERM\)"):
        server.wait(60.0)
    assert server.state == "failed"
    eventually(lambda: not left())


APPLICATION = """
import os, signal, sys, time
from bgserver import Server, Settings
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit an ignored one
settings = Settings(
    variant="cpu", repository=sys.argv[1], models=("cutout",), drain_s=5.0, canary_timeout_s=30.0
)
with Server(settings) as server:
    print(server.facts["pid"], server._keeper.pid, flush=True)
    if len(sys.argv) > 2 and os.fork() == 0:
        time.sleep(60)  # a child that keeps the pipe open
        os._exit(0)
    time.sleep(300)
"""


@pytest.fixture
def application(tiny_repository):
    """Starts a program that embeds a server; returns it and the process ids of server and keeper."""
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            command = [sys.executable, "-c", APPLICATION, str(tiny_repository), *arguments]
            program = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
            )
            stack.callback(program.wait)
            stack.callback(program.kill)
            return program, *map(int, program.stdout.readline().split())

        yield start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_application_is_ended(application, traces, eventually, number):
    program, pid, _ = application()
    left = traces(pid)
    os.killpg(program.pid, number)  # as Ctrl-C does, to the whole group of the terminal
    program.wait(60)
    eventually(lambda: not left(), 60.0)


def test_nothing_is_left_when_a_forked_child_outlives_the_application(application, traces, eventually):
    program, pid, _ = application("fork")
    left = traces(pid)
    program.kill()
    eventually(lambda: not left(), 60.0)
    os.killpg(program.pid, signal.SIGKILL)


def test_what_a_killed_keeper_and_application_leave_is_ended_and_removed_by_the_next_start(
    application, traces, eventually, tiny
):
    program, pid, keeper = application()
    left = traces(pid)
    os.kill(pid, signal.SIGSTOP)  # it hears no signal that asks
    program.kill()
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: keeper not in left())
    assert left()
    tiny().start()
    assert left() == []


def test_a_second_server_does_not_share_the_ports_of_the_first(tiny):
    first = tiny().start()
    taken = int(first.grpc_url.rpartition(":")[2])
    with pytest.raises(errors.PortBusy, match=f"grpc port {taken} on 127.0.0.1"):
        tiny(grpc_port=taken).start()
    with pytest.raises(errors.PortBusy, match="http port"):
        tiny(http_port=int(first.http_url.rpartition(":")[2])).start()
    assert echo(first, canary.photo()) == canary.photo()


def test_other_users_see_no_shared_memory_and_no_core_is_dumped(tiny, traces, monkeypatch):
    monkeypatch.setenv("BGCLIENT_WEB_API_KEYS", "of the front")
    server = tiny().start()
    left = traces(server.facts["pid"])()
    regions = [what for what in left if isinstance(what, Path) and what.parent == Path("/dev/shm")]
    assert regions
    assert {region.stat().st_mode & 0o777 for region in regions} == {0o600}
    family = [what for what in left if isinstance(what, int)]
    assert len(family) >= 2  # server, model
    for pid in family:
        assert re.search(r"Max core file size +0 +0 ", (Path("/proc") / str(pid) / "limits").read_text())
        assert "Umask:\t0077" in (Path("/proc") / str(pid) / "status").read_text()
        assert (
            b"BGCLIENT" not in (Path("/proc") / str(pid) / "environ").read_bytes()
        )  # nor do decoders see keys
    assert echo(server, canary.photo()) == canary.photo()


INTRUDER = """
import triton_python_backend_utils as pb_utils
open({marker!r}, "w").close()

class TritonPythonModel:
    pass
"""


def test_no_web_page_loads_a_model_into_a_server_of_this_machine(tiny, chromium, stranger, tmp_path):
    server, marker = tiny().start(), tmp_path / "marker"
    code = base64.b64encode(INTRUDER.format(marker=str(marker)).encode()).decode()
    config = {"backend": "python", "max_batch_size": 0, "instance_group": [{"kind": "KIND_CPU"}]}
    load = {"parameters": {"config": json.dumps(config), "file:1/model.py": code}}
    stranger(f"{server.http_url}/v2/repository/models/intruder/load", json.dumps(load))
    assert not marker.exists()
    index = canary.request(server.http_url, "POST", "/v2/repository/index", headers=server.admin_headers)[2]
    assert [model["name"] for model in json.loads(index)] == ["cutout"]


def test_administrative_interfaces_ask_for_the_key(tiny):
    server = tiny().start()
    assert len(server.settings.admin_key) >= 32
    statistics = "/v2/models/cutout/stats"
    assert canary.request(server.http_url, "GET", statistics)[0] == 403
    key = server.admin_headers
    assert canary.request(server.http_url, "GET", statistics, headers=key)[0] == 200
    assert canary.request(server.http_url, "POST", "/v2/repository/index")[0] == 403
    assert (
        canary.request(server.http_url, "GET", "/v2/models/cutout/config")[0] == 200
    )  # clients read the contract there
    with triton.InferenceServerClient(server.grpc_url) as client:
        assert client.get_model_config("cutout").config.name == "cutout"
        with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            client.get_model_repository_index()
        assert [m.name for m in client.get_model_repository_index(headers=key).models] == ["cutout"]
    assert echo(server, canary.photo()) == canary.photo()
