"""Shared memory: nothing of a photo goes over the socket, and nothing is left behind."""

import base64
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from bgclient import Retry, _shm, _wire
from bgclient.client import Client
from bgclient.errors import DeadlineExceeded, RegionLost, SharedMemoryError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="POSIX shared memory is a folder on Linux only"
)


def ours():
    return sorted(path.name for path in Path("/dev/shm").glob("bgclient-*"))


def test_tensors_go_through_memory_and_the_pixels_are_the_same(twin, grpc_server, photo):
    plain = twin.client(grpc_server.url)
    shared = twin.client(grpc_server.url, shared_memory=True)
    expected = twin.do(plain.cut(photo))
    for where in ("client", "server"):
        assert np.array_equal(twin.do(shared.cut(photo, where=where)).pixels, expected.pixels)
    thin, thick = (request for _, request in grpc_server.fake.requests[-2:])
    assert all(tensor.data == b"" for request in (thin, thick) for tensor in request.inputs)
    assert thin.outputs[0].place is not None
    twin.do(plain.close())
    twin.do(shared.close())


def test_a_region_has_no_name_while_it_is_used_and_is_forgotten_at_the_end(twin, grpc_server, photo):
    client = twin.client(grpc_server.url, shared_memory=True)
    twin.do(client.cut(photo))
    twin.do(client.cut(photo))
    assert ours() == []
    assert len(grpc_server.regions.known) == 1
    twin.do(client.close())
    assert grpc_server.regions.known == {}


def test_calls_in_parallel_have_regions_of_their_own(twin, grpc_server, photo):
    grpc_server.fake.delay_s = 0.05
    client = twin.client(grpc_server.url, shared_memory=True)
    outcomes = twin.many(client.cut_many([photo] * 12, in_flight=4))
    assert all(outcome.ok for outcome in outcomes)
    assert 2 <= len(grpc_server.regions.known) <= 4
    twin.do(client.close())


def test_a_restarted_server_gets_its_regions_again(twin, grpc_server, photo):
    client = twin.client(grpc_server.url, shared_memory=True, retry=Retry(first_s=0.0, most_s=0.0))
    twin.do(client.cut(photo))
    grpc_server.regions.known.clear()
    assert twin.do(client.cut(photo)).timings.tries == 2
    twin.do(client.close())


def test_a_region_of_a_call_that_was_given_up_is_not_used_again(twin, grpc_server, photo):
    client = twin.client(grpc_server.url, shared_memory=True)
    twin.do(client.cut(photo))
    (first,) = grpc_server.regions.known
    grpc_server.fake.delay_s = 5.0
    with pytest.raises(DeadlineExceeded):
        twin.do(client.cut(photo, timeout_s=0.5))
    grpc_server.fake.delay_s = 0.0
    twin.do(client.cut(photo))
    assert grpc_server.forgotten == [first]
    twin.do(client.close())


def test_what_a_killed_client_left_is_swept_by_the_next_one(grpc_server, photo, root):
    script = f"""
import sys, numpy as np
from bgclient import Client, _shm
client = Client({grpc_server.url!r}, shared_memory=True)
client.cut(np.zeros((20, 20, 3), np.uint8))
_shm.SystemRegion(4096)  # made, and not yet unlinked
print("ready", flush=True)
sys.stdin.read()
"""
    killed = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root / "client")},
    )
    assert killed.stdout.readline() == b"ready\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(grpc_server.regions.known) == 1
    assert len(ours()) == 1
    with Client(grpc_server.url, shared_memory=True) as client:
        client.cut(photo)
        assert len(grpc_server.forgotten) == 1
        assert ours() == []
    assert grpc_server.regions.known == {}


def test_a_server_that_cannot_see_our_memory_says_how_to_go_on(twin, grpc_server, photo, monkeypatch):
    def unseen(name, key, byte_size):
        raise FileNotFoundError("shared memory object")

    monkeypatch.setattr(grpc_server.regions, "register", unseen)
    client = twin.client(grpc_server.url, shared_memory=True, retry=Retry(attempts=1))
    with pytest.raises(SharedMemoryError, match="shared_memory=False") as raised:
        twin.do(client.cut(photo))
    assert not isinstance(raised.value, RegionLost)
    assert ours() == []


def test_a_full_memory_is_an_error_and_not_a_crash(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SharedMemoryError, match="no room for 1048576 bytes"):
        _shm.SystemRegion(1 << 20)
    assert ours() == []


def test_names_of_living_and_of_foreign_processes_are_left_alone():
    mine = _shm.SystemRegion(4096)
    try:
        names = [mine.name, "bgclient-00000000-999999999-0", "psm_1234", "bgclient-x"]
        assert _shm.of_the_dead(names) == []
    finally:
        mine.conceal()


@pytest.mark.parametrize("wanted", ["auto", "system", True])
def test_a_server_on_this_host_gets_system_memory_by_each_of_its_names(grpc_server, photo, wanted):
    with Client(grpc_server.url, shared_memory=wanted) as client:
        client.cut(photo)
    (_, request), *_ = grpc_server.fake.requests
    assert request.inputs[0].place is not None


def test_auto_goes_over_the_socket_where_memory_cannot_be_shared_and_says_so_once(
    twin, grpc_server, photo, monkeypatch, caplog
):
    def unseen(name, key, byte_size):
        raise FileNotFoundError("shared memory object")

    monkeypatch.setattr(grpc_server.regions, "register", unseen)
    client = twin.client(grpc_server.url, shared_memory="auto")
    outcomes = twin.many(client.cut_many([photo] * 3, in_flight=1))
    assert all(outcome.ok and outcome.cutout.timings.tries == 1 for outcome in outcomes)
    assert [record.levelname for record in caplog.records if record.name == "bgclient"] == ["WARNING"]
    assert "over the socket" in caplog.text
    assert ours() == []
    twin.do(client.close())


def test_auto_asks_no_server_elsewhere_to_share_memory(twin, fake, photo):
    client = twin.client("gpu1:8001", connector=fake, shared_memory="auto")
    twin.do(client.cut(photo))
    assert {query.rpc for _, query in fake.queries} == {"ModelConfig"}
    assert fake.requests[0][1].inputs[0].place is None
    twin.do(client.close())


def test_a_kind_of_shared_memory_that_does_not_exist_is_refused_at_once():
    with pytest.raises(ValueError, match=r"shared_memory='gpu': use 'auto', 'system', 'cuda', or False"):
        Client("fake:8001", shared_memory="gpu")


def test_memory_that_the_server_still_uses_is_kept_until_it_lets_go(twin, grpc_server, photo):
    client = twin.client(grpc_server.url, shared_memory=True)
    twin.do(client.cut(photo))
    (name,) = grpc_server.regions.known
    grpc_server.in_use.add(name)
    grpc_server.fake.delay_s = 5.0
    with pytest.raises(DeadlineExceeded):
        twin.do(client.cut(photo, timeout_s=0.5))
    grpc_server.fake.delay_s = 0.0
    twin.do(client.cut(photo))
    (regions,) = client._link.regions.values()
    assert regions.stale() == [name]
    grpc_server.in_use.clear()
    twin.do(client.cut(photo))
    assert regions.stale() == []
    assert name not in grpc_server.regions.known
    twin.do(client.close())


def test_cuda_without_a_gpu_says_what_is_missing_and_how_to_go_on(twin, grpc_server, photo):
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("a GPU is here")
    client = twin.client(grpc_server.url, shared_memory="cuda")
    with pytest.raises(SharedMemoryError, match="needs an NVIDIA GPU") as raised:
        twin.do(client.cut(photo))
    assert "cudaError" in str(raised.value)
    assert 'shared_memory="system"' in str(raised.value)
    assert not raised.value.retryable
    assert grpc_server.fake.requests == []
    twin.do(client.close())


def test_cuda_without_its_bindings_names_the_extra(twin, grpc_server, photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    client = twin.client(grpc_server.url, shared_memory="cuda")
    with pytest.raises(SharedMemoryError, match=r'pip install "bgclient\[cuda\]"'):
        twin.do(client.cut(photo))
    twin.do(client.close())


def test_both_protocols_carry_a_cuda_handle():
    query = _wire.register_cuda_query("mine", b"\x00handle", 1, 4096)
    message = service_pb2.CudaSharedMemoryRegisterRequest(**query.fields)
    assert (message.name, message.raw_handle, message.device_id) == ("mine", b"\x00handle", 1)
    assert query.path == "v2/cudasharedmemory/region/mine/register"
    assert base64.b64decode(query.body["raw_handle"]["b64"]) == b"\x00handle"
