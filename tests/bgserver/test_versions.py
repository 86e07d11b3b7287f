"""What depends on the server's version, and the spans that a server sends where it is told to."""

import http.server
import json
import threading
from pathlib import Path

import pytest

from bgserver import canary, versions
from bgserver.installation import Installation

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def test_a_flag_is_given_to_servers_that_know_it_only():
    assert list(versions.arguments((2, 51))) == []
    assert list(versions.arguments((2, 75))) == ["--metrics-config=histogram_latencies=true"]
    traced = list(versions.arguments((2, 51), trace_url="http://collector:4318/v1/traces"))
    assert "--trace-config=opentelemetry,url=http://collector:4318/v1/traces" in traced


@pytest.mark.parametrize(
    ("environment", "file", "found"),
    [
        ("2.75.0", "", (2, 75)),
        ("", "2.74.0\n", (2, 74)),
        ("", "", versions.OLDEST),
        ("nightly", "", versions.OLDEST),
    ],
)
def test_the_version_of_nvidia_s_container_is_read_where_it_says_it(
    tmp_path, monkeypatch, environment, file, found
):
    monkeypatch.setenv("TRITON_SERVER_VERSION", environment)
    (tmp_path / "bin").mkdir()
    if file:
        (tmp_path / "TRITON_VERSION").write_text(file)
    assert versions.of(Installation(binary=tmp_path / "bin" / "tritonserver")) == found


def test_the_pip_installed_server_is_the_oldest(monkeypatch):
    monkeypatch.setenv("TRITON_SERVER_VERSION", "2.75.0")
    wheel = Path("/site/pytriton/tritonserver")
    assert versions.of(Installation(binary=wheel / "bin" / "tritonserver", wheel=wheel)) == (2, 51)


@pytest.fixture
def collector():
    """An address for OTLP over HTTP, and the bodies that came."""
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    server.shutdown()
    server.server_close()


@pytest.mark.server
def test_a_caller_s_trace_goes_on_in_the_server(tiny, collector, eventually):
    url, bodies = collector
    with tiny(trace_url=url) as server:
        request = '{"inputs":[{"name":"photo","shape":[1,1],"datatype":"BYTES","data":["x"]}]}'
        status, _, _ = canary.request(
            server.http_url,
            "POST",
            "/v2/models/cutout/infer",
            request.encode(),
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
        )
        assert status == 200
        spans = eventually(lambda: [span for body in list(bodies) for span in spans_of(body)])
    assert {"InferRequest", "cutout", "compute"} <= {span["name"] for span in spans}
    assert PARENT in {span["parentSpanId"] for span in spans}


def spans_of(body):
    """Of our caller's trace, in an export."""
    scopes = (scope for resource in json.loads(body)["resourceSpans"] for scope in resource["scopeSpans"])
    return [span for scope in scopes for span in scope["spans"] if span["traceId"] == TRACE]
