"""What every request goes through: an id, a line in the log, numbers, security headers, and a last word."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bgclient.telemetry import request_id as calls_carry
from bgclient.web.errors import Refusal
from bgclient.web.metrics import Metrics

_log = logging.getLogger("bgclient.web")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self' blob: data:; worker-src 'self' blob:; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
"""What the page may load and call, as far as a ``meta`` element can say it too."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",  # with the one above: threads for WebAssembly
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Content-Security-Policy": f"{PAGE_POLICY}; frame-ancestors 'none'",
}

_SILENCE_S = 2.0
"""Seconds without a byte after which a client whose request is refused is no longer listened to."""

_TWO_LENGTHS = Refusal(
    400, "invalid_request", "The request cannot be read", "It has both Content-Length and Transfer-Encoding"
)
"""A proxy may have believed the other one (RFC 9112, 6.1): the connection ends."""

_INTERNAL = Refusal(
    500, "internal_error", "Internal error", "The server's log has more, under the request's id"
)


class RequestMiddleware:
    """ASGI middleware around the whole app.

    A request that is refused before its body was read is read to its end first, bounded in bytes and time: a client
    that is still sending would otherwise see a broken connection instead of the reason.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, drain_bytes: int, drain_s: float = 10.0) -> None:
        self._app = app
        self._metrics = metrics
        self._drain_bytes = drain_bytes
        self._drain_s = drain_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0
        more_to_read = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

        async def receiving() -> Message:
            nonlocal more_to_read
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                more_to_read = False
            return message

        async def drain() -> None:
            announced = headers.get(b"content-length", b"")
            left = self._drain_bytes
            if announced.isdigit() and int(announced) > left:
                return
            if b"expect" in headers:  # it sends nothing until it is asked to
                return
            ends = asyncio.get_running_loop().time() + self._drain_s
            try:
                while more_to_read and left > 0:
                    async with asyncio.timeout_at(min(ends, asyncio.get_running_loop().time() + _SILENCE_S)):
                        left -= len((await receiving()).get("body", b""))
            except TimeoutError:
                return

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if more_to_read and status >= 400 and status != 408:  # too slow already
                    await drain()
                message["headers"] = [
                    *message.get("headers", []),
                    *_framed(request_id, message.get("headers", [])),
                ]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            if b"content-length" in headers and b"transfer-encoding" in headers:
                more_to_read = False  # its end is unknown
                await _refuse(sending, _TWO_LENGTHS, (b"connection", b"close"))
                return
            with calls_carry(request_id):
                await self._app(scope, receiving, sending)
        except Exception:
            _log.exception("%s failed", request_id, extra={"fields": {"request_id": request_id}})
            if status:
                raise  # half an answer is out; the server ends the connection
            await _refuse(sending, _INTERNAL)
        finally:
            self._metrics.in_flight.dec()
            method, route, status = _method(scope), _route(scope), status or 499
            seconds = time.perf_counter() - began
            self._metrics.requests.labels(route, method, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            fields = {"request_id": request_id, "method": method, "route": route, "status": status}
            fields["ms"] = round(1e3 * seconds, 1)
            _log.info("%s %s %d", method, route, status, extra={"fields": fields})


def _framed(request_id: str, present: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in present}
    wanted = {"X-Request-Id": request_id, **_HEADERS}
    return [
        (name.lower().encode(), value.encode())
        for name, value in wanted.items()
        if name.lower().encode() not in names
    ]


def _route(scope: Scope) -> str:
    """The route's pattern, not the path: strangers must not make new metrics."""
    # scope["route"] is there for FastAPI's own routes alone, not for files or the API's description
    endpoint = scope.get("endpoint")
    for route in scope["app"].routes:
        if endpoint and endpoint in (getattr(route, "endpoint", None), getattr(route, "app", None)):
            return str(route.path)
    return "other"


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"


async def _refuse(send: Send, refusal: Refusal, *more: tuple[bytes, bytes]) -> None:
    body = json.dumps(refusal.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
