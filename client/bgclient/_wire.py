"""Requests and answers of the KServe v2 protocol as plain values, without a socket.

The HTTP form is the binary tensor data extension: a JSON header, then the tensors' bytes
(github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bgclient.errors import (
    AccessDenied,
    BgError,
    CallCancelled,
    DeadlineExceeded,
    Doubtful,
    InternalError,
    ModelMissing,
    NetworkChanged,
    NoPersonFound,
    OptionError,
    PhotoError,
    PhotoTooLarge,
    ServerBusy,
    ServerFault,
    ServerUnavailable,
    TransportError,
    from_message,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ANSWER_BYTES = 1 << 30
"""No answer of ours comes near; a server that sends more is not ours."""

DEPLOY = '"bgclient serve" starts one with all our models; for a Triton of your own see "python -m bgserver models"'
"""How a server gets our models."""

_OTHER_TENSORS = re.compile(
    r"unexpected inference (?:in|out)put '|expected \d+ inputs? but got \d+ inputs? for model"
)
"""What Triton says of a model that has the right name and other inputs or outputs."""

_POOL_FULL = re.compile("increase the shared memory pool|grown shared memory region")
"""What Triton says when /dev/shm has no room for the tensors between it and its Python models."""


@dataclass(frozen=True)
class Tensor:
    """A named tensor; ``data`` is little-endian and row-major."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes = b""

    @classmethod
    def of_bytes(cls, name: str, items: Sequence[bytes]) -> Tensor:
        """BYTES tensor (len(items), 1): each item after its length as four bytes."""
        data = b"".join(part for item in items for part in (struct.pack("<I", len(item)), item))
        return cls(name, "BYTES", (len(items), 1), data)

    def items(self) -> list[bytes]:
        """What ``of_bytes`` was given. ``ServerFault`` when the lengths do not add up."""
        found, at = [], 0
        while at < len(self.data):
            if at + 4 > len(self.data):
                raise ServerFault(f"output {self.name!r}: {len(self.data)} bytes end inside a length")
            (length,) = struct.unpack_from("<I", self.data, at)
            if at + 4 + length > len(self.data):
                raise ServerFault(
                    f"output {self.name!r}: {len(self.data)} bytes end inside an item of {length}"
                )
            found.append(self.data[at + 4 : at + 4 + length])
            at += 4 + length
        return found

    def floats(self) -> NDArray[np.float32]:
        """FP32 data in its shape. ``ServerFault`` when it is something else."""
        import numpy as np

        if self.datatype != "FP32" or len(self.data) != 4 * math.prod(self.shape):
            raise ServerFault(
                f"output {self.name!r} is {self.datatype} {list(self.shape)} of {len(self.data)} bytes, not FP32"
            )
        return np.frombuffer(self.data, np.float32).reshape(self.shape)


@dataclass(frozen=True)
class Request:
    """One inference."""

    model: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    """Names of the outputs that are asked for."""
    id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """Its outputs by name."""

    model: str
    outputs: Mapping[str, Tensor]

    def output(self, name: str) -> Tensor:
        """The output, or ``ModelMissing`` with the names that are there."""
        if name not in self.outputs:
            raise ModelMissing(
                f"model {self.model!r} answers {sorted(self.outputs)}, not {name!r}: "
                f"it is not ours, or too old; {DEPLOY}"
            )
        return self.outputs[name]


@dataclass(frozen=True)
class Query:
    """A question about the server, in both protocols."""

    rpc: str
    """Method of the gRPC service; its request type is this name and "Request"."""
    verb: str
    path: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the gRPC request."""
    body: Mapping[str, Any] | None = None
    """Of the HTTP request."""


def server_query() -> Query:
    """Name, version and extensions of the server."""
    return Query("ServerMetadata", "GET", "v2")


def ready_query() -> Query:
    """``{"ready": true}`` when the server takes requests."""
    return Query("ServerReady", "GET", "v2/health/ready")


def config_query(model: str) -> Query:
    """The model's configuration, as of the JSON form of ``ModelConfig``."""
    return Query("ModelConfig", "GET", f"v2/models/{quote(model, safe='')}/config", {"name": model})


def models_query() -> Query:
    """Every model of the repository and its state."""
    return Query("RepositoryIndex", "POST", "v2/repository/index", body={})


def http_body(request: Request) -> tuple[bytes, dict[str, str]]:
    """Body and headers of ``POST v2/models/NAME/infer``."""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": {"binary_data_size": len(tensor.data)},
        }
        for tensor in request.inputs
    ]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in request.outputs]
    fields: dict[str, Any] = {"inputs": inputs, "outputs": outputs}
    if request.id:
        fields["id"] = request.id
    header = json.dumps(fields, separators=(",", ":")).encode()
    body = b"".join([header, *(tensor.data for tensor in request.inputs)])
    return body, {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
        **request.headers,
    }


def http_answer(model: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """The answer to ``http_body``; ``ServerFault`` when it is not one."""
    try:
        header_size = int(headers.get("inference-header-content-length", len(body)))
        fields = json.loads(body[:header_size])
        outputs, at = {}, header_size
        for output in fields["outputs"]:
            parameters = output.get("parameters", {})
            size = int(parameters.get("binary_data_size", 0))
            if not all(type(side) is int and side >= 0 for side in output["shape"]):
                raise ValueError(f"output {output['name']} has the shape {output['shape']}")
            data = body[at : at + size]
            if len(data) != size:
                raise ValueError(f"output {output['name']} has {len(data)} of {size} bytes")
            at += size
            outputs[output["name"]] = Tensor(output["name"], output["datatype"], tuple(output["shape"]), data)
        return Answer(model, outputs)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ServerFault(f"{len(body)} bytes that are not a KServe v2 response: {error}") from error


def error_of(status: str, message: str, address: str) -> BgError:
    """The typed error for what a server said.

    Args:
        status: name of a gRPC status code, such as "INVALID_ARGUMENT".
        message: the server's text.
        address: of the server, for the sentence.
    """
    said = from_message(message)
    if isinstance(said, PhotoError | OptionError | NoPersonFound | Doubtful | InternalError):
        return said
    text = message.strip() or status.replace("_", " ").lower()
    if "expecting header" in text:  # Triton's restricted protocols answer UNAVAILABLE over gRPC
        status = "PERMISSION_DENIED"
    if _POOL_FULL.search(text):  # the server's own, between its models; a smaller batch may find room
        return ServerBusy(
            f"{address} has no room left in its /dev/shm; try again later, with fewer or smaller photos at a time, "
            "or give the server more (--shm-size=1g, or an emptyDir with medium: Memory)"
        )
    if "unexpected shape for input" in text:
        return NetworkChanged(f"{address} has another network now ({text})")
    if status != "UNAVAILABLE" and ("unknown model" in text or _OTHER_TENSORS.search(text)):
        status = "NOT_FOUND"
    if status == "UNAVAILABLE" and any(word in text for word in ("maximum queue size", "timeout expired")):
        return ServerBusy(
            f"{address} has too much to do ({text}); try again later, or with fewer photos at a time"
        )
    if status == "UNAVAILABLE" or "is not healthy" in text:
        return ServerUnavailable(f"no working Triton at {address} ({text})")
    match status:
        case "DEADLINE_EXCEEDED":
            return DeadlineExceeded(f"no answer from {address} in time")
        case "CANCELLED":
            return CallCancelled(f"the call to {address} was cancelled")
        case "RESOURCE_EXHAUSTED":
            return ServerBusy(
                f"{address} has too much to do ({text}); try again later, or with fewer photos at a time"
            )
        case "UNAUTHENTICATED" | "PERMISSION_DENIED":
            return AccessDenied(f"{address} refuses us ({text}); check token=, headers= and tls=")
        case "NOT_FOUND" | "UNIMPLEMENTED":
            return ModelMissing(f"{address} does not serve what is asked ({text}); {DEPLOY}")
        case _:
            return ServerFault(f"{address} failed ({status}: {text}); its log says more")


_HTTP_STATUS = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}


def http_error(status: int, headers: Mapping[str, str], body: bytes, address: str) -> BgError:
    """The typed error for an HTTP status that is not 200, with its Retry-After."""
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"HTTP {status} {body[:200].decode(errors='replace').strip()}".strip()
    if status == 413:
        return PhotoTooLarge(f"{address} takes no request of this size ({message}); send a smaller photo")
    default = "INVALID_ARGUMENT" if status < 500 else "INTERNAL"
    error = error_of(_HTTP_STATUS.get(status, default), message, address)
    wait_s = headers.get("retry-after", "")
    # the other form, a date, is for browsers' clocks
    if isinstance(error, TransportError) and wait_s.isdecimal():
        error.retry_after_s = float(wait_s)
    return error
