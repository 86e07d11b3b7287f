"""The network in this process: the server's pixels, without a server."""

import asyncio
import os
import re
import threading
import urllib.request

import numpy as np
import pytest

from bgclient import AsyncClient, Client, local
from bgclient.errors import DeadlineExceeded, NoServer
from bgserver.errors import EngineMissing

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """Nothing in the environment says where the network is."""
    for name in ("BGCLIENT_URL", "BGCLIENT_ENGINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def portrait(examples):
    return examples["grace_hopper"]


@pytest.fixture(scope="module")
def expected(portrait):
    """The portrait, cut by a client of its own."""
    return Client(engine="onnxruntime").cut(portrait, format="png").png()


def test_cut_finds_the_person_without_a_server(twin, portrait):
    cutout = twin.do(twin.client(None).cut(portrait))
    assert cutout.timings.server == "this process"
    assert cutout.timings.sent_bytes == 0
    assert cutout.expected_iou > 0.8


def test_both_places_of_finishing_are_the_same_here(twin, portrait, expected):
    client = twin.client(None)
    for where in ("client", "server"):
        assert twin.do(client.cut(portrait, where=where)).png() == expected


def test_the_client_says_what_runs_the_network(twin):
    client = twin.client(None)
    (info,) = twin.do(client.info())
    assert twin.do(client.ready())
    assert info.ready
    assert info.backend.startswith("ONNX Runtime")
    assert info.contract == twin.do(client.contract())


def test_bgclient_url_goes_before_the_network_of_this_process(monkeypatch, photo, fake):
    monkeypatch.setenv("BGCLIENT_URL", "elsewhere:8001")
    assert Client(connector=fake).cut(photo).timings.server == "elsewhere:8001"


def test_an_engine_that_is_asked_for_goes_before_bgclient_url(monkeypatch, portrait):
    monkeypatch.setenv("BGCLIENT_URL", "elsewhere:8001")
    assert Client(engine="onnxruntime").cut(portrait).timings.server == "this process"


def test_many_threads_share_one_network_and_get_their_own_photos_back(examples):
    names = ["grace_hopper", "astronaut"]
    alone = {name: Client().cut(examples[name]).png() for name in names}
    wrong = []

    def work(name):
        wrong.extend(name for _ in range(2) if Client().cut(examples[name]).png() != alone[name])

    threads = [threading.Thread(target=work, args=[name]) for name in names * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_loops_share_the_network_one_after_another_and_at_once(portrait, expected):
    async def several():
        async with AsyncClient() as client:
            return [c.png() for c in await asyncio.gather(*(client.cut(portrait) for _ in range(3)))]

    for _ in range(2):
        assert asyncio.run(several()) == [expected] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_loads_its_own_network_while_the_parent_s_is_busy(run_python, portrait):
    script = """
import os, sys, threading
from bgclient import cut
expected = cut(sys.argv[1]).png()
stop = threading.Event()
def work():
    while not stop.is_set():
        cut(sys.argv[1], edges="none")
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if cut(sys.argv[1]).png() == expected else 1)
    children.append(child)
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stop.set()
for thread in threads:
    thread.join()
print(statuses, cut(sys.argv[1]).png() == expected)
"""
    done = run_python(script, portrait, timeout=300, BGCLIENT_URL="")
    assert done.stdout == "[0, 0, 0] True\n", done.stderr[-2000:]


def test_a_photo_whose_turn_does_not_come_is_past_its_deadline(portrait):
    client = Client()
    client.cut(portrait)
    with (
        local.network("onnxruntime")._turn,
        pytest.raises(DeadlineExceeded, match=r"this process within 0\.2 s"),
    ):
        client.cut(portrait, timeout_s=0.2)


def test_the_deadline_of_a_call_covers_loading_the_network_which_goes_on(twin, portrait, monkeypatch):
    go_on, loads, load = threading.Event(), [], local._loaded

    def slow(engine):
        loads.append(engine)
        go_on.wait(60)
        return load(engine)

    monkeypatch.setattr(local, "_networks", {})
    monkeypatch.setattr(local, "_loaded", slow)
    client = twin.client(None)
    with pytest.raises(DeadlineExceeded, match=r"not ready within 0\.2 s; it is still starting"):
        twin.do(client.cut(portrait, timeout_s=0.2))
    go_on.set()
    assert twin.do(client.cut(portrait, timeout_s=300.0)).timings.server == "this process"
    assert loads == ["onnxruntime"]


@pytest.mark.parametrize("engine", ["cuda", "coreml", "directml"])
def test_an_accelerator_that_is_not_here_is_an_error_and_not_the_cpu(twin, portrait, engine):
    from bgimage import runtimes
    from bgserver.engines import _PROVIDERS

    if _PROVIDERS[engine][0] in runtimes.onnxruntime().get_available_providers():
        pytest.skip("it is here")
    client = twin.client(None, engine=engine)
    with pytest.raises(EngineMissing, match=f"engine {engine} was asked for .* pip install onnxruntime"):
        twin.do(client.cut(portrait))


def test_openvino_by_name_gives_the_same_cut_out_but_for_rounding(portrait):
    pytest.importorskip("openvino")
    one, other = (Client(engine=engine).cut(portrait) for engine in ("onnxruntime", "openvino"))
    assert np.abs(one.matte.astype(int) - other.matte).max() <= 3


def test_an_engine_that_does_not_exist_is_refused_at_once():
    with pytest.raises(ValueError, match="engine='gpu': use one of onnxruntime, "):
        Client(engine="gpu")


def test_without_onnx_runtime_both_ways_out_are_said(twin, portrait, monkeypatch):
    monkeypatch.setattr(local, "_networks", {})
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NoServer, match=r"pip install 'bgclient\[local\]', or set BGCLIENT_URL"):
        twin.do(twin.client(None).cut(portrait))


def test_an_offer_of_fewer_cores_is_taken(monkeypatch):
    from bgserver.engines import cores

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= cores() <= os.cpu_count()


def test_a_ray_worker_without_a_server_runs_the_network_itself(portrait):
    from bgclient.ray import Cutter

    photos = np.empty(2, object)
    photos[:] = [portrait.read_bytes(), b"no photo"]
    batch = Cutter(format="png")({"bytes": photos})
    assert batch["cutout"][0] == Client().cut(portrait, format="png").encode()
    assert batch["error"][0] == ""
    assert batch["error"][1].startswith("unknown_format")


def test_nothing_is_loaded_before_the_first_call(run_python):
    script = """
import sys
from bgclient import Client
Client()
print([name for name in ("numpy", "cv2", "onnxruntime", "bgserver") if name in sys.modules])
"""
    assert run_python(script, BGCLIENT_URL="").stdout == "[]\n"


@pytest.mark.server
def test_the_server_gives_the_very_same_bytes(portrait, expected):
    from bgserver import Server, Settings

    settings = Settings(variant="cpu", engine="onnxruntime", canary_timeout_s=60.0, start_timeout_s=300.0)

    def from_memory():
        with urllib.request.urlopen(server.metrics_url, timeout=30) as answer:
            text = answer.read().decode()
        return [float(n) for n in re.findall(r"^bgclient_kept_answers_total{.*} (\S+)", text, re.M)]

    with Server(settings) as server, Client(server.grpc_url, timeout_s=120.0) as client:
        for where in ("client", "server"):
            assert client.cut(portrait, where=where, format="png").png() == expected
        assert from_memory() == [1]
        for _ in range(2):
            server.check(timeout_s=60.0)
        assert from_memory() == [1], "a test photo must reach the network"
