"""The real protocols over real sockets, against servers that speak them in Python."""

import asyncio
import queue
import subprocess
import threading

import numpy as np
import pytest

from bgclient import TLS, Retry
from bgclient.client import AsyncClient, Client
from bgclient.errors import (
    AccessDenied,
    BrokenPhoto,
    CallCancelled,
    DeadlineExceeded,
    ServerBusy,
    ServerFault,
    ServerUnavailable,
    TransportError,
)
from bgclient.testing import FakeServer

ONCE = Retry(attempts=1)


def test_a_photo_is_cut_over_the_wire_as_by_the_fake(twin, wire, photo):
    expected = Client("fake:1", connector=FakeServer()).cut(photo)
    client = twin.client(wire.url)
    for where in ("client", "server"):
        cutout = twin.do(client.cut(photo, where=where))
        assert np.array_equal(cutout.pixels, expected.pixels)
        assert cutout.box == expected.box
    twin.do(client.close())


def test_one_connection_serves_call_after_call(twin, wire, photo):
    client = twin.client(wire.url)
    for _ in range(4):
        twin.do(client.cut(photo))
    twin.do(client.close())
    assert len(wire.peers) == 1


def test_the_deadline_ends_the_call_and_reaches_the_server(twin, wire, photo):
    client = twin.client(wire.url)
    twin.do(client.contract())
    wire.fake.delay_s = 20.0
    with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
        twin.do(client.cut(photo, timeout_s=0.5))
    assert wire.noticed.wait(10)
    twin.do(client.close())


def test_closing_the_client_cancels_the_call_on_the_server(twin, grpc_server, photo):
    client = twin.client(grpc_server.url)
    grpc_server.fake.delay_s = 20.0
    result = twin.start(lambda: client.cut(photo))
    assert grpc_server.began.wait(10)
    twin.do(client.close())
    with pytest.raises(CallCancelled):
        result(10)
    assert grpc_server.noticed.wait(10)


def test_cancelling_an_async_task_cancels_the_call_on_the_server(wire, photo):
    async def run():
        wire.fake.delay_s = 20.0
        async with AsyncClient(wire.url) as client:
            task = asyncio.create_task(client.cut(photo))
            await asyncio.to_thread(wire.began.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(wire.noticed.wait, 10)

    asyncio.run(run())


def test_a_cancelled_task_does_not_wait_for_its_photo_to_be_decoded(wire, photo, monkeypatch):
    decoding, cancelled, cancelled_first = threading.Event(), threading.Event(), queue.Queue()

    def slowly(*given):
        decoding.set()
        cancelled_first.put(cancelled.wait(10))

    monkeypatch.setattr("bgclient._core._decoded", slowly)

    async def run():
        wire.fake.delay_s = 20.0
        async with AsyncClient(wire.url) as client:
            task = asyncio.create_task(client.cut(photo))
            assert await asyncio.to_thread(decoding.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled.set()

    asyncio.run(run())
    assert cancelled_first.get(timeout=20)


def test_breaking_off_a_run_of_many_cancels_the_calls_on_the_server(grpc_server, photo):
    grpc_server.fake.delay_s = 20.0
    with Client(grpc_server.url) as client:
        outcomes = client.cut_many([b"", *[photo] * 9], in_flight=2)
        assert not next(
            outcomes
        ).ok  # an empty photo never asks the server, and so is done while others are there
        assert grpc_server.began.wait(10)
        outcomes.close()
        assert grpc_server.noticed.wait(10)


def test_a_bad_photo_is_the_same_error_as_at_home(twin, wire, jpeg):
    client = twin.client(wire.url)
    with pytest.raises(BrokenPhoto, match="cut short"):
        twin.do(client.cut(jpeg[: len(jpeg) // 2], where="server"))
    assert twin.do(client.cut(jpeg, where="server")).box is not None
    twin.do(client.close())


def test_a_full_queue_is_busy_and_tried_again(twin, wire, photo):
    client = twin.client(wire.url, retry=Retry(attempts=2, first_s=0.0, most_s=0.0))
    wire.fake.fail(ServerUnavailable("Exceeds maximum queue size"))
    assert twin.do(client.cut(photo)).timings.tries == 2
    wire.fake.fail(*[ServerUnavailable("Exceeds maximum queue size")] * 2)
    with pytest.raises(ServerBusy, match="2 tries"):
        twin.do(client.cut(photo))
    twin.do(client.close())


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_nobody_at_the_address_is_said_with_the_address(twin, photo, scheme):
    client = twin.client(f"{scheme}127.0.0.1:1", retry=ONCE)
    with pytest.raises(
        ServerUnavailable,
        match=rf"no Triton at {scheme}127\.0\.0\.1:1 \((.*onnection refused|All connection)",
    ):
        twin.do(client.cut(photo))
    twin.do(client.close())


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_host_that_does_not_exist_is_unavailable(twin, photo, scheme):
    client = twin.client(f"{scheme}no-such-host.invalid:8001", retry=ONCE)
    with pytest.raises(ServerUnavailable, match=r"no-such-host\.invalid:8001"):
        twin.do(client.cut(photo))
    twin.do(client.close())


def test_a_server_that_comes_back_is_found_again(twin, grpc_servers, photo):
    first = grpc_servers()
    client = twin.client(first.url, retry=Retry(attempts=40, first_s=0.1, most_s=0.2))
    twin.do(client.cut(photo))
    first.close()
    threading.Timer(0.5, lambda: grpc_servers(port=first.port)).start()
    assert twin.do(client.cut(photo)).timings.tries > 1
    twin.do(client.close())


def test_headers_and_token_go_with_every_request(twin, wire, photo):
    client = twin.client(wire.url, headers={"X-Shop": "7"}, token="s3cret")
    twin.do(client.cut(photo))
    twin.do(client.close())
    assert wire.headers[0]["x-shop"] == "7"
    assert wire.headers[0]["authorization"] == "Bearer s3cret"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    try:
        subprocess.run(
            [*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return folder


def test_tls_trusts_the_named_authority_and_nobody_else(twin, grpc_servers, certificate, photo):
    import grpc

    pair = (certificate / "key.pem").read_bytes(), (certificate / "cert.pem").read_bytes()
    server = grpc_servers(credentials=grpc.ssl_server_credentials([pair]))
    client = twin.client(f"grpcs://{server.url}", tls=TLS(ca_file=str(certificate / "cert.pem")))
    assert twin.do(client.cut(photo)).box is not None
    twin.do(client.close())
    for stranger in (f"grpcs://{server.url}", server.url):
        client = twin.client(stranger, retry=ONCE, timeout_s=5.0)
        with pytest.raises(TransportError):
            twin.do(client.cut(photo))
        twin.do(client.close())


def test_half_a_client_certificate_is_refused():
    with pytest.raises(ValueError, match="together"):
        TLS(cert_file="cert.pem")


@pytest.mark.parametrize("tls", [TLS(ca_file="no such file.pem"), TLS(cert_file="no.pem", key_file="no.pem")])
@pytest.mark.parametrize("scheme", ["grpcs://", "https://"])
def test_a_certificate_that_cannot_be_read_is_an_error_of_ours(twin, photo, tls, scheme):
    client = twin.client(f"{scheme}127.0.0.1:1", tls=tls)
    with pytest.raises(AccessDenied, match=r"\.pem"):
        twin.do(client.cut(photo))


def test_a_server_that_keeps_its_repository_to_itself_is_described_all_the_same(twin, wire):
    wire.restricted = True
    client = twin.client(wire.url)
    (info,) = twin.do(client.info())
    assert info.error is None
    assert info.models == {}
    assert info.network == "fake_network"
    twin.do(client.close())


@pytest.mark.parametrize("facts", [b"", b"{}", b"[]", b"no json", b'{"box": 7, "confidence": null}'])
def test_facts_that_are_nonsense_are_a_fault_of_the_server(twin, fake, photo, monkeypatch, facts):
    from bgimage.finish import Finished

    monkeypatch.setattr(Finished, "facts", lambda self: facts)
    with pytest.raises(ServerFault, match="nonsense"):
        twin.do(twin.client(connector=fake).cut(photo, where="server"))
