"""Addresses, proxies, retries and deadlines, by themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgclient._endpoints import Endpoint, described, parse_endpoints
from bgclient._retry import FIRST_S, MOST_S, Deadline, pause_s
from bgclient.errors import DeadlineExceeded, ServerBusy, ServerFault


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8001", Endpoint("grpc", "localhost:8001")),
        (" localhost:8001 ", Endpoint("grpc", "localhost:8001")),
        ("grpc://gpu1:9001/", Endpoint("grpc", "gpu1:9001")),
        ("grpcs://gpu1:443", Endpoint("grpc", "gpu1:443", tls=True)),
        ("http://gpu1:8000", Endpoint("http", "gpu1:8000")),
        ("http://gpu1", Endpoint("http", "gpu1:80")),
        ("https://gpu1/triton/", Endpoint("http", "gpu1:443/triton", tls=True)),
        ("[::1]:8001", Endpoint("grpc", "[::1]:8001")),
    ],
)
def test_an_address_is_understood(url, expected):
    assert Endpoint.parse(url) == expected
    assert Endpoint.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "address"),
        ("localhost", "port is missing"),
        ("localhost:", "port is missing"),
        ("localhost:eighty", "localhost:eighty"),
        ("localhost:99999", "range"),
        ("ftp://localhost:21", "unknown scheme 'ftp'"),
        ("grpc://host:1/path", "gRPC has no path"),
        ("http://user:secret@host", "not the address of a server"),
        ("http://host/?q=1", "not the address of a server"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(url, why):
    with pytest.raises(ValueError, match=why):
        Endpoint.parse(url)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("localhost:8001", True),
        ("http://127.0.0.1:8000/triton", True),
        ("[::1]:8001", True),
        ("gpu1:8001", False),
        ("10.0.0.1:8001", False),
    ],
)
def test_a_loopback_address_is_known_to_be_here(url, here):
    assert Endpoint.parse(url).is_here is here


def test_several_servers_are_separated_by_commas_or_listed_and_each_counts_once():
    assert parse_endpoints("a:1, b:2,a:1,") == parse_endpoints(["a:1", "b:2"])
    with pytest.raises(ValueError, match="names no server"):
        parse_endpoints(" , ")
    with pytest.raises(ValueError, match="one protocol"):
        parse_endpoints("a:1,http://b:2")


@pytest.fixture
def proxies(monkeypatch):
    """Says which proxies there are, and no others."""
    for name in ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def say(**named):
        for name, value in named.items():
            monkeypatch.setenv(name, value)

    return say


@pytest.mark.parametrize("url", ["gpu1:8001", "http://gpu1:8000", "https://gpu1:8000"])
def test_a_proxy_on_the_way_is_named_without_its_password(proxies, url):
    proxies(http_proxy="http://me:secret@squid:3128", https_proxy="http://me:secret@squid:3128")
    assert described(parse_endpoints(url)) == f"{url} through the proxy http://squid:3128"


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "localhost:8001", "http://[::1]:8000", "gpu1.lan:8001"])
def test_this_machine_and_what_no_proxy_names_is_never_asked_through_a_proxy(proxies, url):
    proxies(http_proxy="http://squid:3128", grpc_proxy="http://squid:3128", no_proxy=".lan")
    assert described(parse_endpoints(url)) == url


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@given(st.integers(1, 10_000))
def test_a_pause_lies_between_nothing_and_its_doubled_and_capped_ceiling(tries):
    busy = ServerBusy("full")
    ceiling = min(MOST_S, FIRST_S * 2 ** min(tries - 1, 10))
    assert pause_s(busy, tries, 60.0, uniform=lambda low, high: high) == pytest.approx(ceiling)
    assert pause_s(busy, tries, 60.0, uniform=lambda low, high: low) == 0
    assert 0 <= pause_s(busy, tries, 60.0) <= ceiling


def test_what_cannot_get_better_is_not_tried_again():
    assert pause_s(ServerFault("broke"), 1, 60.0) is None


def test_a_server_is_not_asked_before_it_wants_to_nor_after_the_deadline():
    busy = ServerBusy("full")
    busy.retry_after_s = 7.0
    assert pause_s(busy, 1, 60.0) == 7.0
    assert pause_s(busy, 1, 5.0) is None


def test_a_deadline_runs_down(clock):
    deadline = Deadline(5.0, clock)
    clock.now += 2.0
    assert (deadline.elapsed_s, deadline.left_s) == (2.0, 3.0)
    assert deadline.left() == 3.0
    clock.now += 4.0
    assert deadline.left_s < 0
    with pytest.raises(DeadlineExceeded):
        deadline.left()
