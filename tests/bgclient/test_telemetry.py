"""Spans for whoever wants them."""

import pytest

from bgclient import Client
from bgclient.errors import ServerBusy, ServerFault
from bgclient.testing import FakeServer

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from bgclient.telemetry import OpenTelemetryHooks, request_id


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def hooks(spans):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return OpenTelemetryHooks(provider)


def test_a_call_is_a_span_with_a_span_for_each_try_in_it(twin, spans, hooks, photo):
    fake = FakeServer()
    fake.fail(ServerBusy("full"))
    twin.do(twin.client(connector=fake, hooks=hooks).cut(photo))
    first, second, call = spans.get_finished_spans()
    assert [first.name, second.name, call.name] == ["bgclient.ask", "bgclient.ask", "bgclient.cut"]
    assert first.parent.span_id == second.parent.span_id == call.context.span_id
    assert first.attributes["error.type"] == "server_busy"
    assert second.status.status_code is StatusCode.UNSET
    assert call.attributes["bgclient.tries"] == 2
    assert call.attributes["bgclient.where"] == "client"


def test_an_error_gives_the_call_its_status_and_nothing_of_the_photo(twin, spans, hooks, photo):
    fake = FakeServer()
    fake.fail(ServerFault("a secret path"))
    with pytest.raises(ServerFault):
        twin.do(twin.client(connector=fake, hooks=hooks).cut(photo))
    call = spans.get_finished_spans()[-1]
    assert call.status.status_code is StatusCode.ERROR
    assert call.attributes["error.type"] == "server_fault"
    assert "secret" not in call.to_json()


def test_the_server_can_continue_the_trace(twin, wire, spans, hooks, photo):
    client = twin.client(wire.url, hooks=hooks)
    twin.do(client.cut(photo))
    twin.do(client.close())
    ask = spans.get_finished_spans()[0]
    assert f"{ask.context.trace_id:032x}" in wire.headers[0]["traceparent"]


def test_an_id_of_the_caller_s_goes_with_every_try_and_every_photo(twin, photo, spans, hooks):
    fake = FakeServer()
    fake.fail(ServerBusy("full"))
    client = twin.client(connector=fake, hooks=hooks)

    def call():
        with request_id("order-17"):
            return client.cut(photo) if twin.name == "Client" else named_cut(client, photo)

    assert twin.do(call()).timings.request_id == "order-17"
    assert [request.id for _, request in fake.requests] == ["order-17"] * 2
    assert spans.get_finished_spans()[-1].attributes["bgclient.request_id"] == "order-17"


async def named_cut(client, photo):
    with request_id("order-17"):
        return await client.cut(photo)


def test_the_photos_of_a_run_carry_the_id_into_its_threads(photo):
    fake = FakeServer()
    with Client("fake:8001", connector=fake) as client, request_id("run-3"):
        assert all(outcome.ok for outcome in client.cut_many([photo] * 5, in_flight=3))
    assert {request.id for _, request in fake.requests} == {"run-3"}


def test_without_one_every_call_has_an_id_of_its_own(twin, photo):
    fake = FakeServer()
    client = twin.client(connector=fake)
    made = [twin.do(client.cut(photo)).timings.request_id for _ in range(2)]
    assert made == [request.id for _, request in fake.requests]
    assert len(set(made)) == 2


@pytest.mark.parametrize("bad", ["", "two words", "x" * 129, "line\nbreak", "ü"])
def test_an_id_that_would_break_a_log_is_refused(bad):
    with pytest.raises(ValueError, match="visible ASCII"), request_id(bad):
        pass
