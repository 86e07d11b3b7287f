"""Pictures, and the app without a network."""

from __future__ import annotations

import io

import httpx
import numpy as np
from PIL import Image


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
    """The picture, decoded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def client_of(app, **settings) -> httpx.AsyncClient:
    """An HTTP client whose requests go straight into the app."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://app", **settings)
