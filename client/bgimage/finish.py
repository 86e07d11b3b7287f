"""Photo, network's answer and options to the finished picture: the one path of server and client."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgimage import matte as mattes
from bgimage import metadata
from bgimage.codec import Photo, Pixels, encode
from bgimage.contract import Contract
from bgimage.errors import NoPersonFound
from bgimage.geometry import crop_letterbox
from bgimage.options import Options


@dataclass(frozen=True, eq=False)
class Finished:
    """The finished picture and what is known about it."""

    pixels: Pixels
    """(H, W, 4) RGBA with straight alpha, (H, W, 3) RGB where opaque, or (H, W) for a matte; the photo's dtype."""
    matte: NDArray[np.uint8]
    """uint8 (H, W): the alpha of the chosen people at the photo's own resolution, before cropping and placing."""
    box: tuple[int, int, int, int] | None
    """Left, top, right, bottom of the people in photo pixels; None where nobody was found."""
    confidence: float
    """0..1: how sure the network is of what it found."""
    placed: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom of the people in ``pixels``, after cropping, placing and scaling."""
    format: str = "png"
    quality: int | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None

    def encode(self) -> bytes:
        """Image bytes in ``format``."""
        return encode(
            self.pixels, self.format, quality=self.quality, icc=self.icc, exif=self.exif, dpi=self.dpi
        )

    def facts(self) -> bytes:
        """JSON of what a caller cannot see in the picture: ``{"box": [l, t, r, b] or null, "confidence": 0..1}``."""
        return json.dumps({"box": self.box, "confidence": round(self.confidence, 6)}).encode()


def finish(
    photo: Photo, alpha: NDArray[np.float32], contract: Contract, options: Options | None = None
) -> Finished:
    """The picture that ``options`` ask for.

    Args:
        photo: at full resolution.
        alpha: float32 (S, S) in [0, 1], the network's answer to ``network_input(photo, contract)``.

    Raises:
        NoPersonFound: nobody found and ``options.require_person``.
        OptionError: an option that does not fit this photo, such as a point outside it.
    """
    options = options or Options()
    small = crop_letterbox(alpha, photo.size_hw, contract)
    matte = mattes.refined(photo, small, options.edges)
    sure = small[small > 0.5]
    confidence = float(sure.mean()) if sure.size else 0.0
    rows, columns = np.flatnonzero(matte.max(1) > 127), np.flatnonzero(matte.max(0) > 127)
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if rows.size else None
    if options.require_person and (box is None or confidence < options.min_confidence):
        raise NoPersonFound("nobody was found in the photo")
    shown = 255 - matte if options.output == "inverse" else matte
    depth = np.iinfo(photo.pixels.dtype).max
    pixels: Pixels
    if options.output == "matte":
        pixels = matte
    else:
        deep = (shown.astype(np.uint16) * 257) if depth == 65535 else shown
        pixels = np.dstack([photo.pixels, deep])
        pixels[shown == 0] = 0
    exif = photo.exif if options.keep_metadata else None
    return Finished(
        pixels=pixels,
        matte=matte,
        box=box,
        confidence=confidence,
        placed=box,
        format=options.format or "png",
        quality=options.quality,
        icc=photo.icc if options.output != "matte" else None,
        exif=metadata.without_gps(exif) if exif and options.drop_gps else exif,
        dpi=photo.dpi if options.keep_metadata else None,
    )
