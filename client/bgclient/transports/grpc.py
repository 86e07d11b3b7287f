"""gRPC, with the service stubs that tritonclient carries.

The stubs, not ``InferenceServerClient``: photos and answers go without a detour over numpy, and a call in
flight is a future that another thread can cancel.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bgclient._cancel import Cancel
from bgclient._endpoints import Endpoint
from bgclient._wire import MAX_ANSWER_BYTES, Answer, Query, Request, Tensor, error_of
from bgclient.errors import BgError, CallCancelled, ServerUnavailable
from bgclient.transports import TLS, Wiring

# Read by gRPC when it is imported: without it a forked child that opens its own channel may hang.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

_CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # Retries are the flow's, who knows deadline and endpoints; the channel only has to come back soon.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
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


def _credentials(tls: TLS) -> grpc.ChannelCredentials:
    def read(path: str | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    with tls.reading():
        return grpc.ssl_channel_credentials(read(tls.ca_file), read(tls.key_file), read(tls.cert_file))


def _message(request: Request) -> Any:
    """The protobuf message of a request."""
    message = service_pb2.ModelInferRequest(model_name=request.model, id=request.id)
    for tensor in request.inputs:
        entry = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if tensor.place is None:
            message.raw_input_contents.append(tensor.data)
        else:
            _set_parameters(entry, tensor.place.parameters)
    for output in request.outputs:
        entry = message.outputs.add(name=output.name)
        if output.place is not None:
            _set_parameters(entry, output.place.parameters)
    return message


def _set_parameters(entry: Any, parameters: dict[str, str | int]) -> None:
    for name, value in parameters.items():
        kind = "string_param" if isinstance(value, str) else "int64_param"
        setattr(entry.parameters[name], kind, value)


def _answer(model: str, response: Any) -> Answer:
    """The outputs of a response. Those in shared memory have no entry in ``raw_output_contents``."""
    raw = iter(response.raw_output_contents)
    outputs = {}
    for output in response.outputs:
        data = b"" if "shared_memory_region" in output.parameters else next(raw, b"")
        outputs[output.name] = Tensor(output.name, output.datatype, tuple(output.shape), data)
    return Answer(model, outputs)


def _fields(response: Any) -> dict[str, Any]:
    """A response as the JSON of the HTTP protocol has it."""
    found: dict[str, Any] = MessageToDict(response, preserving_proto_field_name=True)
    return found


def _error(error: grpc.RpcError, endpoint: Endpoint) -> BgError:
    """The typed error of a failed call."""
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and "onnect" in details:
        reason = details.rpartition(": ")[2]  # "...; last error: UNKNOWN: ipv4:...: Connection refused"
        return ServerUnavailable(f"no Triton at {endpoint} ({reason})")
    return error_of(error.code().name, details, str(endpoint))


@contextmanager
def _typed(endpoint: Endpoint) -> Iterator[None]:
    """Turn what gRPC raises into our errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise _error(error, endpoint) from error
    except grpc.FutureCancelledError as error:
        raise CallCancelled(f"the call to {endpoint} was cancelled") from error
    except ValueError as error:
        if "closed channel" not in str(error):
            raise
        raise CallCancelled(f"the connection to {endpoint} was closed during the call") from error


class GrpcTransport:
    """One channel, for threads."""

    def __init__(self, endpoint: Endpoint, wiring: Wiring) -> None:
        self._endpoint = endpoint
        self._metadata = tuple((name.lower(), value) for name, value in wiring.headers.items())
        if endpoint.tls:
            self._channel = grpc.secure_channel(endpoint.address, _credentials(wiring.tls or TLS()), _CHANNEL)
        else:
            self._channel = grpc.insecure_channel(endpoint.address, _CHANNEL)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def infer(self, request: Request, timeout_s: float, cancel: Cancel) -> Answer:
        """Run one inference; ``cancel``, Ctrl-C and the deadline reach the server."""
        metadata = (*self._metadata, *request.headers.items())
        return _answer(
            request.model, self._call("ModelInfer", _message(request), timeout_s, metadata, cancel)
        )

    def query(self, query: Query, timeout_s: float) -> dict[str, Any]:
        """Ask about the server."""
        message = getattr(service_pb2, f"{query.rpc}Request")(**query.fields)
        return _fields(self._call(query.rpc, message, timeout_s, self._metadata, Cancel()))

    def _call(self, rpc: str, message: Any, timeout_s: float, metadata: Any, cancel: Cancel) -> Any:
        with _typed(self._endpoint):
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


class AsyncGrpcTransport:
    """One channel, for one asyncio loop."""

    def __init__(self, endpoint: Endpoint, wiring: Wiring) -> None:
        self._endpoint = endpoint
        self._metadata = tuple((name.lower(), value) for name, value in wiring.headers.items())
        if endpoint.tls:
            self._channel = grpc.aio.secure_channel(
                endpoint.address, _credentials(wiring.tls or TLS()), _CHANNEL
            )
        else:
            self._channel = grpc.aio.insecure_channel(endpoint.address, _CHANNEL)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def infer(self, request: Request, timeout_s: float) -> Answer:
        """Run one inference; cancelling the task and the deadline reach the server."""
        with _typed(self._endpoint):
            response = await self._stub.ModelInfer(
                _message(request), timeout=timeout_s, metadata=(*self._metadata, *request.headers.items())
            )
        return _answer(request.model, response)

    async def query(self, query: Query, timeout_s: float) -> dict[str, Any]:
        """Ask about the server."""
        message = getattr(service_pb2, f"{query.rpc}Request")(**query.fields)
        with _typed(self._endpoint):
            response = await getattr(self._stub, query.rpc)(
                message, timeout=timeout_s, metadata=self._metadata
            )
        return _fields(response)

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        await self._channel.close()
