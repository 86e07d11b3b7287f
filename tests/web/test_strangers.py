"""Connections that never become requests, and pages that are not ours."""

from __future__ import annotations

import base64
import contextlib
import re
import select
import socket

import pytest
import requests

from bgclient.web import connections
from bgclient.web.connections import Connection

from .support import listening_on_loopback, picture
from .test_process import port, started  # noqa: F401

HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: a\r\nX-"


def connected(address):
    host, _, at = address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(at)), timeout=60)


@pytest.fixture
def hurried(monkeypatch):
    """Looks at connections every tenth of a second, and is as patient as that."""
    monkeypatch.setattr(connections, "LOOK_S", 0.1)
    monkeypatch.setattr(connections, "HEAD_S", 0.2)


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" + HALF_A_HEAD])
def test_a_connection_without_a_whole_request_is_ended(app_with, hurried, sent):
    with listening_on_loopback(app_with(), http=Connection) as address, connected(address) as silent:
        silent.sendall(sent)
        try:
            while silent.recv(65_536):
                pass
        except ConnectionResetError:
            pass


def test_a_head_without_end_is_not_kept(app_with):
    head = b"GET / HTTP/1.1\r\nX-A: " + b"a" * 100_000_000
    with (
        listening_on_loopback(app_with(), http=Connection) as address,
        connected(address) as endless,
        pytest.raises((ConnectionResetError, BrokenPipeError)),
    ):
        endless.sendall(head)


def test_an_answer_that_nobody_reads_is_not_kept(app_with, hurried):
    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(50_000_000)})

    with listening_on_loopback(large, http=Connection, lifespan="off") as address, connected(address) as deaf:
        deaf.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        ended = select.poll()
        ended.register(deaf, select.POLLHUP | select.POLLERR)
        assert ended.poll(60_000)


def test_an_answer_that_is_read_comes_whole_however_large(monkeypatch):
    monkeypatch.setattr(connections, "LOOK_S", 1.0)

    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(50_000_000)})

    with listening_on_loopback(large, http=Connection, lifespan="off") as address:
        assert len(requests.get(address, timeout=60).content) == 50_000_000


def test_more_silent_connections_than_open_files_keep_nobody_out(started, tmp_path):  # noqa: F811
    _, address = started(open_files=256)
    silent = [connected(address) for _ in range(400)]
    for one in silent[:250]:
        with contextlib.suppress(OSError):  # it made room for another
            one.sendall(HALF_A_HEAD)
    assert requests.get(f"{address}/livez", timeout=30).ok
    photo = {"image_file": picture()}
    assert requests.post(f"{address}/v1.0/removebg", files=photo, timeout=60).status_code == 200
    for one in silent:
        one.close()
    assert "Too many open files" not in (tmp_path / "log").read_text()


@pytest.mark.browser
@pytest.mark.slow
def test_a_page_of_another_site_cannot_use_a_front_over_plain_http(listening, stranger):
    address = listening()
    form = {"image_file_b64": base64.b64encode(picture()).decode()}
    stranger(f"{address.replace('127.0.0.1', 'front.example')}/v1.0/removebg", form)
    text = requests.get(f"{address}/metrics", timeout=30).text
    asked = re.findall(r'^bgclient_web_requests_total{.*?route="/v1.0/removebg".*', text, re.MULTILINE)
    assert len(asked) == 1
    assert 'status="403"' in asked[0]
