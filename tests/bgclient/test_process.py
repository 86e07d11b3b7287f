"""Importing, forking, pickling, embedding: how the client behaves in the process that holds it."""

import multiprocessing
import os
import pickle
import sys
import threading
import types
from operator import methodcaller

import pytest

import bgclient
from bgclient import embedded
from bgclient.client import AsyncClient, Client
from bgclient.errors import DeadlineExceeded, NoServer, ServerFault, ServerUnavailable
from bgclient.testing import FakeServer

HEAVY = [
    "numpy",
    "PIL",
    "cv2",
    "simplejpeg",
    "isal",
    "grpc",
    "google",
    "tritonclient",
    "httpx",
    "httpcore",
    "anyio",
    "typer",
    "rich",
    "click",
    "asyncio",
    "torch",
]


def test_importing_the_package_imports_nothing_heavy(run_python):
    script = f"import sys, bgclient; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert run_python(script).stdout.strip() == "[]"


def test_importing_the_errors_imports_nothing_heavy(run_python):
    script = f"import sys, bgclient.errors; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert run_python(script).stdout.strip() == "[]"


def test_a_grpc_client_needs_no_http_and_an_http_client_no_grpc(run_python, grpc_server):
    script = """
import sys, bgclient
bgclient.Client(sys.argv[1]).ready()
print([name for name in ("httpcore", "grpc", "typer", "torch", "bgserver") if name in sys.modules])
"""
    assert run_python(script, grpc_server.url).stdout.strip() == "['grpc']"
    assert run_python(script, "http://127.0.0.1:1").stdout.strip() == "['httpcore']"


def test_every_public_name_is_there_and_any_other_is_not():
    for name in bgclient.__all__:
        assert getattr(bgclient, name) is not None
        assert name in dir(bgclient)
    with pytest.raises(AttributeError, match="cutt"):
        _ = bgclient.cutt


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_travels_by_pickle_with_its_settings_and_without_its_connections(kind):
    client = kind("one:1,two:2", timeout_s=7.0, token="t", headers={"a": "b"}, retry=False, model="fine")
    back = pickle.loads(pickle.dumps(client))
    assert type(back) is kind
    for name in ("_endpoints", "_timeout_s", "_credentials", "_matte", "_cutout", "_retry"):
        assert getattr(back, name) == getattr(client, name)


def test_a_used_client_travels_by_pickle_and_works(grpc_server, photo):
    with Client(grpc_server.url) as client:
        client.cut(photo)
        with pickle.loads(pickle.dumps(client)) as back:
            assert back.cut(photo).box == client.cut(photo).box
    assert len(grpc_server.peers) == 2


FORK = """
import os, sys, threading
import numpy as np
from bgclient import Client
client = Client(sys.argv[1], timeout_s=20.0)
photo = np.zeros((20, 20, 3), np.uint8)
assert client.cut(photo).box
forked = threading.Event()

def cutting():
    while not forked.is_set():
        client.cut(photo)

held = threading.Thread(target=cutting)
held.start()  # calls in flight, locks held: what a fork may meet
for _ in range(10):
    child = os.fork()
    if not child:
        client.cut(photo)
        client.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        break
forked.set()
held.join()
assert client.cut(photo).box
client.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_opens_its_own_connection_and_the_parent_s_goes_on(run_python, wire):
    done = run_python(FORK, wire.url)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_client_works_in_a_pool_of_processes(grpc_server, method):
    with multiprocessing.get_context(method).Pool(2) as pool, Client(grpc_server.url) as client:
        contracts = pool.map(methodcaller("contract"), [client] * 4)
    assert contracts == [grpc_server.fake.contract] * 4


class Counted:
    """Stands in for bgserver.Server."""

    made = ()

    def __init__(self):
        Counted.made.append(self)
        self.stopped = 0
        self.state = "ready"
        self.grpc_url = f"127.0.0.1:{len(Counted.made)}"
        self.admin_headers = {}
        self.facts = {"engines": ["OpenVINO 2025.3.0 on CPU, FP32, 2 threads (asked for)"]}

    def start(self):
        return self

    def wait(self, timeout_s):
        raise ServerFault(f"the one at {self.grpc_url} is ill")

    def stop(self):
        self.stopped += 1


@pytest.fixture
def counted(monkeypatch):
    """An embedded server that only counts."""
    Counted.made = []
    monkeypatch.setitem(sys.modules, "bgserver", types.SimpleNamespace(Server=Counted))
    monkeypatch.delenv("BGCLIENT_URL", raising=False)
    monkeypatch.setattr(embedded, "_server", None)
    yield Counted.made
    embedded.stop()


def test_the_embedded_server_is_started_once_however_many_ask_at_once(counted):
    urls = []
    threads = [threading.Thread(target=lambda: urls.append(embedded.url())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert urls == ["127.0.0.1:1"] * 8
    assert len(counted) == 1


def test_the_embedded_server_is_started_by_the_first_call_and_not_by_making_a_client(counted):
    client = Client(engine="triton", connector=FakeServer())
    assert counted == []
    client.ready()
    client.ready()
    assert len(counted) == 1


def test_the_deadline_of_a_call_covers_the_start_of_the_embedded_server_which_goes_on(
    counted, twin, photo, monkeypatch
):
    ready = threading.Event()
    monkeypatch.setattr(Counted, "start", lambda self: ready.wait(60) and self)
    client = twin.client(None, engine="triton", timeout_s=0.2, connector=FakeServer())
    with pytest.raises(DeadlineExceeded, match=r"not ready within 0\.2 s; it is still starting"):
        twin.do(client.cut(photo))
    assert not twin.do(client.ready())
    ready.set()
    assert twin.do(client.cut(photo, timeout_s=60.0)).timings.server == "127.0.0.1:1"
    assert len(counted) == 1


def test_a_server_that_is_stopped_while_it_starts_does_not_come_up_later(counted, monkeypatch):
    began, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(Counted, "start", lambda self: began.set() or go_on.wait(60))
    start = embedded.starting()
    assert began.wait(60)
    embedded.stop()
    go_on.set()
    with pytest.raises(NoServer, match="stopped while it started"):
        start.result(60)
    assert counted[0].stopped
    assert embedded.url() == "127.0.0.1:2"


def test_info_names_the_engine_that_the_embedded_server_really_runs(counted, twin):
    client = twin.client(None, engine="triton", connector=FakeServer())
    (info,) = twin.do(client.info())
    assert info.backend == "OpenVINO 2025.3.0 on CPU, FP32, 2 threads (asked for)"


def test_after_it_was_stopped_another_one_is_started(counted):
    embedded.url()
    embedded.stop()
    embedded.stop()
    embedded.url()
    assert [server.stopped for server in counted] == [1, 0]


def test_one_that_gave_up_is_replaced_once_for_every_client(counted, twin, photo):
    fake = FakeServer()
    clients = [twin.client(None, engine="triton", connector=fake) for _ in range(2)]

    def servers():
        return [twin.do(client.cut(photo)).timings.server for client in clients]

    assert servers() == ["127.0.0.1:1"] * 2
    counted[0].state = "failed"
    assert servers() == ["127.0.0.1:2"] * 2
    assert (len(counted), counted[0].stopped) == (2, 1)
    counted[1].state = "failed"
    for client in clients:
        with pytest.raises(
            NoServer, match=r"gave up \(.*127.0.0.1:1 is ill; .*127.0.0.1:2 is ill\).*BGCLIENT_URL"
        ):
            twin.do(client.cut(photo))
    assert len(counted) == 2


def test_a_client_whose_server_was_stopped_starts_another(counted, twin, photo):
    client = twin.client(None, engine="triton", connector=FakeServer())
    twin.do(client.cut(photo))
    embedded.stop()
    assert twin.do(client.cut(photo)).timings.server == "127.0.0.1:2"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_its_parent_s_server_and_leaves_it_running(counted):
    embedded.url()
    child = os.fork()
    if not child:
        embedded.url()
        embedded.stop()
        os._exit(0 if len(counted) == 1 and counted[0].stopped == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert counted[0].stopped == 0


def test_bgclient_url_goes_before_the_embedded_server_of_the_environment(counted, monkeypatch, photo):
    fake = FakeServer()
    monkeypatch.setenv("BGCLIENT_ENGINE", "triton")
    monkeypatch.setenv("BGCLIENT_URL", "elsewhere:8001")
    assert Client(connector=fake).cut(photo).timings.server == "elsewhere:8001"
    assert counted == []


def test_nothing_is_left_of_a_process_that_ends_without_closing(run_python, grpc_server):
    script = """
import sys, numpy as np
from bgclient import Client
print(Client(sys.argv[1]).cut(np.zeros((20, 20, 3), np.uint8)).box)
"""
    done = run_python(script, grpc_server.url)
    assert done.returncode == 0
    assert done.stderr == ""


def test_the_functions_use_one_client_of_the_process(run_python, grpc_server):
    script = """
import asyncio, numpy as np
from bgclient import acut, acut_many, cut, cut_many
photo = np.zeros((20, 20, 3), np.uint8)
print(cut(photo).box == asyncio.run(acut(photo)).box, all(outcome.ok for outcome in cut_many([photo] * 3)))

async def many():
    return [outcome.ok async for outcome in acut_many([photo] * 3)]

print(asyncio.run(many()))
"""
    done = run_python(script, BGCLIENT_URL=grpc_server.url)
    assert done.stdout.split("\n")[:2] == ["True True", "[True, True, True]"], done.stderr[-2000:]


def test_nobody_at_bgclient_url_is_an_error_of_ours(run_python):
    script = """
import numpy as np
from bgclient import cut
from bgclient.errors import ServerUnavailable
try:
    cut(np.zeros((20, 20, 3), np.uint8), timeout_s=5.0)
except ServerUnavailable as error:
    print(error)
"""
    assert run_python(script, BGCLIENT_URL="127.0.0.1:1").stdout.startswith("no Triton at 127.0.0.1:1")
    assert ServerUnavailable.retryable
