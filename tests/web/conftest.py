"""The web app over the real client, with a made-up network behind it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from bgclient.client import AsyncClient
from bgclient.testing import FakeServer
from bgimage.codec import Limits

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")

from bgclient.web import Settings, create_app

KEY = "correct-horse"


def picture(
    width: int = 320, height: int = 240, format: str = "jpeg", colour: tuple[int, ...] = (200, 80, 40)
) -> bytes:
    """An encoded picture: the colour on the left half, its complement on the right."""
    pixels = np.empty((height, width, len(colour)), np.uint8)
    pixels[:, : width // 2] = colour
    pixels[:, width // 2 :] = tuple(255 - c for c in colour)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


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


def client_of(app: FastAPI, **settings) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://app", **settings)
