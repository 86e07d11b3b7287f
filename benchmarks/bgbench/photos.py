"""The benchmarks' photos: a person in real JPEG bytes at 1, 12 and 48 megapixels, from a public domain picture.

``examples/astronaut.png`` (NASA, 512 x 512) is enlarged and given the grain of a sensor, without which an enlarged
photo would decode and encode far faster than a real one. Its JPEG has 1.6 bits a pixel; phones write 1.5 to 3.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bgimage.codec import decode

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES_HW = {1: (866, 1155), 12: (3000, 4000), 48: (6000, 8000)}
"""Megapixels to height and width, 4:3."""
GRAIN = 7.0
"""Standard deviation of the noise, grey levels."""
QUALITY = 90


def photo(megapixels: int, number: int = 0) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), RGB. ``number``: variants that differ in crop, mirroring and grain, always the same ones."""
    height, width = SIZES_HW[megapixels]
    source = decode((EXAMPLES / "astronaut.png").read_bytes()).pixels
    cut = 8 * (number % 8)
    tall = round((512 - cut) * height / width)  # of the picture's upper part, where the face is
    source = source[:tall, cut:][:, :: -1 if number % 2 else 1]
    large = cv2.resize(np.ascontiguousarray(source), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = np.empty((height, width, 3), np.int16)
    cv2.setRNGSeed(number)
    cv2.randn(grain, (0, 0, 0), (GRAIN,) * 3)
    return np.clip(large + cv2.GaussianBlur(grain.astype(np.float32), (0, 0), 0.7) * 2, 0, 255).astype(
        np.uint8
    )


def jpegs(megapixels: int, count: int, cache: Path) -> list[bytes]:
    """``count`` variants as JPEG; kept in ``cache``."""
    folder = cache / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        path = folder / f"{megapixels}mp-{number}.jpg"
        if not path.exists():
            bgr = cv2.cvtColor(photo(megapixels, number), cv2.COLOR_RGB2BGR)
            done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            assert done  # a uint8 array always encodes
            path.write_bytes(encoded.tobytes())
        found.append(path.read_bytes())
    return found
