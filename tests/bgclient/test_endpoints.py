"""Addresses, balancing, retries and deadlines, by themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgclient._endpoints import Balancer, Endpoint, parse_endpoints
from bgclient._retry import Deadline, Retry


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
        ("", "no address"),
        ("localhost", "port is missing"),
        ("localhost:", "port is missing"),
        ("localhost:eighty", "localhost:eighty"),
        ("localhost:99999", "range"),
        ("ftp://localhost:21", "unknown scheme 'ftp'"),
        ("grpc://host:1/path", "gRPC has no path"),
        ("http://user:secret@host", "no address"),
        ("http://host/?q=1", "no address"),
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


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def balancer(clock):
    return Balancer(parse_endpoints("a:1,b:2,c:3"), first_s=1.0, most_s=4.0, clock=clock)


def test_the_server_with_the_fewest_calls_in_flight_is_asked(balancer):
    assert {balancer.take() for _ in range(3)} == set(balancer.endpoints)
    balancer.succeeded(balancer.endpoints[1])
    assert balancer.take() == balancer.endpoints[1]


def test_a_failed_server_is_set_aside_for_longer_and_longer_until_it_answers(balancer, clock):
    a = balancer.endpoints[0]
    for aside_s in (1.0, 2.0, 4.0, 4.0):
        while balancer.take() != a:
            pass
        balancer.failed(a)
        clock.now += aside_s - 0.01
        assert balancer.ejected() == (a,)
        clock.now += 0.02
        assert balancer.ejected() == ()
    balancer.take()
    balancer.succeeded(a)
    balancer.take()
    balancer.failed(a)
    clock.now += 1.01
    assert balancer.ejected() == ()


def test_when_all_are_set_aside_the_one_that_comes_back_first_is_asked(balancer, clock):
    for endpoint in balancer.endpoints:
        balancer.take()
        balancer.failed(endpoint)
        clock.now += 0.1
    assert balancer.ejected() == balancer.endpoints
    assert balancer.take() == balancer.endpoints[0]


def test_a_server_that_was_just_tried_is_avoided_while_there_is_another(balancer):
    a, b, c = balancer.endpoints
    assert balancer.take(avoid=[a, b]) == c
    assert balancer.others([a, b])
    assert not balancer.others([a, b, c])
    assert balancer.take(avoid=[a, b, c]) in (a, b)


def test_a_dropped_call_says_nothing_about_the_server(balancer):
    endpoint = balancer.take()
    balancer.dropped(endpoint)
    assert balancer.ejected() == ()
    assert all(health.in_flight == 0 for health in balancer._health.values())


@given(st.integers(1, 60), st.floats(0, 5), st.floats(0, 5))
def test_a_pause_lies_between_nothing_and_its_doubled_and_capped_ceiling(attempt, first_s, more_s):
    retry = Retry(first_s=first_s, most_s=first_s + more_s)
    ceiling = min(first_s + more_s, first_s * 2 ** (attempt - 1))
    assert retry.pause_s(attempt, lambda low, high: high) == pytest.approx(ceiling)
    assert retry.pause_s(attempt, lambda low, high: low) == 0
    assert 0 <= retry.pause_s(attempt) <= ceiling


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_s": -1.0}, {"first_s": 3.0, "most_s": 2.0}])
def test_a_retry_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="Retry"):
        Retry(**wrong)


def test_a_deadline_runs_down(clock):
    deadline = Deadline(5.0, clock)
    clock.now += 2.0
    assert (deadline.elapsed_s, deadline.left_s) == (2.0, 3.0)
    clock.now += 4.0
    assert deadline.left_s < 0
