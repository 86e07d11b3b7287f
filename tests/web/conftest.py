"""The web app over the real client, with a made-up network behind it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from fastapi import FastAPI

from bgclient.client import AsyncClient
from bgclient.testing import FakeServer
from bgimage.codec import Limits

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")

from bgclient.web import Settings, create_app

from .support import client_of


@pytest.fixture
def fake_server() -> FakeServer:
    """The Triton that is not there."""
    return FakeServer()


@pytest.fixture
def app_with(fake_server: FakeServer) -> Callable[..., FastAPI]:
    """Makes an app with other settings."""

    def make(fetcher=None, **values) -> FastAPI:
        settings = Settings(**{"requests_per_minute": 0, **values})
        limits = Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)
        client = AsyncClient("fake:8001", connector=fake_server, limits=limits)
        return create_app(settings, client=client, fetcher=fetcher)

    return make


@pytest.fixture
async def http(app_with) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the app with default settings."""
    async with client_of(app_with()) as client:
        yield client


@pytest.fixture
def listening(app_with) -> Iterator[Callable[..., str]]:
    """Serves an app with the given settings on a loopback port; gives its address."""
    import uvicorn

    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(**settings) -> str:
        config = uvicorn.Config(app_with(**settings), host="127.0.0.1", port=0, log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the app did not start"
            thread.join(0.01)
        running.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(10)
