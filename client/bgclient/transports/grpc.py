"""gRPC, with the service stubs that tritonclient carries.

The stubs, not ``InferenceServerClient``: photos and answers go without a detour over numpy, and a call in
flight is a future that another thread can cancel.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bgclient._cancel import Cancel
from bgclient._endpoints import Endpoint, described
from bgclient._wire import MAX_ANSWER_BYTES, Answer, Query, Request, Tensor, error_of
from bgclient.errors import BgError, CallCancelled, ServerUnavailable
from bgclient.transports import TLS, Credentials

# Read by gRPC when it is imported: without it a forked child that opens its own channel may hang.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

_CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # Every address of a name, and every server of a list, takes its turn; one that does not answer is passed over.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # Tries are the client's (``bgclient._retry``): gRPC's own end at the fifth, and do not see a model that died.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Two clients in one process are two connections: closing one leaves the other alone.
    ("grpc.use_local_subchannel_pool", 1),
)

_entering = threading.Lock()
"""Held while a thread starts or cancels a call, and around ``fork``: gRPC's own handlers give up, and the child hangs,
when a fork meets a thread inside gRPC's core. Waiting for a result is no such thing: that is a Python condition.
"""


def _release_in_child() -> None:
    global _entering
    _entering = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=lambda: _entering.acquire(),
        after_in_parent=lambda: _entering.release(),
        after_in_child=_release_in_child,
    )


def _channel(endpoints: tuple[Endpoint, ...]) -> tuple[str, list[tuple[str, Any]]]:
    """gRPC's target for the servers, and the options of the channel to it."""
    first, *more = endpoints
    options: list[tuple[str, Any]] = list(_CHANNEL)
    if all(endpoint.is_here for endpoint in endpoints):
        options.append(("grpc.enable_http_proxy", 0))
    if not more:
        return f"dns:///{first.address}", options
    hosts = [endpoint.address.rpartition(":") for endpoint in endpoints]
    found = {family: ",".join(_addresses(hosts, family)) for family in (socket.AF_INET, socket.AF_INET6)}
    name = hosts[0][0].strip("[]")
    options += [("grpc.default_authority", first.address), ("grpc.ssl_target_name_override", name)]
    if found[socket.AF_INET]:
        return f"ipv4:{found[socket.AF_INET]}", options
    return (
        f"ipv6:{found[socket.AF_INET6]}" if found[socket.AF_INET6] else f"dns:///{first.address}"
    ), options


def _addresses(hosts: list[tuple[str, str, str]], family: socket.AddressFamily) -> Iterator[str]:
    """address:port of every host that has one; gRPC itself resolves one name a channel."""
    for host, _, port in hosts:
        with suppress(OSError, UnicodeError):
            address = socket.getaddrinfo(host.strip("[]"), int(port), family, socket.SOCK_STREAM)[0][4][0]
            yield f"[{address}]:{port}" if family == socket.AF_INET6 else f"{address}:{port}"


def _credentials(tls: TLS) -> grpc.ChannelCredentials:
    def read(path: str | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    with tls.reading():
        return grpc.ssl_channel_credentials(read(tls.ca_file), read(tls.key_file), read(tls.cert_file))


def _message(request: Request) -> Any:
    """The protobuf message of a request."""
    message = service_pb2.ModelInferRequest(model_name=request.model, id=request.id)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_input_contents.append(tensor.data)
    for name in request.outputs:
        message.outputs.add(name=name)
    return message


def _answer(model: str, response: Any) -> Answer:
    """The outputs of a response."""
    raw = iter(response.raw_output_contents)
    outputs = {
        output.name: Tensor(output.name, output.datatype, tuple(output.shape), next(raw, b""))
        for output in response.outputs
    }
    return Answer(model, outputs)


def _fields(response: Any) -> dict[str, Any]:
    """A response as the JSON of the HTTP protocol has it."""
    found: dict[str, Any] = MessageToDict(response, preserving_proto_field_name=True)
    return found


def _error(error: grpc.RpcError, server: str) -> BgError:
    """The typed error of a failed call."""
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and "onnect" in details:
        reason = details.rpartition(": ")[2]  # "...; last error: UNKNOWN: ipv4:...: Connection refused"
        return ServerUnavailable(f"no Triton at {server} ({reason})")
    return error_of(error.code().name, details, server)


@contextmanager
def _typed(server: str) -> Iterator[None]:
    """Turn what gRPC raises into our errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise _error(error, server) from error
    except grpc.FutureCancelledError as error:
        raise CallCancelled(f"the call to {server} was cancelled") from error
    except ValueError as error:
        if "closed channel" not in str(error):
            raise
        raise CallCancelled(f"the connection to {server} was closed during the call") from error


class GrpcTransport:
    """One channel, for threads."""

    def __init__(self, endpoints: tuple[Endpoint, ...], credentials: Credentials) -> None:
        self._server = described(endpoints)
        self._metadata = tuple((name.lower(), value) for name, value in credentials.headers.items())
        target, options = _channel(endpoints)
        if endpoints[0].tls:
            self._channel = grpc.secure_channel(target, _credentials(credentials.tls or TLS()), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def infer(self, request: Request, timeout_s: float, cancel: Cancel) -> Answer:
        """Run one inference; ``cancel``, Ctrl-C and the deadline reach the server."""
        metadata = (*self._metadata, *request.headers.items())
        return _answer(
            request.model, self._call("ModelInfer", _message(request), timeout_s, metadata, cancel)
        )

    def query(self, query: Query, timeout_s: float, cancel: Cancel) -> dict[str, Any]:
        """Ask about the server."""
        message = getattr(service_pb2, f"{query.rpc}Request")(**query.fields)
        return _fields(self._call(query.rpc, message, timeout_s, self._metadata, cancel))

    def _call(self, rpc: str, message: Any, timeout_s: float, metadata: Any, cancel: Cancel) -> Any:
        with _typed(self._server):
            with _entering:
                call = getattr(self._stub, rpc).future(message, timeout=timeout_s, metadata=metadata)

            def end() -> None:
                with _entering:
                    call.cancel()

            with cancel.watched(end):
                try:
                    return call.result()
                except BaseException:
                    end()
                    raise

    def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        with _entering:
            self._channel.close()
