"""A client under test in both its forms, and servers that speak the real protocols over a made-up network."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bgclient._wire import Answer, Request, Tensor
from bgclient.client import AsyncClient, Client
from bgclient.errors import BgError, DeadlineExceeded, ServerBusy, ServerUnavailable
from bgclient.testing import FakeServer


@pytest.fixture
def fake():
    """A server that is not there."""
    return FakeServer()


@pytest.fixture(scope="session")
def photo():
    """uint8 (90, 120, 3), RGB: gradients, so that every pixel is its own."""
    y, x = np.mgrid[:90, :120]
    return np.stack([x * 2, y * 2, (x + y)], axis=2).astype(np.uint8)


@pytest.fixture(scope="session")
def jpeg(photo):
    """The same as a JPEG."""
    from bgimage.codec import encode

    return encode(photo, "jpeg", quality=95)


class Sync:
    """``Client``, called as it is."""

    name = "Client"

    def client(self, url="fake:8001", **settings):
        return Client(url, **settings)

    def do(self, call):
        return call

    def many(self, outcomes):
        return list(outcomes)

    def start(self, function):
        """Run ``function`` beside the test; gives a function that waits for its result."""
        return ThreadPoolExecutor(1).submit(function).result

    def close(self):
        pass


class Async:
    """``AsyncClient``, awaited to the end in one loop that runs in a thread of its own."""

    name = "AsyncClient"

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def client(self, url="fake:8001", **settings):
        return AsyncClient(url, **settings)

    def do(self, call):
        if not inspect.isawaitable(call):
            return call
        return asyncio.run_coroutine_threadsafe(_awaited(call), self._loop).result(60)

    def many(self, outcomes):
        async def collect():
            return [outcome async for outcome in outcomes]

        return self.do(collect())

    def start(self, function):
        return asyncio.run_coroutine_threadsafe(_awaited(function()), self._loop).result

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _awaited(call):
    return await call


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def twin(request):
    """Both clients behind one face: ``twin.do(twin.client(...).cut(photo))``."""
    made = request.param()
    yield made
    made.close()


class WireServer:
    """What both real protocols have in common: a ``FakeServer`` behind a socket."""

    def __init__(self, fake=None):
        self.fake = fake or FakeServer()
        self.headers = []
        """Headers of every inference, lower case."""
        self.peers = set()
        """Client addresses: one a connection."""
        self.began = threading.Event()
        self.restricted = False
        """Keep the repository to itself, as a server behind an admin key does."""
        self.noticed = threading.Event()
        """Set when the client went away during an inference."""

    def answer(self, request, alive):
        """Answer as the fake does, or raise; ``alive`` tells whether the client still waits."""
        self.fake.requests.append(("wire", request))
        self.began.set()
        until = time.monotonic() + self.fake.delay_s
        while time.monotonic() < until:
            if not alive():
                self.noticed.set()
                return None
            time.sleep(0.005)
        return self.fake._answer(request)


def _grpc_code(error):
    import grpc

    if isinstance(error, ServerUnavailable | ServerBusy):
        return grpc.StatusCode.UNAVAILABLE
    return (
        grpc.StatusCode.DEADLINE_EXCEEDED
        if isinstance(error, DeadlineExceeded)
        else grpc.StatusCode.INVALID_ARGUMENT
    )


class GrpcServer(WireServer):
    """The KServe v2 gRPC service, in Python."""

    def __init__(self, fake=None, credentials=None, port=0):
        super().__init__(fake)
        import grpc
        from google.protobuf.json_format import ParseDict
        from tritonclient.grpc import service_pb2 as pb
        from tritonclient.grpc import service_pb2_grpc

        outer = self

        class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
            def ModelInfer(self, message, context):  # noqa: N802
                outer.headers.append(dict(context.invocation_metadata()))
                outer.peers.add(context.peer())
                raw = iter(message.raw_input_contents)
                inputs = tuple(
                    Tensor(entry.name, entry.datatype, tuple(entry.shape), next(raw))
                    for entry in message.inputs
                )
                outputs = tuple(entry.name for entry in message.outputs)
                request = Request(message.model_name, inputs, outputs)
                try:
                    answer = outer.answer(request, context.is_active)
                except BgError as error:
                    text = (
                        error.message()
                        if _grpc_code(error) is grpc.StatusCode.INVALID_ARGUMENT
                        else str(error)
                    )
                    context.abort(_grpc_code(error), f"in ensemble '{request.model}', {text}")
                if answer is None:
                    context.abort(grpc.StatusCode.CANCELLED, "gone")
                response = pb.ModelInferResponse(model_name=request.model)
                for name in outputs:
                    tensor = answer.output(name)
                    response.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
                    response.raw_output_contents.append(tensor.data)
                return response

            def ModelConfig(self, message, context):  # noqa: N802
                outer.fake.queries.append(("wire", message))
                return ParseDict({"config": outer.fake._config(message.name)}, pb.ModelConfigResponse())

            def ServerReady(self, message, context):  # noqa: N802
                return pb.ServerReadyResponse(ready=True)

            def ServerMetadata(self, message, context):  # noqa: N802
                return pb.ServerMetadataResponse(name="wire", version="0")

            def RepositoryIndex(self, message, context):  # noqa: N802
                if outer.restricted:
                    text = "This protocol is restricted, expecting header 'triton-grpc-protocol-key'"
                    context.abort(grpc.StatusCode.UNAVAILABLE, text)
                response = pb.RepositoryIndexResponse()
                response.models.add(name="matte", state="READY")
                return response

        self._server = grpc.server(ThreadPoolExecutor(16))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), self._server)
        address = f"127.0.0.1:{port}"
        self.port = (
            self._server.add_secure_port(address, credentials)
            if credentials
            else self._server.add_insecure_port(address)
        )
        self._server.start()
        self.url = f"127.0.0.1:{self.port}"

    def close(self):
        self._server.stop(None).wait()


class HttpServer(WireServer):
    """The KServe v2 HTTP service with binary tensors, in Python."""

    def __init__(self, fake=None):
        super().__init__(fake)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_GET(self):
                match self.path.strip("/").split("/")[1:]:
                    case ["health", "ready"]:
                        self._send(b"")
                    case []:
                        self._send(b'{"name": "wire", "version": "0"}')
                    case ["models", name, "config"]:
                        outer.fake.queries.append(("wire", name))
                        self._send(json.dumps(outer.fake._config(name)).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                parts = self.path.strip("/").split("/")[1:]
                if parts == ["repository", "index"] and outer.restricted:
                    return self._send(b'{"error": "This API is restricted, expecting header \'key\'"}', 403)
                if parts == ["repository", "index"]:
                    return self._send(b'[{"name": "matte", "state": "READY"}]')
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                outer.peers.add(self.client_address)
                size = int(self.headers["Inference-Header-Content-Length"])
                fields, at, inputs = json.loads(body[:size]), size, []
                for entry in fields["inputs"]:
                    length = entry["parameters"]["binary_data_size"]
                    data = body[at : at + length]
                    inputs.append(Tensor(entry["name"], entry["datatype"], tuple(entry["shape"]), data))
                    at += length
                outputs = tuple(entry["name"] for entry in fields["outputs"])
                try:
                    answer = outer.answer(Request(parts[1], tuple(inputs), outputs), self._alive)
                except BgError as error:
                    retryable = isinstance(error, ServerUnavailable | ServerBusy)
                    text = str(error) if retryable else error.message()
                    return self._send(json.dumps({"error": text}).encode(), 503 if retryable else 400)
                if answer is None:
                    self.close_connection = True
                    return None
                header, *data = _http_answer(answer, outputs)
                return self._send(b"".join([header, *data]), header_size=len(header))

            def _alive(self):
                import select

                ready, _, _ = select.select([self.connection], [], [], 0)
                return not ready or bool(self.connection.recv(1, 2))  # 2 = MSG_PEEK

            def _send(self, body, status=200, header_size=None):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if header_size is not None:
                    self.send_header("Inference-Header-Content-Length", str(header_size))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def _http_answer(answer: Answer, outputs):
    tensors = [answer.output(name) for name in outputs]
    entries = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": {"binary_data_size": len(tensor.data)},
        }
        for tensor in tensors
    ]
    return [json.dumps({"outputs": entries}).encode(), *(tensor.data for tensor in tensors)]


@pytest.fixture
def grpc_server():
    """A real gRPC server."""
    server = GrpcServer()
    yield server
    server.close()


@pytest.fixture
def http_server():
    """A real HTTP server."""
    server = HttpServer()
    yield server
    server.close()


@pytest.fixture
def grpc_servers():
    """Makes gRPC servers with settings of the test's own."""
    made = []

    def make(*args, **settings):
        made.append(GrpcServer(*args, **settings))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture(params=[GrpcServer, HttpServer], ids=["grpc", "http"])
def servers_of(request):
    """Makes servers of one protocol."""
    made = []

    def make():
        made.append(request.param())
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture(params=[GrpcServer, HttpServer], ids=["grpc", "http"])
def wire(request):
    """A real server, of each protocol."""
    server = request.param()
    yield server
    server.close()


@pytest.fixture
def run_python(root):
    """Runs a script in a process of its own; gives the finished process."""

    def run(script, *arguments, timeout=60, **environment):
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": str(root / "client"), **environment},
            check=False,
        )

    return run
