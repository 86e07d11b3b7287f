"""Pictures, and the app without a network."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


def same(there, ours):
    """Whether two mattes, 0 to 255, are as near as the browser's and the server's are."""
    found, wanted = there > 127, ours > 127
    assert (found & wanted).sum() / (found | wanted).sum() > 0.99
    assert np.abs(there / 255 - ours / 255).mean() < 0.01


def client_of(app, **settings) -> httpx.AsyncClient:
    """An HTTP client whose requests go straight into the app."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://app", **settings)


@contextmanager
def listening_on_loopback(app, **settings) -> Iterator[str]:
    """The app behind a socket; its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the app did not start"
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
