"""HTTP, with httpx. (tritonclient's HTTP client is built on gevent: it hangs among threads, server#6909 and
#3808.)
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from bgclient._cancel import Cancel
from bgclient._endpoints import Endpoint
from bgclient._wire import MAX_ANSWER_BYTES, Answer, Query, Request, http_answer, http_body, http_error
from bgclient.errors import CallCancelled, DeadlineExceeded, ServerFault, ServerUnavailable
from bgclient.transports import TLS, Wiring

# An idle connection delays Triton's shutdown until its --exit-timeout-secs: keep few, and not for long.
_POOL = httpx.Limits(max_connections=64, max_keepalive_connections=8, keepalive_expiry=5.0)


def _settings(endpoint: Endpoint, wiring: Wiring) -> dict[str, Any]:
    """Arguments of ``httpx.Client`` and ``httpx.AsyncClient``."""
    scheme = "https" if endpoint.tls else "http"
    return {
        "base_url": f"{scheme}://{endpoint.address}/",
        "headers": {"Accept-Encoding": "identity", **wiring.headers},
        "verify": _context(wiring.tls or TLS()) if endpoint.tls else False,
        "limits": _POOL,
        "trust_env": False,
    }


def _context(tls: TLS) -> ssl.SSLContext:
    with tls.reading():
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        return context


def _fields(query: Query, response: httpx.Response, endpoint: Endpoint) -> dict[str, Any]:
    if query.rpc == "ServerReady":  # answers 200 or 400 without a body
        return {"ready": response.status_code == 200}
    if response.status_code != 200:
        raise http_error(response.status_code, response.content, str(endpoint))
    if not response.content:
        return {}
    try:
        found = response.json()
    except ValueError as error:
        raise ServerFault(f"{endpoint} answers no JSON to {query.path}; is it a Triton?") from error
    if query.rpc == "RepositoryIndex":
        return {"models": found}
    if query.rpc == "ModelConfig":
        return {"config": found}
    if query.rpc.endswith("SharedMemoryStatus"):
        return {"regions": {region["name"]: region for region in found}}
    return dict(found)


@contextmanager
def _typed(endpoint: Endpoint) -> Iterator[None]:
    """Turn what httpx raises into our errors."""
    try:
        yield
    except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout, TimeoutError) as error:
        raise DeadlineExceeded(f"no answer from {endpoint} in time") from error
    except httpx.TransportError as error:
        raise ServerUnavailable(f"no Triton at {endpoint} ({str(error) or type(error).__name__})") from error
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        raise CallCancelled(f"the connection to {endpoint} was closed during the call") from error


def _check_size(endpoint: Endpoint, size: int) -> None:
    if size > MAX_ANSWER_BYTES:
        raise ServerFault(f"{endpoint} answers more than {MAX_ANSWER_BYTES} bytes; is it a Triton?")


class HttpTransport:
    """One connection pool, for threads."""

    def __init__(self, endpoint: Endpoint, wiring: Wiring) -> None:
        self._endpoint = endpoint
        self._client = httpx.Client(**_settings(endpoint, wiring))

    def infer(self, request: Request, timeout_s: float, cancel: Cancel) -> Answer:
        """Run one inference. Ctrl-C and the deadline close the connection, which the server notices.

        A thread that waits in ``recv`` cannot be woken, so ``cancel`` takes effect when the answer comes; use
        gRPC or ``AsyncClient`` where that matters.
        """
        cancel.check()
        body, headers = http_body(request)
        until = time.monotonic() + timeout_s
        with (
            _typed(self._endpoint),
            self._client.stream(
                "POST", f"v2/models/{request.model}/infer", content=body, headers=headers, timeout=timeout_s
            ) as response,
        ):
            received = bytearray()
            for chunk in response.iter_raw():
                received += chunk
                _check_size(self._endpoint, len(received))
                if time.monotonic() > until:  # httpx counts each read by itself
                    raise TimeoutError
        cancel.check()
        if response.status_code != 200:
            raise http_error(response.status_code, bytes(received), str(self._endpoint))
        return http_answer(request.model, response.headers, bytes(received))

    def query(self, query: Query, timeout_s: float) -> dict[str, Any]:
        """Ask about the server."""
        body = None if query.body is None else json.dumps(query.body)
        with _typed(self._endpoint):
            response = self._client.request(query.verb, query.path, content=body, timeout=timeout_s)
        return _fields(query, response, self._endpoint)

    def close(self) -> None:
        """Close the pool."""
        self._client.close()


class AsyncHttpTransport:
    """One connection pool, for one asyncio loop."""

    def __init__(self, endpoint: Endpoint, wiring: Wiring) -> None:
        self._endpoint = endpoint
        self._client = httpx.AsyncClient(**_settings(endpoint, wiring))

    async def infer(self, request: Request, timeout_s: float) -> Answer:
        """Run one inference. Cancelling the task and the deadline close the connection, which the server
        notices.
        """
        body, headers = http_body(request)
        received = bytearray()
        with _typed(self._endpoint):
            async with (
                asyncio.timeout(timeout_s),
                self._client.stream(
                    "POST", f"v2/models/{request.model}/infer", content=body, headers=headers, timeout=None
                ) as response,
            ):
                async for chunk in response.aiter_raw():
                    received += chunk
                    _check_size(self._endpoint, len(received))
        if response.status_code != 200:
            raise http_error(response.status_code, bytes(received), str(self._endpoint))
        return http_answer(request.model, response.headers, bytes(received))

    async def query(self, query: Query, timeout_s: float) -> dict[str, Any]:
        """Ask about the server."""
        body = None if query.body is None else json.dumps(query.body)
        with _typed(self._endpoint):
            async with asyncio.timeout(timeout_s):
                response = await self._client.request(query.verb, query.path, content=body, timeout=None)
        return _fields(query, response, self._endpoint)

    async def close(self) -> None:
        """Close the pool."""
        await self._client.aclose()
