"""Good and bad photos that chaos sends, and whether what comes back is right."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from bgbench.photos import photo
from bgimage.codec import decode
from bgimage.errors import BgError
from bgserver import canary

SIZES_HW = {"tiny": (150, 200), "small": (548, 730), "medium": (866, 1155), "large": (1500, 2000)}
"""0.03, 0.4, 1 and 3 megapixels."""
LEVELS = 2
"""Of 255 by which a cut-out may differ from the quiet run's: float sums depend on the batch they are computed in."""


@dataclass(frozen=True)
class PhotoRequest:
    """A photo, the way it goes, and what must come back."""

    name: str
    data: bytes = field(repr=False)
    where: Literal["client", "server"] = "server"
    refusal: str | None = None
    """Code of the error that is the right answer; None: a cut-out is."""


def jobs() -> list[PhotoRequest]:
    """Good and bad photos; always the same."""
    made = []
    for number, (name, (height, width)) in enumerate(SIZES_HW.items()):
        bgr = cv2.cvtColor(
            cv2.resize(photo(1, number), (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR
        )
        jpeg = cv2.imencode(".jpg", bgr)[1].tobytes()
        made += [PhotoRequest(f"{name} jpeg", jpeg), PhotoRequest(f"{name} jpeg", jpeg, where="client")]
        if name == "small":
            made += [PhotoRequest("small png", cv2.imencode(".png", bgr)[1].tobytes())]
            made += [PhotoRequest("small webp", cv2.imencode(".webp", bgr)[1].tobytes())]
            bad = {
                "no bytes": b"",
                "text": b"<html>not found</html>" * 10,
                "head of a jpeg": jpeg[:200],
                "half a png": made[-2].data[: len(made[-2].data) // 2],
                "bomb": _bomb(),
            }
    return made + [PhotoRequest(name, data, refusal=_refusal(data)) for name, data in bad.items()]


def _refusal(data: bytes) -> str:
    try:
        decode(data)
    except BgError as error:
        return error.code
    raise AssertionError("a bad photo that the decoder takes")


def _bomb() -> bytes:
    """A PNG whose header announces 900 megapixels."""
    png = canary.photo()
    header = b"IHDR" + struct.pack(">2I", 30_000, 30_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@dataclass(frozen=True)
class Expected:
    """A cut-out of the quiet run."""

    digest: str
    pixels: NDArray[Any]

    def verdict(self, encoded: bytes) -> str:
        """ "same" to the byte, "close" (within ``LEVELS`` where one would see it), or "wrong"."""
        if hashlib.sha256(encoded).hexdigest() == self.digest:
            return "same"
        pixels = pixels_of(encoded)
        if pixels.shape != self.pixels.shape:
            return "wrong"
        # in strips: what is measured is the memory of the client, not that of this comparison
        strips = (slice(top, top + 64) for top in range(0, len(pixels), 64))
        same = all(np.abs(_visible(pixels[s]) - _visible(self.pixels[s])).max() <= LEVELS for s in strips)
        return "close" if same else "wrong"


def pixels_of(encoded: bytes) -> NDArray[Any]:
    """BGR or BGRA of an encoded picture."""
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)


def _visible(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """float32 (H, W, 4), 0..255: colour times alpha, and alpha; the colour of what is transparent does not matter."""
    wide = pixels.astype(np.float32)
    return np.dstack([wide[..., :3] * wide[..., 3:] / 255, wide[..., 3]])
