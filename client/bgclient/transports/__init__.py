"""Ways to a Triton server, gRPC and HTTP, behind one small protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from bgclient._cancel import Cancel
from bgclient._endpoints import Endpoint
from bgclient._wire import Answer, Query, Request
from bgclient.errors import AccessDenied


class Transport(Protocol):
    """The way to one server, or to several that are balanced.

    Every method raises ``BgError`` kinds only, and may be called from several threads.
    """

    def infer(self, request: Request, timeout_s: float, cancel: Cancel) -> Answer:
        """Run one inference; ``cancel`` reaches the server."""
        ...

    def query(self, query: Query, timeout_s: float, cancel: Cancel) -> dict[str, Any]:
        """Ask about the server."""
        ...

    def close(self) -> None:
        """Give the connections back. Calling it twice is fine."""
        ...


@dataclass(frozen=True, kw_only=True)
class TLS:
    """Certificates, as paths of PEM files; used with ``grpcs://`` and ``https://``."""

    ca_file: str | None = None
    """Authorities to trust instead of the system's."""
    cert_file: str | None = None
    """This client's certificate, with ``key_file``."""
    key_file: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("TLS: cert_file and key_file go together")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around the use of the files: what is wrong with them becomes ``AccessDenied``."""
        try:
            yield
        except OSError as error:  # ssl.SSLError is one too
            files = ", ".join(
                name for name in (self.ca_file, self.cert_file, self.key_file) if name is not None
            )
            raise AccessDenied(
                f"the certificates {files} cannot be used: {error.strerror or error}"
            ) from error


@dataclass(frozen=True)
class Credentials:
    """Headers and TLS settings that every connection of a transport uses."""

    headers: Mapping[str, str] = field(default_factory=dict)
    tls: TLS | None = None


class Connector(Protocol):
    """Opens transports; ``bgclient.testing.FakeServer`` is another one."""

    def connect(self, endpoints: tuple[Endpoint, ...], credentials: Credentials) -> Transport:
        """A transport to the servers, which share one protocol."""
        ...


class Network:
    """Connects over gRPC or HTTP, by the endpoints' protocol, and imports only that one."""

    def connect(self, endpoints: tuple[Endpoint, ...], credentials: Credentials) -> Transport:
        """A transport to the servers, which share one protocol."""
        if endpoints[0].protocol == "http":
            from bgclient.transports.http import HttpTransport

            return HttpTransport(endpoints, credentials)
        from bgclient.transports.grpc import GrpcTransport

        return GrpcTransport(endpoints, credentials)
