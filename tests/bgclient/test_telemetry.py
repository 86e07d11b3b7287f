"""Spans for whoever wants them."""

import pytest

from bgclient import Retry
from bgclient.errors import ServerBusy, ServerFault
from bgclient.testing import FakeServer

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from bgclient.telemetry import OpenTelemetryHooks


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
    twin.do(twin.client(connector=fake, hooks=hooks, retry=Retry(first_s=0.0, most_s=0.0)).cut(photo))
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
