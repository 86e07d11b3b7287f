"""Addresses of servers, and which of them to ask next."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

_SCHEMES = {
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
    "http": ("http", False),
    "https": ("http", True),
}


@dataclass(frozen=True)
class Endpoint:
    """One server's address."""

    protocol: str
    """"grpc" or "http"."""
    address: str
    """host:port; for HTTP with the path in front of ``/v2``, if there is one."""
    tls: bool = False

    def __str__(self) -> str:
        scheme = self.protocol + ("s" if self.tls else "")
        return self.address if scheme == "grpc" else f"{scheme}://{self.address}"

    @property
    def is_here(self) -> bool:
        """True for a loopback address."""
        host = urlsplit(f"//{self.address}").hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """``host:port`` (gRPC), ``grpc://``, ``grpcs://``, ``http://`` or ``https://``. ``ValueError`` says
        what is wrong.
        """
        scheme, mark, rest = url.strip().partition("://")
        if not mark:
            scheme, rest = "grpc", url.strip()
        if scheme not in _SCHEMES:
            raise ValueError(
                f"{url!r}: unknown scheme {scheme!r}; use host:port, {'://, '.join(_SCHEMES)}://"
            )
        protocol, tls = _SCHEMES[scheme]
        try:
            parts = urlsplit(f"//{rest}")
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r}: {error}; use host:port") from error
        if not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(
                f"{url!r} is no address of a server; use host:port, without user, query or fragment"
            )
        if protocol == "grpc" and parts.path not in ("", "/"):
            raise ValueError(f"{url!r}: gRPC has no path; use host:port")
        if port is None:
            if protocol == "grpc":
                raise ValueError(
                    f"{url!r}: the port is missing; Triton's gRPC is usually {rest.rstrip('/')}:8001"
                )
            port = 443 if tls else 80
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(protocol, f"{host}:{port}{parts.path.rstrip('/')}", tls)


def parse_endpoints(url: str | Iterable[str]) -> tuple[Endpoint, ...]:
    """The servers of a comma-separated text or a list, in order, each once."""
    texts = url.split(",") if isinstance(url, str) else list(url)
    endpoints = dict.fromkeys(Endpoint.parse(text) for text in texts if text.strip())
    if not endpoints:
        raise ValueError(f"{url!r} names no server; use host:port, or several separated by commas")
    return tuple(endpoints)


@dataclass
class _Health:
    in_flight: int = 0
    failures: int = 0
    back_at: float = 0.0


@dataclass
class Balancer:
    """Chooses the endpoint with the fewest calls in flight, and leaves out those that failed lately.

    A failure of the endpoint itself (not of one request) puts it aside for ``first_s``, doubled with each
    further one up to ``most_s``. When every endpoint is set aside, the one that comes back first is asked:
    somebody must find out.
    """

    endpoints: tuple[Endpoint, ...]
    first_s: float = 0.5
    most_s: float = 30.0
    clock: Callable[[], float] = time.monotonic
    _health: dict[Endpoint, _Health] = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._health = {endpoint: _Health() for endpoint in self.endpoints}

    def take(self, avoid: Collection[Endpoint] = ()) -> Endpoint:
        """The endpoint to ask, counted as in flight until ``succeeded``, ``failed`` or ``dropped``."""
        with self._lock:
            now = self.clock()
            well = [e for e in self.endpoints if self._health[e].back_at <= now]
            fresh = [e for e in well if e not in avoid]
            if fresh or well:
                least = min(self._health[e].in_flight for e in fresh or well)
                chosen = random.choice([e for e in fresh or well if self._health[e].in_flight == least])
            else:
                chosen = min(self.endpoints, key=lambda e: self._health[e].back_at)
            self._health[chosen].in_flight += 1
            return chosen

    def succeeded(self, endpoint: Endpoint) -> None:
        """The endpoint answered."""
        with self._lock:
            health = self._health[endpoint]
            health.in_flight -= 1
            health.failures, health.back_at = 0, 0.0

    def failed(self, endpoint: Endpoint) -> None:
        """The endpoint itself is not in order."""
        with self._lock:
            health = self._health[endpoint]
            health.in_flight -= 1
            health.failures += 1
            health.back_at = self.clock() + min(self.most_s, self.first_s * 2.0 ** (health.failures - 1))

    def dropped(self, endpoint: Endpoint) -> None:
        """The call ended without saying anything about the endpoint: cancelled, busy, or out of time."""
        with self._lock:
            self._health[endpoint].in_flight -= 1

    def others(self, tried: Collection[Endpoint]) -> bool:
        """True when an endpoint that is not in ``tried`` is well."""
        with self._lock:
            now = self.clock()
            return any(e not in tried and self._health[e].back_at <= now for e in self.endpoints)

    def ejected(self) -> tuple[Endpoint, ...]:
        """Endpoints that are set aside now."""
        with self._lock:
            now = self.clock()
            return tuple(e for e in self.endpoints if self._health[e].back_at > now)
