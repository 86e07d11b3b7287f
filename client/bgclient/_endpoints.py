"""Addresses of servers, and the proxies before them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

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
                f"{url!r} is not the address of a server; use host:port, without user, query or fragment"
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
    """The servers of a comma-separated text or a list, in order, each once; all of one protocol."""
    texts = url.split(",") if isinstance(url, str) else list(url)
    endpoints = dict.fromkeys(Endpoint.parse(text) for text in texts if text.strip())
    if not endpoints:
        raise ValueError(f"{url!r} names no server; use host:port, or several separated by commas")
    if len({(endpoint.protocol, endpoint.tls) for endpoint in endpoints}) > 1:
        raise ValueError(
            f"{url!r}: several servers are asked by one protocol; use gRPC or HTTP for all of them"
        )
    return tuple(endpoints)


def proxy_of(endpoint: Endpoint) -> str | None:
    """URL of the proxy that the environment names for an address; None for this machine and for NO_PROXY's.

    gRPC's own rule for gRPC (grpc_proxy, https_proxy, http_proxy, whatever the scheme), the usual one for HTTP.
    """
    if endpoint.is_here or proxy_bypass(endpoint.address.partition("/")[0]):
        return None
    known = getproxies_environment()
    if endpoint.protocol == "grpc":
        return known.get("grpc") or known.get("https") or known.get("http")
    return known.get("https" if endpoint.tls else "http") or known.get("all")


def described(endpoints: tuple[Endpoint, ...]) -> str:
    """Servers as messages name them: addresses, and the proxy on the way, without its password."""
    addresses = ",".join(map(str, endpoints))
    proxy = proxy_of(endpoints[0])
    if proxy is None:
        return addresses
    scheme, mark, rest = proxy.rpartition("://")
    return f"{addresses} through the proxy {scheme}{mark}{rest.rpartition('@')[2]}"
