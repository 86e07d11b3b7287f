"""Photos from URLs, from public addresses only.

A URL from a stranger must not reach what only this machine can reach (server-side request forgery). So: http
and https on their usual ports, no user names, no proxies of the environment; every name is resolved here,
each of its addresses must be public, the connection goes to an address that was checked, and the address that
was connected to is checked again. The same for every redirect. Bytes and time are capped in total, and
nothing is decompressed.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

from bgclient._retry import Deadline
from bgclient.errors import DownloadFailed, UrlRefused

if TYPE_CHECKING:
    import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_THE_INTERNET = tuple(
    ipaddress.ip_network(network)
    for network in (
        # local NAT64, IPv4-compatible, IPv4-translated, site-local, documentation, segment routing, dummies
        *(
            "64:ff9b:1::/48",
            "::/96",
            "::ffff:0:0:0/96",
            "fec0::/10",
            "3fff::/20",
            "5f00::/16",
            "100:0:0:1::/64",
        ),
        "192.88.99.0/24",  # relays of 6to4, which are any network's own
        "192.0.0.0/24",  # protocols; a cloud's metadata answers at 192.0.0.192
        "168.63.129.16/32",  # Azure's host, which answers its own virtual machines only
    )
)
"""Networks that ``ipaddress`` takes for global."""
_REDIRECTS = (301, 302, 303, 307, 308)
_USUAL_PORT = {"http": 80, "https": 443}


def is_public(address: Address) -> bool:
    """True for an address of the public internet, also behind IPv6 forms that carry an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if not all(is_public(carried) for carried in inner if carried is not None):
            return False
        if address.ipv4_mapped is not None:
            return True
    inside = any(address in network for network in _NOT_THE_INTERNET)
    return address.is_global and not address.is_multicast and not inside


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, as the system's resolver says."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Gets a photo from a URL, or says why not. Safe to share between threads."""

    max_bytes: int = 64 * 1024 * 1024
    """Bytes of the body, else ``DownloadFailed``."""
    timeout_s: float = 20.0
    """Seconds for everything: names, connections, redirects, body."""
    max_redirects: int = 5
    """Redirects that are followed."""
    ports: tuple[int, ...] = (80, 443)
    """Ports that may be asked."""
    allowed: Callable[[Address], bool] = is_public
    """Which addresses may be connected to. Anything but ``is_public`` opens your network to callers who give the
    URL.
    """
    resolve: Callable[[str, int], Iterable[str]] = resolve
    """The addresses of a name."""

    def fetch(self, url: str) -> bytes:
        """The body behind ``url``.

        Raises:
            UrlRefused: scheme, port, user name, or an address that is not public, here or after a redirect.
            DownloadFailed: no such host, another status than 200, too many redirects or bytes, too late.
        """
        import httpcore

        deadline = Deadline(self.timeout_s)
        backend = _CheckedBackend(self, deadline)
        try:
            with httpcore.ConnectionPool(
                ssl_context=ssl.create_default_context(),
                network_backend=cast("httpcore.NetworkBackend", backend),
                max_keepalive_connections=0,
            ) as pool:
                return self._follow(pool, url, deadline)
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise DownloadFailed(f"{url}: no photo within {self.timeout_s:g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            raise DownloadFailed(f"{url}: {str(error) or type(error).__name__}") from error

    def _follow(self, pool: httpcore.ConnectionPool, url: str, deadline: Deadline) -> bytes:
        at = url
        for _ in range(self.max_redirects + 1):
            self._check(at, url)
            timeouts = dict.fromkeys(("connect", "read", "write", "pool"), max(0.001, deadline.left_s))
            with pool.stream(
                "GET",
                at.encode("ascii"),
                headers={
                    "Host": urlsplit(at).netloc,
                    "Accept": "image/*",
                    "Accept-Encoding": "identity",
                    "User-Agent": "bgclient",
                },
                extensions={"timeout": timeouts},
            ) as response:
                headers = {name.lower(): value for name, value in response.headers}
                if response.status in _REDIRECTS and b"location" in headers:
                    before, at = at, urljoin(at, _ascii_url(headers[b"location"].decode("latin-1"), url))
                    if before.startswith("https:") and not at.startswith("https:"):
                        raise UrlRefused(f"{url} leads from https to {at}; give the final address")
                    continue
                if response.status != 200:
                    raise DownloadFailed(f"{at} answers {response.status}, not a photo")
                return self._body(response, headers, at)
        raise DownloadFailed(f"{url} redirects more than {self.max_redirects} times")

    def _check(self, at: str, url: str) -> None:
        via = "" if at == url else f" (from {url})"
        _ascii_url(at, url)
        try:
            parts = urlsplit(at)
            port = parts.port or _USUAL_PORT.get(parts.scheme, 0)
        except ValueError as error:
            raise UrlRefused(f"{at}{via} is not a URL: {error}") from error
        if parts.scheme not in _USUAL_PORT or not parts.hostname:
            raise UrlRefused(f"{at}{via}: only http:// and https:// are fetched")
        if "@" in parts.netloc:
            raise UrlRefused(
                f"{parts.scheme}://...@{parts.hostname}{via}: URLs with a user name are not fetched"
            )
        if port not in self.ports:
            raise UrlRefused(
                f"{at}{via}: port {port} is not fetched from, only {', '.join(map(str, self.ports))}"
            )

    def _body(self, response: httpcore.Response, headers: dict[bytes, bytes], at: str) -> bytes:
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise DownloadFailed(f"{at} sends a compressed body although asked not to")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_bytes:
            raise DownloadFailed(f"{at} has {int(length)} bytes, allowed are {self.max_bytes}")
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > self.max_bytes:
                raise DownloadFailed(f"{at} sends more than the allowed {self.max_bytes} bytes")
        return bytes(body)

    def checked_address(self, host: str, port: int, deadline: Deadline) -> str:
        """The address to connect to: the first of the name's, after all of them were found public."""
        answers: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

        def ask() -> None:  # the system's resolver knows no timeout
            try:
                answers.put(list(self.resolve(host, port)))
            except (OSError, UnicodeError) as error:
                answers.put(error)

        threading.Thread(target=ask, name="bgclient-resolve", daemon=True).start()
        try:
            found = answers.get(timeout=max(0.001, deadline.left_s))
        except queue.Empty:
            raise DownloadFailed(f"{host}: the name was not resolved within {self.timeout_s:g} s") from None
        if isinstance(found, Exception) or not found:
            raise DownloadFailed(f"{host}: no such host") from (
                found if isinstance(found, Exception) else None
            )
        for address in found:
            self.check_address(address, host)
        return found[0]

    def check_address(self, address: str, host: str) -> None:
        """``UrlRefused`` for an address that is not allowed. The message does not give it away."""
        if not self.allowed(ipaddress.ip_address(address.partition("%")[0])):
            raise UrlRefused(f"{host} is not on the public internet; only public addresses are fetched from")


def _ascii_url(text: str, url: str) -> str:
    if not text.isascii() or any(c <= " " or c == "\x7f" for c in text):
        raise UrlRefused(f"{url!r}: characters that a URL must not have; percent-encode them")
    return text


class _CheckedBackend:
    """httpcore's network, with every address checked before and after connecting."""

    def __init__(self, fetcher: Fetcher, deadline: Deadline) -> None:
        import httpcore

        self._fetcher = fetcher
        self._deadline = deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, **_: Any) -> Any:
        from bgclient._streams import BoundedStream

        address = self._fetcher.checked_address(host, port, self._deadline)
        stream = self._network.connect_tcp(address, port, timeout=max(0.001, self._deadline.left_s))
        try:
            self._fetcher.check_address(str(stream.get_extra_info("server_addr")[0]), host)
        except UrlRefused:
            stream.close()
            raise
        return BoundedStream(stream, self._left_s)

    def _left_s(self) -> float:
        if self._deadline.left_s <= 0:
            raise TimeoutError
        return self._deadline.left_s
