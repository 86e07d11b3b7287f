"""The web app over the real client, with a made-up network behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from fastapi import FastAPI

from bgclient.client import AsyncClient
from bgclient.testing import FakeServer
from bgimage.codec import Limits

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")

from bgclient.web import Settings, create_app

from .support import client_of, listening_on_loopback


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
    with ExitStack() as running:
        yield lambda **settings: running.enter_context(listening_on_loopback(app_with(**settings)))
