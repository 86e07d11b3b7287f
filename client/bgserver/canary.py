"""A photo that is sent through the whole server, because Triton answers "ready" with hung Python models behind it, and
2.51 with dead ones.

``python -m bgserver canary`` is the probe for containers. It needs the standard library only.
"""

from __future__ import annotations

import array
import http.client
import json
import math
import os
import struct
import urllib.parse
import zlib
from typing import Any

from bgserver.errors import CanaryFailed, NoAnswer
from bgserver.repository import kind_of

SIZE_HW = (48, 64)
"""Of the canary photo, pixels."""

ADMIN_HEADER = "bgserver-key"
"""HTTP header of the key for the administrative interfaces."""


def admin_headers(key: str) -> dict[str, str]:
    """The key as HTTP and as gRPC want it; each overlooks the other's."""
    return {ADMIN_HEADER: key, f"triton-grpc-protocol-{ADMIN_HEADER}": key}


def photo(size_hw: tuple[int, int] = SIZE_HW, tint: bytes = bytes(3)) -> bytes:
    """A PNG of gradients, 8 bits, RGB; grey without a ``tint``, which is added to red, green and blue."""
    height, width = size_hw
    rows = b"".join(
        b"\0" + bytes((4 * min(x, y) + shade) % 256 for x in range(width) for shade in tint)
        for y in range(height)
    )
    chunks = [
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def fresh_photo() -> bytes:
    """Another ``photo`` at each call: what a server remembers of the last one says nothing of its network."""
    return photo(tint=os.urandom(3))


def request(
    url: str,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    timeout_s: float = 5.0,
) -> tuple[int, dict[str, str], bytes]:
    """One HTTP exchange on a connection of its own: an idle kept-alive one would hold up the server's
    shutdown.

    Returns:
        Status, headers with lower-case names, body.

    Raises:
        NoAnswer: none in ``timeout_s``.
        CanaryFailed: no connection, or it was closed early.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
    try:
        connection.request(method, path, body, {"Connection": "close", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    except TimeoutError as error:
        raise NoAnswer(f"{path} at {url} gave no answer in {timeout_s:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise CanaryFailed(f"no server answers at {url} ({type(error).__name__})") from error
    finally:
        connection.close()


def infer(
    url: str, model: str, photo: bytes, output: str, *, timeout_s: float = 5.0
) -> tuple[list[int], bytes]:
    """Shape and raw bytes of ``output`` for one photo, by the KServe v2 protocol with its binary extension.

    Raises:
        CanaryFailed: no answer in time, or an error instead of one.
    """
    data = struct.pack("<I", len(photo)) + photo
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "photo",
                    "shape": [1, 1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(data)},
                }
            ],
            "outputs": [{"name": output, "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    path = f"/v2/models/{model}/infer"
    status, reply, body = request(url, "POST", path, head + data, headers=headers, timeout_s=timeout_s)
    if status != 200:
        raise CanaryFailed(
            f"model {model} at {url} answers HTTP {status}: {body[:300].decode(errors='replace')}"
        )
    length = int(reply["inference-header-content-length"])
    outputs: list[dict[str, Any]] = json.loads(body[:length])["outputs"]
    return outputs[0]["shape"], body[length:]


def check(url: str, models: tuple[str, ...] = ("cutout", "matte"), *, timeout_s: float = 5.0) -> None:
    """Send a canary through each of the ``models`` that are known here, and look at what comes back.

    ``cutout`` must return a PNG of the photo's size, ``matte`` alphas in [0, 1]; so must another network's
    ``cutout_NAME`` and ``matte_NAME``.

    Raises:
        CanaryFailed: anything else.
    """
    for model in models:
        sent = fresh_photo()
        if kind_of(model) == "cutout":
            _, raw = infer(url, model, sent, "cutout", timeout_s=timeout_s)
            picture = raw[4:]
            if picture[:8] != sent[:8] or struct.unpack(">2I", picture[16:24]) != SIZE_HW[::-1]:
                raise CanaryFailed(
                    f"model {model} at {url} returned {len(picture)} bytes that are not a PNG of the photo's size"
                )
        if kind_of(model) == "matte":
            shape, raw = infer(url, model, sent, "alpha", timeout_s=timeout_s)
            alpha = array.array("f", raw)
            if len(alpha) != math.prod(shape) or not all(-1e-6 <= a <= 1 + 1e-6 for a in alpha):
                raise CanaryFailed(
                    f"model {model} at {url} returned {len(alpha)} numbers for shape {shape}, or some outside 0..1"
                )


def served(url: str, models: tuple[str, ...], headers: dict[str, str]) -> int:
    """Requests that ``models`` have answered well since they were loaded. ``CanaryFailed``: it does not say."""
    total = 0
    for model in models:
        status, _, body = request(url, "GET", f"/v2/models/{model}/stats", headers=headers, timeout_s=2.0)
        if status != 200:
            raise CanaryFailed(f"statistics of model {model} at {url}: HTTP {status}")
        total += sum(
            entry["inference_stats"]["success"]["count"] for entry in json.loads(body)["model_stats"]
        )
    return total
