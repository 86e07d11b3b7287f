"""The ASGI app: REST with the parameters of remove.bg, health, metrics, OpenAPI, and the page."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib import metadata
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from bgclient import embedded
from bgclient.client import AsyncClient
from bgclient.errors import BgError, TransportError
from bgclient.fetch import Fetcher
from bgclient.options import Side
from bgclient.web import answer, openapi, page, parameters
from bgclient.web.body import Caps, read_fields
from bgclient.web.errors import Refusal, refusal_of
from bgclient.web.frame import RequestMiddleware
from bgclient.web.health import Canary
from bgclient.web.limits import Gate, RateLimit, network_of
from bgclient.web.logs import LOGGING
from bgclient.web.metrics import CONTENT_TYPE, Metrics
from bgclient.web.settings import Settings
from bgimage.codec import Limits, PhotoInfo, probe
from bgimage.options import Options

T = TypeVar("T")

_PHASES: dict[Side, tuple[str, ...]] = {"server": ("ask",), "client": ("load", "shrink", "ask", "finish")}
"""Of a cut-out, as far as they happen here."""

_LEAST_BYTES_S = 10_000
"""Bytes a second that a request must bring: a slow sender must not hold a place."""

_PATIENCE_S = 10.0
"""Seconds before that is asked of it."""

_log = logging.getLogger("bgclient.web")

_EXPOSED = (
    *("X-Request-Id", *openapi.RESULT_HEADERS, "Retry-After"),
    *(f"X-RateLimit-{what}" for what in ("Limit", "Remaining", "Reset")),
)
"""Headers that pages of ``cors_origins`` may read."""


def create_app(
    settings: Settings | None = None, *, client: AsyncClient | None = None, fetcher: Fetcher | None = None
) -> FastAPI:
    """The app.

    Args:
        settings: None: from the environment.
        client: cuts the photos; None: one for ``settings.url``, opened and closed with the app.
        fetcher: downloads URLs if ``settings.fetch_urls``; None: one that goes to public addresses only.
    """
    settings = settings or Settings.from_environment()
    service = Service(settings, client, fetcher)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        first = asyncio.create_task(service.canary.check())  # warm before the first visitor
        try:
            yield
        finally:
            first.cancel()
            await service.close(keep_client=client is not None)

    app = FastAPI(
        title="bgclient",
        summary="Cuts people out of photos, with the parameters of the remove.bg API",
        version=metadata.version("bgclient"),
        redirect_slashes=False,  # to where the Host header says
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; ours is at /docs
        redoc_url=None,
        lifespan=life,
    )
    app.state.service = service
    _add_routes(app, service)
    page.add(app, settings)
    _describe(app)

    app.add_exception_handler(Refusal, service.refused)
    app.add_exception_handler(BgError, service.failed)
    app.add_exception_handler(HTTPException, service.lost)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["X-Api-Key", "X-Request-Id", "Content-Type"],
            expose_headers=_EXPOSED,
        )
    if settings.allowed_hosts:
        app.add_middleware(_Hosts, allowed_hosts=list(settings.allowed_hosts), www_redirect=False)
    app.add_middleware(
        RequestMiddleware, metrics=service.metrics, drain_bytes=2 * Caps(settings.max_upload_bytes).whole
    )
    return app


class _Hosts(TrustedHostMiddleware):
    """Answers to its own names alone, but for probes: those come by the machine's address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        probed = scope["type"] == "http" and scope["path"] in ("/livez", "/healthz")
        await (self.app if probed else super().__call__)(scope, receive, send)


class Service:
    """What the routes share: the client, admission of callers, limits."""

    def __init__(self, settings: Settings, client: AsyncClient | None, fetcher: Fetcher | None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._limits = Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)
        self.client = client or AsyncClient(
            _url(settings), engine=settings.engine, timeout_s=settings.cut_s, limits=self._limits
        )
        self.canary = Canary(self.client, self.metrics, where=settings.where)
        self._fetcher = fetcher or Fetcher(max_bytes=settings.max_upload_bytes)
        self._fetching = ThreadPoolExecutor(8, thread_name_prefix="bgclient-fetch")
        self._keys = [key.encode() for key in settings.api_keys]
        self._rate = (
            RateLimit(settings.requests_per_minute, settings.burst) if settings.requests_per_minute else None
        )
        self._uploads = Gate(settings.uploads)
        self._turns = Gate(
            settings.concurrency, wait_s=settings.wait_s, waited=self.metrics.wait_seconds.observe
        )
        self.metrics.waiting.set_function(lambda: self._turns.waiting)

    async def close(self, *, keep_client: bool) -> None:
        """Give back what was opened."""
        self._fetching.shutdown(wait=False, cancel_futures=True)
        if not keep_client:
            await self.client.close()

    def admit(self, request: Request) -> None:
        """Check origin, key and rate.

        Raises:
            Refusal: 403 or 429.
        """
        if _is_foreign(request) and request.headers.get("origin") not in self.settings.cors_origins:
            raise Refusal(
                403,
                "origin_not_allowed",
                "Pages of other origins may not ask this server",
                "The server's operator can name them in BGCLIENT_WEB_CORS_ORIGINS",
            )
        key = request.headers.get("x-api-key", "").encode("latin-1")
        known = any(hmac.compare_digest(key, one) for one in self._keys)
        address = network_of(request.client.host if request.client else "")
        request.state.caller = f"key {key.decode('latin-1')}" if known else address
        if self._rate:  # guesses at keys too
            request.state.rate_headers = self._rate.take(request.state.caller).headers()
        if self._keys and not known:
            raise Refusal(403, "auth_failed", "API key invalid", "Send a valid key in the header X-Api-Key")

    async def removebg(self, request: Request) -> Response:
        """``POST /v1.0/removebg``."""
        self.admit(request)
        async with self._uploads.passed(request.state.caller):
            wanted = await self._received(request)
            photo, info, background = await self._pictures(wanted)
            self.metrics.upload_bytes.observe(len(photo))
            options = wanted.options(info.size_hw, background)
            async with self._turns.passed(request.state.caller):
                rendered = await _unless_gone(request, self._cut(photo, info, wanted, options))
        headers = rendered.headers(wanted.type_level) | getattr(request.state, "rate_headers", {})
        if answer.wants_json(request.headers.get("accept", "")):
            return JSONResponse(rendered.json(), headers=headers)
        return Response(rendered.data, media_type=rendered.media_type, headers=headers)

    async def _received(self, request: Request) -> parameters.Wanted:
        began = asyncio.get_running_loop().time()

        async def paced() -> AsyncIterator[bytes]:
            received = 0
            async for chunk in request.stream():
                received += len(chunk)
                allowed_s = min(self.settings.upload_s, _PATIENCE_S + received / _LEAST_BYTES_S)
                deadline.reschedule(began + allowed_s)
                yield chunk

        try:
            async with asyncio.timeout_at(began + min(self.settings.upload_s, _PATIENCE_S)) as deadline:
                fields = await read_fields(
                    paced(),
                    request.headers.get("content-type", ""),
                    request.headers.get("content-length"),
                    self.settings.max_upload_bytes,
                )
        except TimeoutError:
            raise Refusal(408, "upload_timeout", "The upload took too long") from None
        return await asyncio.to_thread(parameters.read, fields)

    async def _pictures(self, wanted: parameters.Wanted) -> tuple[bytes, PhotoInfo, bytes | None]:
        """Photo and background, within the limits as far as their headers tell."""
        photo = wanted.image
        if wanted.image_url:
            photo = await self._fetched("image_url", wanted.image_url, "failed_image_download")
        background = wanted.bg_image_file
        if wanted.bg_image_url:
            background = await self._fetched("bg_image_url", wanted.bg_image_url, "failed_bg_download")
        assert photo is not None, "parameters.read makes sure of a source"
        info = await asyncio.to_thread(probe, photo, self._limits)
        if background is not None:
            try:
                await asyncio.to_thread(probe, background, self._limits)
            except BgError as error:
                raise refusal_of(error, about="background image") from error
        return photo, info, background

    async def _fetched(self, name: str, url: str, code: str) -> bytes:
        if not self.settings.fetch_urls:
            raise Refusal(400, code, "This server does not fetch URLs", f"{name}: send the image itself")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._fetching, self._fetcher.fetch, url)
        except BgError as error:
            raise Refusal(400, code, "Failed to download image", f"{name}: {error}") from error

    async def _cut(
        self, photo: bytes, info: PhotoInfo, wanted: parameters.Wanted, options: Options
    ) -> answer.Rendered:
        where = self.settings.where
        cutout = await self.client.cut(photo, options, where=where, timeout_s=self.settings.cut_s)
        for phase in _PHASES[where]:
            self.metrics.phases.labels(phase).observe(getattr(cutout.timings, f"{phase}_ms") / 1e3)
        return await asyncio.to_thread(answer.render, cutout, info.size_hw, wanted, options)

    async def refused(self, request: Request, error: Exception) -> Response:
        """A refusal's body and headers."""
        assert isinstance(error, Refusal)
        self.metrics.refusals.labels(error.code).inc()
        headers = getattr(request.state, "rate_headers", {}) | error.headers
        return JSONResponse(error.body(), error.status, headers)

    async def failed(self, request: Request, error: Exception) -> Response:
        """An error of ours as a refusal; what is behind this server is for the log only."""
        assert isinstance(error, BgError)
        refusal = refusal_of(error)
        if isinstance(error, TransportError) or refusal.status >= 500:
            fields = {"request_id": request.state.request_id, "code": error.code}
            _log.warning("%s", error, extra={"fields": fields})
        return await self.refused(request, refusal)

    async def lost(self, request: Request, error: Exception) -> Response:
        """No such path, or not by this method."""
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        refusal = Refusal(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))
        return await self.refused(request, refusal)


def _url(settings: Settings) -> str | None:
    return settings.url or os.environ.get("BGCLIENT_URL", "").strip() or None


def _is_foreign(request: Request) -> bool:
    """True for a request of another origin's page. Programs send none of these headers.

    Browsers say it themselves to https and to localhost alone; over plain http the page's origin has to be this host.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return (
        origin is not None and origin.partition("://")[2].lower() != request.headers.get("host", "").lower()
    )


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the other side hangs up.

    Raises:
        ClientDisconnect: it did.
    """

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    doing, watching = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return await doing
    finally:
        doing.cancel()
        watching.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1.0/removebg",
        summary="Cut the people out of a photo",
        tags=["Background removal"],
        response_class=Response,
        responses=openapi.removebg_responses(),
        openapi_extra={"requestBody": openapi.removebg_body(), "security": [{}, {"ApiKey": []}]},
    )
    async def removebg(request: Request) -> Response:
        """The remove.bg API's own endpoint: its clients work when they are given this server's address."""
        try:
            return await service.removebg(request)
        except ClientDisconnect:
            return Response(status_code=499)  # the client is gone

    @app.get(
        "/v1.0/account",
        summary="Credits, of which none are needed",
        tags=["Background removal"],
        responses=openapi.errors(403, 429, 500),
        openapi_extra={"security": [{}, {"ApiKey": []}]},
    )
    async def account(request: Request, response: Response) -> dict[str, Any]:
        """Clients of remove.bg ask it to see whether a key is good."""
        service.admit(request)
        response.headers.update(getattr(request.state, "rate_headers", {}))
        credits = dict.fromkeys(("total", "subscription", "payg", "enterprise"), 0)
        return {"data": {"attributes": {"credits": credits, "api": {"free_calls": 0, "sizes": "all"}}}}

    @app.get(
        "/healthz",
        summary="Does a photo come back?",
        tags=["Operation"],
        responses={503: {"description": "It does not", "content": {"application/json": {}}}},
    )
    async def healthz() -> JSONResponse:
        """Sends a small photo through the server, at most every five seconds."""
        health = await service.canary.check()
        return JSONResponse(health.json(), 200 if health.well else 503, {"Cache-Control": "no-store"})

    @app.get("/livez", summary="Does this process answer?", tags=["Operation"])
    async def livez() -> dict[str, str]:
        """For liveness probes: says nothing about the server behind."""
        return {"status": "ok"}

    @app.get(
        "/metrics",
        summary="Numbers for Prometheus",
        tags=["Operation"],
        response_class=Response,
        responses={200: {"description": "Text format", "content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        """Requests, refusals, phases, health."""
        return Response(service.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})


def _describe(app: FastAPI) -> None:
    """Adds to FastAPI's description what it cannot know."""
    generated = partial(FastAPI.openapi, app)

    def described() -> dict[str, Any]:
        document = generated()
        document.setdefault("components", {})["securitySchemes"] = openapi.SECURITY_SCHEMES
        return document

    app.openapi = described  # type: ignore[method-assign]


def worker_app() -> FastAPI:
    """The app of one of several processes: it ends with its parent, however that ends, and gives the port back."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_it, daemon=True, name="bgclient-parent").start()
    return create_app()


def serve(
    settings: Settings | None = None, *, host: str = "127.0.0.1", port: int = 8080, workers: int = 1
) -> None:
    """Run the app until SIGTERM. Behind a proxy on this machine, its X-Forwarded-For is believed.

    With several ``workers`` each process makes its own app, whose rates and concurrency are its own; they share one
    server.

    Raises:
        BgError: that server gave up. (A single process would start another.)
    """
    import uvicorn

    from bgclient.web.connections import Connection, room_for

    settings = settings or Settings.from_environment()
    connections, backlog = room_for(settings.connections)
    gave_up: list[BgError] = []
    if workers > 1:
        if _url(settings) is None and settings.engine == "triton":
            settings = dataclasses.replace(settings, url=embedded.url())
            shared = threading.Thread(target=_end_with, args=(gave_up,), daemon=True, name="bgclient-shared")
            shared.start()
        os.environ.update(settings.to_environment())  # the only way into the processes that uvicorn starts
    app: Any = "bgclient.web.app:worker_app" if workers > 1 else create_app(settings)
    uvicorn.run(
        app,
        factory=workers > 1,
        host=host,
        port=port,
        workers=workers,
        log_config=LOGGING,
        access_log=False,  # ours has the request's id
        server_header=False,
        http=Connection,
        ws="none",
        limit_concurrency=connections,
        backlog=backlog,
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
        timeout_worker_healthcheck=60,  # of several workers; with its 5 s a busy machine never gets one to start
    )
    if gave_up:
        raise gave_up[0]


def _end_with(gave_up: list[BgError]) -> None:
    """End this process in good order once the server that it started has given up."""
    try:
        embedded.wait()
    except BgError as error:
        gave_up.append(error)
        os.kill(os.getpid(), signal.SIGTERM)
