"""The app around the endpoint: who may ask, how much at a time, and what operators see."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from contextlib import AsyncExitStack

import httpx
import pytest

from bgclient.errors import DownloadFailed, ServerBusy, ServerUnavailable, UrlRefused
from bgclient.web import Settings
from bgclient.web import app as app_module
from bgclient.web.errors import Refusal
from bgclient.web.limits import Gate, RateLimit, network_of
from bgclient.web.logs import JsonFormatter

from .support import client_of, picture

PHOTO = picture()
UPLOAD = {"image_file": ("me.jpg", PHOTO, "image/jpeg")}


async def post(http, **sent):
    return await http.post("/v1.0/removebg", **{"files": UPLOAD, **sent})


def code_of(answer):
    return answer.json()["errors"][0]["code"]


async def test_without_keys_everybody_may_ask(http):
    assert (await post(http, headers={"x-api-key": "whatever"})).status_code == 200


@pytest.mark.parametrize("key", [None, "", "wrong", "correct-horse ", "correct-hors\u00e9".encode("latin-1")])
async def test_with_keys_only_their_holders_may_ask(app_with, fake_server, key):
    async with client_of(app_with(api_keys=("correct-horse", "another"))) as http:
        answer = await post(http, headers={} if key is None else {b"x-api-key": key})
        assert (answer.status_code, code_of(answer)) == (403, "auth_failed")
        assert not [r for r in fake_server.requests if r]
        for good in ("correct-horse", "another"):
            assert (await post(http, headers={"x-api-key": good})).status_code == 200
            assert (await http.get("/v1.0/account", headers={"x-api-key": good})).status_code == 200
        assert (await http.get("/v1.0/account")).status_code == 403


async def test_health_and_page_need_no_key(app_with):
    async with client_of(app_with(api_keys=("k",))) as http:
        for path in ("/", "/healthz", "/livez", "/metrics", "/openapi.json", "/docs", "/page.json"):
            assert (await http.get(path)).status_code == 200, path


async def test_pages_of_other_origins_may_not_ask(http):
    for site in ("cross-site", "same-site"):
        answer = await post(http, headers={"origin": "https://evil.example", "sec-fetch-site": site})
        assert (answer.status_code, code_of(answer)) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in answer.headers
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert (await http.options("/v1.0/removebg", headers=preflight)).status_code == 405


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://app", 200), ("http://evil.example", 403), ("http://app:81", 403), ("null", 403)],
)
async def test_over_plain_http_the_origin_itself_says_whose_page_asks(http, origin, status):
    assert (await post(http, headers={"origin": origin})).status_code == status


async def test_a_named_origin_may_ask_and_read_the_headers(app_with):
    async with client_of(app_with(cors_origins=("https://shop.example",))) as http:
        headers = {"origin": "https://shop.example", "sec-fetch-site": "cross-site"}
        answer = await post(http, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert "X-Foreground-Top" in answer.headers["access-control-expose-headers"]
        other = await post(http, headers={"origin": "https://evil.example", "sec-fetch-site": "cross-site"})
        assert other.status_code == 403
        assert "access-control-allow-origin" not in other.headers


async def test_only_the_allowed_hosts_are_answered(app_with):
    async with client_of(app_with(allowed_hosts=("app",))) as http:
        rebound = {"host": "rebound.example"}
        assert (await http.get("/")).status_code == 200
        assert (await http.get("/", headers=rebound)).status_code == 400
        assert (await post(http, headers=rebound)).status_code == 400
        for probe in ("/livez", "/healthz"):  # an orchestrator asks by the machine's address
            assert (await http.get(probe, headers=rebound)).status_code == 200


async def test_a_request_keeps_its_id_or_gets_one(http):
    assert (await http.get("/livez", headers={"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    made = [
        (await http.get("/livez", headers=h)).headers["x-request-id"]
        for h in ({}, {"x-request-id": "a b\t<"})
    ]
    assert len(set(made)) == 2
    assert all(len(one) == 32 for one in made)


async def test_errors_carry_the_id_and_the_log_has_it(http, caplog):
    with caplog.at_level(logging.INFO, "bgclient.web"):
        answer = await http.get("/nowhere", headers={"x-request-id": "abc-2"})
    assert (answer.status_code, code_of(answer), answer.headers["x-request-id"]) == (
        404,
        "not_found",
        "abc-2",
    )
    fields = caplog.records[-1].fields
    assert fields.pop("ms") >= 0
    assert fields == {"request_id": "abc-2", "method": "GET", "route": "other", "status": 404}
    assert (await http.get("/v1.0/removebg")).status_code == 405


async def test_the_id_of_a_request_is_that_of_its_inference(http, fake_server):
    for _ in range(2):
        assert (await post(http, headers={"x-request-id": "abc-3"})).status_code == 200
    assert (await post(http)).headers["x-request-id"] == fake_server.requests[-1][1].id
    assert [request.id for _, request in fake_server.requests][-3:-1] == ["abc-3"] * 2


def test_the_log_is_a_json_object_a_line():
    logger, out = logging.getLogger("bgclient.web.test"), io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    try:
        logger.warning("%s is\nbusy", "triton:8001", extra={"fields": {"request_id": "abc-4"}})
        try:
            raise ZeroDivisionError("of nothing")
        except ZeroDivisionError:
            logger.critical("it failed", exc_info=True)
    finally:
        logger.removeHandler(handler)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.pop("time"))
    assert first == {
        "level": "warning",
        "source": "bgclient.web.test",
        "message": "triton:8001 is\nbusy",
        "request_id": "abc-4",
    }
    assert (second["level"], second["message"]) == ("fatal", "it failed")
    assert "ZeroDivisionError: of nothing" in second["traceback"]


async def test_every_answer_has_the_security_headers(http):
    for path in ("/", "/livez", "/static/style.css", "/nowhere"):
        headers = (await http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]


async def test_beyond_the_rate_a_caller_is_told_when_to_come_back(app_with):
    async with client_of(app_with(requests_per_minute=60, burst=2)) as http:
        first, second, third = [await http.get("/v1.0/account") for _ in range(3)]
        assert [first.status_code, second.status_code, third.status_code] == [200, 200, 429]
        assert first.headers["x-ratelimit-limit"] == "60"
        assert first.headers["x-ratelimit-remaining"] == "1"
        assert code_of(third) == "rate_limit_exceeded"
        assert third.headers["retry-after"] == "1"
        refused = await post(http)
        assert (refused.status_code, refused.headers["x-ratelimit-remaining"]) == (429, "0")


async def test_each_key_has_its_own_rate(app_with):
    async with client_of(app_with(requests_per_minute=60, burst=1, api_keys=("a", "b"))) as http:
        statuses = [(await http.get("/v1.0/account", headers={"x-api-key": k})).status_code for k in "aabb"]
    assert statuses == [200, 429, 200, 429]


async def test_guesses_at_keys_have_a_rate_too(app_with):
    async with client_of(app_with(requests_per_minute=60, burst=3, api_keys=("good",))) as http:
        guesses = [await post(http, headers={"x-api-key": f"guess {n}"}) for n in range(4)]
        assert [answer.status_code for answer in guesses] == [403, 403, 403, 429]
        assert (await post(http, headers={"x-api-key": "good"})).status_code == 200


def test_a_bucket_fills_again_with_time():
    now = 0.0
    rate = RateLimit(60, 2, clock=lambda: now)
    assert [rate.take("a").remaining for _ in range(2)] == [1, 0]
    with pytest.raises(Refusal):
        rate.take("a")
    now = 1.0
    assert rate.take("a").remaining == 0
    now = 100.0
    assert rate.take("a").remaining == 1, "no more than the burst"


def test_callers_are_forgotten_the_longest_silent_first():
    rate = RateLimit(60, 1, max_callers=2, clock=lambda: 0.0)
    for caller in ("a", "b", "c"):
        rate.take(caller)
    assert rate.take("a").remaining == 0, "forgotten, so its bucket is full"
    with pytest.raises(Refusal):
        rate.take("c")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("unix", "unix", True),
    ],
)
def test_a_caller_is_an_ipv4_address_or_an_ipv6_network(one, other, same):
    assert (network_of(one) == network_of(other)) == same


async def test_a_gate_lets_no_more_through_than_its_size():
    gate, most = Gate(2, wait_s=5), 0

    async def one():
        nonlocal most
        async with gate.passed():
            most = max(most, gate.inside)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one() for _ in range(10)))
    assert (most, gate.inside) == (2, 0)


async def test_a_gate_that_stays_closed_says_when_to_come_back():
    for gate in (Gate(1), Gate(1, wait_s=0.01)):
        async with gate.passed():
            with pytest.raises(Refusal) as caught:
                async with gate.passed():
                    raise AssertionError("two inside")
        assert caught.value.status == 503
        assert int(caught.value.headers["Retry-After"]) >= 1
        async with gate.passed():
            assert gate.inside == 1


async def test_one_caller_leaves_places_for_others():
    gate = Gate(64)
    async with AsyncExitStack() as inside:
        for _ in range(33):
            await inside.enter_async_context(gate.passed("greedy"))
        with pytest.raises(Refusal) as caught:
            await inside.enter_async_context(gate.passed("greedy"))
        assert caught.value.status == 429
        assert "Retry-After" in caught.value.headers
        for n in range(31):
            await inside.enter_async_context(gate.passed(f"other {n}"))
        with pytest.raises(Refusal) as caught:
            await inside.enter_async_context(gate.passed("one more"))
        assert caught.value.status == 503
    assert gate.inside == 0


async def test_each_caller_who_waits_has_a_turn_before_one_has_its_second():
    gate, order = Gate(1, wait_s=60), []

    async def one(caller):
        async with gate.passed(caller):
            order.append(caller)

    async with gate.passed("first"):
        asked = [asyncio.create_task(one(caller)) for caller in ("a", "a", "a", "b", "c", "b")]
        while gate.waiting < len(asked):
            await asyncio.sleep(0)
        asked[1].cancel()  # who goes away gives his turn to nobody
    await asyncio.gather(*asked, return_exceptions=True)
    assert order == ["a", "b", "c", "a", "b"] or order == ["a", "b", "c", "b", "a"]
    assert (gate.inside, gate.waiting) == (0, 0)


async def test_cutouts_at_a_time_are_bounded_and_the_rest_wait(app_with, fake_server):
    fake_server.delay_s = 0.05
    async with client_of(app_with(concurrency=2)) as http:
        answers = await asyncio.gather(*(post(http) for _ in range(6)))
    assert [a.status_code for a in answers] == [200] * 6
    assert fake_server.most_in_flight <= 2


async def test_who_waits_at_the_gate_is_counted_and_so_is_the_time(app_with, fake_server):
    fake_server.delay_s = 0.2
    async with client_of(app_with(concurrency=1, wait_s=60)) as http:
        asked = [asyncio.create_task(post(http)) for _ in range(3)]
        while "bgclient_web_requests_waiting 2.0" not in (text := (await http.get("/metrics")).text):
            assert not all(task.done() for task in asked), text
            await asyncio.sleep(0.01)
        assert [(await task).status_code for task in asked] == [200] * 3
        text = (await http.get("/metrics")).text
    assert "bgclient_web_requests_waiting 0.0" in text
    assert "bgclient_web_wait_seconds_count 3.0" in text
    assert float(re.search(r"bgclient_web_wait_seconds_sum (\S+)", text)[1]) > 0.5


async def test_who_is_turned_away_has_waited_too():
    told = []
    gate = Gate(1, wait_s=0.1, waited=told.append)
    async with gate.passed():
        with pytest.raises(Refusal):
            async with gate.passed():
                raise AssertionError("two inside")
    assert len(told) == 2
    assert told[0] < told[1]
    assert gate.waiting == 0


async def test_too_many_at_a_time_are_told_to_come_back(app_with, fake_server):
    fake_server.delay_s = 0.3
    async with client_of(app_with(concurrency=1, uploads=2, wait_s=0.05)) as http:
        answers = await asyncio.gather(*(post(http) for _ in range(5)))
    busy = [a for a in answers if a.status_code == 503]
    assert len(busy) == 4
    assert all("retry-after" in a.headers and code_of(a) == "service_unavailable" for a in busy)


@pytest.mark.parametrize(
    "error", [ServerUnavailable("no Triton at secret:8001"), ServerBusy("queue of secret:8001")]
)
async def test_what_is_wrong_behind_is_for_the_log_and_not_for_the_caller(
    app_with, fake_server, error, caplog
):
    fake_server.fail(*[error] * 50)
    async with client_of(app_with(cut_s=0.4)) as http:
        answer = await post(http)
    assert (answer.status_code, code_of(answer)) == (503, "service_unavailable")
    assert "retry-after" in answer.headers
    assert "secret" not in answer.text
    assert "secret" in caplog.text


async def test_a_defect_is_a_500_in_the_same_form(app_with, fake_server, caplog):
    def broken(image):
        raise ZeroDivisionError("by nature")

    fake_server.network = broken
    async with client_of(app_with()) as http:
        answer = await post(http)
    assert (answer.status_code, code_of(answer)) == (500, "internal_error")
    assert "nature" not in answer.text
    assert "ZeroDivisionError" in caplog.text


async def test_health_is_a_photo_that_came_back(app_with, fake_server):
    app = app_with()
    async with client_of(app) as http:
        well = await http.get("/healthz")
        assert (well.status_code, well.json()["status"]) == (200, "ok")
        assert [request.model for _, request in fake_server.requests] == ["cutout"], "the way of all photos"
        await http.get("/healthz")
        assert len(fake_server.requests) == 1, "asked often, sung once"
        assert "bgclient_web_canary_up 1.0" in (await http.get("/metrics")).text


async def test_health_is_503_when_no_photo_comes_back(app_with, fake_server):
    fake_server.down.add("fake:8001")
    async with client_of(app_with()) as http:
        ill = await http.get("/healthz")
        assert (ill.status_code, ill.json()["error"]) == (503, "server_unavailable")
        assert (await http.get("/livez")).status_code == 200
        assert "bgclient_web_canary_up 0.0" in (await http.get("/metrics")).text


async def test_the_metrics_count_by_route_and_never_by_what_a_caller_sent(http):
    await post(http)
    await http.get("/secret-path")
    await http.request("EVIL", "/livez")
    text = (await http.get("/metrics")).text
    assert 'bgclient_web_requests_total{method="POST",route="/v1.0/removebg",status="200"} 1.0' in text
    assert 'bgclient_web_requests_total{method="GET",route="other",status="404"} 1.0' in text
    assert 'bgclient_web_cut_phase_seconds_count{phase="ask"} 1.0' in text
    assert "secret" not in text
    assert "EVIL" not in text


@pytest.mark.parametrize(
    ("path", "route"),
    [("/openapi.json", "/openapi.json"), ("/static/style.css", "/static"), ("/docs", "/docs")],
)
async def test_files_and_the_api_s_description_have_routes_of_their_own(http, caplog, path, route):
    with caplog.at_level(logging.INFO, "bgclient.web"):
        assert (await http.get(path)).status_code == 200
    assert caplog.records[-1].fields["route"] == route


class Fetch:
    """Stands in for ``bgclient.fetch.Fetcher``."""

    def __init__(self, answer):
        self.answer, self.urls = answer, []

    def fetch(self, url):
        self.urls.append(url)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_urls_are_fetched_where_that_is_allowed(app_with):
    fetch = Fetch(PHOTO)
    async with client_of(app_with(fetch_urls=True, fetcher=fetch)) as http:
        answer = await http.post("/v1.0/removebg", json={"image_url": "https://example.com/a.jpg"})
        assert answer.status_code == 200
        await post(http, data={"bg_image_url": "https://example.com/b.jpg"})
    assert fetch.urls == ["https://example.com/a.jpg", "https://example.com/b.jpg"]


@pytest.mark.parametrize("error", [UrlRefused("it leads inside"), DownloadFailed("it answers 404")])
async def test_a_url_that_gives_no_photo_is_named(app_with, error):
    async with client_of(app_with(fetch_urls=True, fetcher=Fetch(error))) as http:
        answer = await http.post("/v1.0/removebg", json={"image_url": "https://example.com/a.jpg"})
        assert (answer.status_code, code_of(answer)) == (400, "failed_image_download")
        answer = await post(http, data={"bg_image_url": "https://example.com/a.jpg"})
        assert (answer.status_code, code_of(answer)) == (400, "failed_bg_download")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest", "http://localhost/"]
)
async def test_the_real_fetcher_reaches_nothing_inside(app_with, url):
    async with client_of(app_with(fetch_urls=True)) as http:
        answer = await http.post("/v1.0/removebg", json={"image_url": url})
    assert (answer.status_code, code_of(answer)) == (400, "failed_image_download")


def asgi_scope(headers):
    return {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1.0/removebg", "raw_path": b"/v1.0/removebg", "query_string": b"", "root_path": "",
            "headers": headers, "client": ("192.0.2.1", 1), "server": ("app", 80)}  # fmt: skip


async def test_an_upload_is_not_read_beyond_the_cap(app_with):
    """The body is endless; what is taken of it is bounded."""
    app, taken = app_with(max_upload_bytes=100_000), 0
    sent = []

    async def receive():
        nonlocal taken
        taken += 65_536
        head = b'--x\r\nContent-Disposition: form-data; name="image_file"\r\n\r\n' if taken == 65_536 else b""
        return {"type": "http.request", "body": head + b"a" * 65_536, "more_body": True}

    async def send(message):
        sent.append(message)

    await app(
        asgi_scope(
            [(b"content-type", b"multipart/form-data; boundary=x"), (b"transfer-encoding", b"chunked")]
        ),
        receive,
        send,
    )
    assert sent[0]["status"] == 413
    assert taken < 5_000_000, "a little is drained so that the client sees the answer, no more"


async def test_a_body_that_announces_too_much_is_refused_unread(app_with):
    sent = []

    async def receive():
        raise AssertionError("read")

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", b"99999999999")]
    await app_with()(asgi_scope(headers), receive, send)
    assert sent[0]["status"] == 413


async def test_an_upload_that_drips_is_ended(app_with):
    sent = []

    async def receive():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": len(sent) == 0}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    await app_with(upload_s=0.1)(asgi_scope(headers), receive, send)
    assert sent[0]["status"] == 408


async def test_an_upload_that_comes_too_slowly_is_ended_long_before_its_time(app_with, monkeypatch):
    monkeypatch.setattr(app_module, "_PATIENCE_S", 0.2)
    sent, taken = [], 0

    async def receive():
        nonlocal taken
        taken += 1
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a" * 10, "more_body": len(sent) == 0}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    async with asyncio.timeout(30):
        await app_with(upload_s=60)(asgi_scope(headers), receive, send)
    assert sent[0]["status"] == 408


async def test_a_refused_request_is_not_invited_to_send_its_body(app_with):
    sent = []

    async def receive():
        raise AssertionError("invited")

    async def send(message):
        sent.append(message)

    headers = [(b"expect", b"100-continue"), (b"content-length", b"9999"), (b"x-api-key", b"wrong")]
    await app_with(api_keys=("right",))(asgi_scope(headers), receive, send)
    assert sent[0]["status"] == 403


async def test_a_request_of_two_lengths_ends_its_connection(app_with):
    sent = []

    async def receive():
        raise AssertionError("read")

    async def send(message):
        sent.append(message)

    headers = [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]
    await app_with()(asgi_scope(headers), receive, send)
    assert sent[0]["status"] == 400
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_caller_who_hangs_up_stops_the_work(app_with, fake_server):
    fake_server.delay_s = 5
    body = httpx.Request("POST", "http://app/", files=UPLOAD)
    parts = [{"type": "http.request", "body": body.read(), "more_body": False}]

    async def receive():
        if parts:
            return parts.pop()
        while not fake_server.in_flight:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    headers = [(b"content-type", body.headers["content-type"].encode())]
    async with asyncio.timeout(4):
        await app_with()(asgi_scope(headers), receive, send)
        while not fake_server.cancelled:
            await asyncio.sleep(0.01)


def test_settings_come_from_the_environment():
    settings = Settings.from_environment(
        {
            "BGCLIENT_WEB_API_KEYS": "a, b",
            "BGCLIENT_WEB_FETCH_URLS": "yes",
            "BGCLIENT_WEB_WAIT_S": "2.5",
            "BGCLIENT_WEB_WHERE": "client",
            "PATH": "/bin",
        }
    )
    assert settings.where == "client"
    assert (settings.api_keys, settings.fetch_urls, settings.wait_s) == (("a", "b"), True, 2.5)
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"BGCLIENT_WEB_PORT": "9000"}) == Settings(), "that is the command's"
    assert Settings.from_environment(settings.to_environment()) == settings
    assert "a-key" not in repr(Settings(api_keys=("a-key",)))


@pytest.mark.parametrize(
    "environment",
    [{"BGCLIENT_WEB_FETCH": "1"}, {"BGCLIENT_WEB_PAGE": "perhaps"}, {"BGCLIENT_WEB_UPLOADS": "many"}],
)
def test_a_setting_that_is_wrong_is_named(environment):
    with pytest.raises(ValueError, match=next(iter(environment))):
        Settings.from_environment(environment)


@pytest.mark.parametrize(
    "values",
    [
        {"where": "here"},
        {"uploads": 0},
        {"wait_s": -1},
        {"requests_per_minute": -1},
        {"cors_origins": ("*",)},
        {"api_keys": ("",)},
    ],
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Settings(**values)
