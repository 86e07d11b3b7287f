"""HTTP, with httpcore. (tritonclient's HTTP client is built on gevent: it hangs among threads, server#6909 and
#3808.)
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore

from bgclient._cancel import Cancel
from bgclient._endpoints import Endpoint, described, proxy_of
from bgclient._streams import BoundedStream
from bgclient._wire import MAX_ANSWER_BYTES, Answer, Query, Request, http_answer, http_body, http_error
from bgclient.errors import DeadlineExceeded, ServerFault, ServerUnavailable
from bgclient.transports import TLS, Credentials

MAX_WORDS_BYTES = 4 << 20
"""No description of a server, and no error, of ours comes near."""

_CONNECT_S = 5.0
"""Until an address that says nothing is passed over."""
_ASIDE_S = 5.0
"""So long an address that did not answer is asked last."""


def _settings(endpoint: Endpoint, credentials: Credentials) -> dict[str, Any]:
    """Arguments of httpcore's pool, which is a proxy's where they name one."""
    settings: dict[str, Any] = {
        "max_connections": 64,
        # An idle connection delays Triton's shutdown until its --exit-timeout-secs: keep few, and not for long.
        "max_keepalive_connections": 8,
        "keepalive_expiry": 5.0,
    }
    if endpoint.tls:
        settings["ssl_context"] = _context(credentials.tls or TLS())
    if (proxy := proxy_of(endpoint)) is not None:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        settings["proxy_url"] = f"{parts.scheme}://{host}:{parts.port or 80}"
        if parts.username is not None:
            settings["proxy_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    return settings


def _context(tls: TLS) -> ssl.SSLContext:
    with tls.reading():
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        return context


class _Received:
    """The body of an answer as it comes, never more of it than is allowed."""

    def __init__(self, response: Any, endpoint: Endpoint, limit: int) -> None:
        self.status: int = response.status
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
        }
        self.body = bytearray()
        self._limit = limit if self.status == 200 else MAX_WORDS_BYTES
        self._server = described((endpoint,))

    def add(self, chunk: bytes) -> None:
        self.body += chunk
        if len(self.body) > self._limit:
            raise ServerFault(f"{self._server} answers more than {self._limit} bytes; is it a Triton?")

    def answer(self, model: str) -> Answer:
        if self.status != 200:
            raise http_error(self.status, self.headers, bytes(self.body), self._server)
        return http_answer(model, self.headers, bytes(self.body))

    def fields(self, query: Query) -> dict[str, Any]:
        if query.rpc == "ServerReady":  # answers 200 or 400 without a body
            return {"ready": self.status == 200}
        if self.status != 200:
            raise http_error(self.status, self.headers, bytes(self.body), self._server)
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ServerFault(f"{self._server} answers no JSON to {query.path}; is it a Triton?") from error
        named = {"RepositoryIndex": "models", "ModelConfig": "config"}.get(query.rpc)
        found = found if named is None else {named: found}
        if not isinstance(found, dict):
            raise ServerFault(f"{self._server} answers nonsense to {query.path}; is it a Triton?")
        return found


@contextmanager
def _typed(endpoint: Endpoint) -> Iterator[None]:
    """Turn what httpcore raises into our errors."""
    try:
        yield
    except (
        httpcore.ConnectTimeout,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
    ) as error:
        reason = str(error) or type(error).__name__
        raise ServerUnavailable(f"no Triton at {described((endpoint,))} ({reason})") from error
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise DeadlineExceeded(f"no answer from {endpoint} in time") from error
    except OSError as error:  # ssl.SSLError is one too
        raise ServerUnavailable(f"no Triton at {described((endpoint,))} ({error})") from error


class HttpTransport:
    """A connection pool for each server, for threads."""

    def __init__(self, endpoints: tuple[Endpoint, ...], credentials: Credentials) -> None:
        self._endpoints = endpoints
        self._headers = {
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": "bgclient",
            **credentials.headers,
        }
        self._calls = 0
        self._failed_at: dict[Endpoint, float] = {}
        self._pools: dict[Endpoint, Any] = {}
        for endpoint in endpoints:
            settings = _settings(endpoint, credentials)
            kind = httpcore.HTTPProxy if "proxy_url" in settings else httpcore.ConnectionPool
            self._pools[endpoint] = kind(**settings, network_backend=_DeadlineBackend())

    def _in_turn(self) -> list[Endpoint]:
        """The addresses, each asked first in turn; one that did not answer lately is asked last."""
        self._calls += 1  # a turn that two threads take alike does no harm
        first = self._calls % len(self._endpoints)
        turned = [*self._endpoints[first:], *self._endpoints[:first]]
        since = time.monotonic() - _ASIDE_S
        return sorted(turned, key=lambda endpoint: self._failed_at.get(endpoint, since) > since)

    def infer(self, request: Request, timeout_s: float, cancel: Cancel) -> Answer:
        """Run one inference. Ctrl-C, ``cancel`` and the deadline close the connection, which the server notices."""
        body, headers = http_body(request)
        path = f"v2/models/{request.model}/infer"
        received = self._ask("POST", path, body, headers, timeout_s, cancel, MAX_ANSWER_BYTES)
        return received.answer(request.model)

    def query(self, query: Query, timeout_s: float, cancel: Cancel) -> dict[str, Any]:
        """Ask about the server."""
        body = b"" if query.body is None else json.dumps(query.body).encode()
        return self._ask(query.verb, query.path, body, {}, timeout_s, cancel, MAX_WORDS_BYTES).fields(query)

    def _ask(
        self,
        verb: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        cancel: Cancel,
        limit: int,
    ) -> _Received:
        """The answer of the first server that gives one."""
        until = time.monotonic() + timeout_s
        servers = self._in_turn()
        while True:
            endpoint = servers.pop(0)
            host = urlsplit(f"//{endpoint.address}").netloc
            url = f"{'https' if endpoint.tls else 'http'}://{endpoint.address}/{path}"
            left_s = max(0.001, until - time.monotonic())
            timeouts = dict.fromkeys(("read", "write", "pool"), left_s) | {"connect": min(_CONNECT_S, left_s)}
            token = _waiting.set((until, cancel))
            try:
                with (
                    _typed(endpoint),
                    self._pools[endpoint].stream(
                        verb,
                        url,
                        headers={"Host": host, **self._headers, **headers},
                        content=body or None,
                        extensions={"timeout": timeouts},
                    ) as response,
                ):
                    received = _Received(response, endpoint, limit)
                    for chunk in response.iter_stream():
                        received.add(chunk)
                return received
            except ServerUnavailable:
                cancel.check()
                self._failed_at[endpoint] = time.monotonic()
                if not servers:
                    raise
            finally:
                _waiting.reset(token)

    def close(self) -> None:
        """Close the pools."""
        for pool in self._pools.values():
            pool.close()


_waiting: ContextVar[tuple[float, Cancel]] = ContextVar("bgclient.waiting")
"""Until when the call of this thread may wait, by ``time.monotonic``, and what cancels it."""


def _left_s() -> float:
    until, cancel = _waiting.get()
    cancel.check()
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


class _DeadlineBackend(httpcore.SyncBackend):
    """httpcore's network, whose streams know the whole call's deadline."""

    def connect_tcp(self, *given: Any, **named: Any) -> BoundedStream:
        return BoundedStream(super().connect_tcp(*given, **named), _left_s)
