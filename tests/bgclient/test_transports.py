"""The real protocols over real sockets, against servers that speak them in Python."""

import asyncio
import queue
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bgclient import TLS
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

    monkeypatch.setattr("bgclient._call._decoded", slowly)

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
    client = twin.client(wire.url)
    wire.fake.fail(ServerUnavailable("Exceeds maximum queue size"))
    assert twin.do(client.cut(photo)).timings.tries == 2
    wire.fake.fail(ServerUnavailable("Exceeds maximum queue size"))
    impatient = twin.client(wire.url, retry=False)
    with pytest.raises(ServerBusy, match="1 try in "):
        twin.do(impatient.cut(photo))
    twin.do(impatient.close())
    twin.do(client.close())


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_nobody_at_the_address_is_said_with_the_address(twin, photo, scheme):
    client = twin.client(f"{scheme}127.0.0.1:1", retry=False)
    with pytest.raises(
        ServerUnavailable,
        match=rf"no Triton at {scheme}127\.0\.0\.1:1 \((.*onnection refused|All connection)",
    ):
        twin.do(client.cut(photo))
    twin.do(client.close())


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_host_that_does_not_exist_is_unavailable(twin, photo, scheme):
    client = twin.client(f"{scheme}no-such-host.invalid:8001", retry=False)
    with pytest.raises(ServerUnavailable, match=r"no-such-host\.invalid:8001"):
        twin.do(client.cut(photo))
    twin.do(client.close())


def test_a_server_that_comes_back_is_found_again(twin, grpc_servers, photo):
    first = grpc_servers()
    client = twin.client(first.url)
    twin.do(client.cut(photo))
    first.close()
    threading.Timer(0.5, lambda: grpc_servers(port=first.port)).start()
    assert twin.do(client.cut(photo)).timings.tries > 1
    twin.do(client.close())


def test_calls_are_balanced_and_a_dead_server_is_passed_over(twin, servers_of, photo):
    one, two = servers_of(), servers_of()
    scheme = one.url.rpartition("/")[0]
    dead = f"{scheme}/127.0.0.1:1" if scheme else "127.0.0.1:1"
    client = twin.client([one.url, dead, two.url])
    outcomes = twin.many(client.cut_many([photo] * 8, in_flight=2))
    assert all(outcome.ok for outcome in outcomes)
    assert min(len(one.fake.requests), len(two.fake.requests)) >= 2
    two.close()
    outcomes = twin.many(client.cut_many([photo] * 4, in_flight=2))
    assert all(outcome.ok for outcome in outcomes)
    twin.do(client.close())


def test_a_name_of_several_servers_is_asked_through_all_of_them(twin, servers_of, photo):
    one, two = servers_of(), servers_of()
    client = twin.client([server.url.replace("127.0.0.1", "localhost") for server in (one, two)])
    assert all(outcome.ok for outcome in twin.many(client.cut_many([photo] * 6, in_flight=2)))
    assert one.fake.requests
    assert two.fake.requests
    twin.do(client.close())


class Evil(ThreadingHTTPServer):
    """Answers everything with a body without end, or one that drips."""

    def __init__(self, chunk, pause_s, header=b""):
        outer = self
        self.chunk, self.pause_s, self.header = chunk, pause_s, header

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.wfile.write(outer.header or b"HTTP/1.1 200 OK\r\n\r\n")
                with suppress(OSError):
                    for _ in range(20_000):
                        self.wfile.write(outer.chunk)
                        time.sleep(outer.pause_s)

        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.mark.parametrize(
    ("chunk", "pause_s", "header", "kind"),
    [
        (b" " * 65536, 0.0, b"", ServerFault),
        (b" ", 0.1, b"", DeadlineExceeded),
        (b"X-A: b\r\n", 0.1, b"HTTP/1.1 200 OK\r\n", DeadlineExceeded),
        (b"[" * 65536, 0.0, b"HTTP/1.1 200 OK\r\nContent-Length: 262144\r\n\r\n", ServerFault),
        (b"nonsense\r\n", 0.0, b"nonsense\r\n", TransportError),
    ],
    ids=["endless", "drips", "header drips", "deep", "not HTTP"],
)
def test_an_http_server_that_is_evil_costs_no_more_than_the_deadline(
    twin, photo, chunk, pause_s, header, kind
):
    server = Evil(chunk, pause_s, header)
    client = twin.client(f"http://127.0.0.1:{server.server_port}", timeout_s=1.5)
    began = time.monotonic()
    with pytest.raises(kind):
        twin.do(client.cut(photo))
    assert time.monotonic() - began < 30  # not the ten minutes of the server
    twin.do(client.close())
    server.shutdown()
    server.server_close()


def test_closing_the_client_cancels_a_call_over_http(http_server, photo):
    http_server.fake.delay_s = 20.0
    client = Client(http_server.url, timeout_s=60.0)
    result = ThreadPoolExecutor(1).submit(client.cut, photo)
    assert http_server.began.wait(10)
    client.close()
    with pytest.raises(CallCancelled):
        result.result(10)
    assert http_server.noticed.wait(10)


@pytest.fixture
def squid(monkeypatch):
    """A proxy that the environment names, and that counts who comes."""
    came = []

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            came.append(self.path)
            self.send_error(502)

        do_CONNECT = do_POST = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://me:secret@127.0.0.1:{server.server_port}")
    yield came
    server.shutdown()
    server.server_close()


def test_this_machine_is_not_asked_through_a_proxy(twin, wire, photo, squid):
    client = twin.client(wire.url)
    assert twin.do(client.cut(photo)).box is not None
    twin.do(client.close())
    assert squid == []


@pytest.mark.parametrize("url", ["gpu1.invalid:8001", "http://gpu1.invalid:8000"])
def test_elsewhere_both_protocols_go_through_the_proxy_and_the_message_names_it(twin, photo, squid, url):
    client = twin.client(url, timeout_s=1.0)
    with pytest.raises(TransportError, match=r"through the proxy http://127\.0\.0\.1:\d+") as raised:
        twin.do(client.cut(photo))
    assert "secret" not in str(raised.value)
    assert squid
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
        client = twin.client(stranger, retry=False, timeout_s=5.0)
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


@pytest.mark.parametrize("facts", [b"", b"{}", b"[]", b"no json", b'{"box": 7, "expected_iou": null}'])
def test_facts_that_are_nonsense_are_a_fault_of_the_server(twin, fake, photo, monkeypatch, facts):
    from bgimage.finish import Finished

    monkeypatch.setattr(Finished, "facts", lambda self: facts)
    with pytest.raises(ServerFault, match="nonsense"):
        twin.do(twin.client(connector=fake).cut(photo, where="server"))
