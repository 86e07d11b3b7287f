"""A photo from wherever it is: path, bytes, file object, PIL image, array, or a URL where that is allowed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from bgclient.errors import BrokenPhoto, PhotoTooLarge, SourceError, UrlRefused
from bgclient.fetch import Fetcher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from bgimage.codec import Limits, Photo

    PhotoLike = (
        str
        | os.PathLike[str]
        | bytes
        | bytearray
        | memoryview
        | IO[bytes]
        | Image.Image
        | NDArray[np.uint8]
        | NDArray[np.uint16]
        | Photo
    )
else:
    PhotoLike = Any


def load(photo: PhotoLike, limits: Limits, fetcher: Fetcher | None = None) -> bytes | Photo:
    """The encoded bytes of a photo, or its pixels where it comes as pixels.

    Args:
        photo: see ``PhotoLike``. A text that begins with http:// or https:// is a URL, any other a path.
        limits: ``max_bytes`` is checked before reading.
        fetcher: downloads URLs; None: URLs are refused.

    Raises:
        SourceError: it cannot be read; ``UrlRefused``, ``DownloadFailed`` for URLs.
        PhotoError: too large, or nothing that can be a photo.
    """
    if isinstance(photo, str) and photo.lower().startswith(("http://", "https://")):
        if fetcher is None:
            raise UrlRefused(f"{photo}: URLs are not fetched unless you allow it; give fetcher=Fetcher()")
        return fetcher.fetch(photo)
    if isinstance(photo, str | os.PathLike):
        return _read_path(Path(photo), limits)
    if isinstance(photo, bytes | bytearray | memoryview):
        return bytes(photo)
    if hasattr(photo, "read") and not hasattr(photo, "getpixel"):
        return _read_file(cast("IO[bytes]", photo), limits)
    return _from_pixels(photo)


def _read_path(path: Path, limits: Limits) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            # opening a pipe without a writer would block for ever
            raise SourceError(f"{path}: a pipe or device; open it yourself and give the file object")
        if found.st_size > limits.max_bytes:
            raise PhotoTooLarge(
                f"{path}: {found.st_size} bytes, allowed are {limits.max_bytes}; scale it down"
            )
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}; check the path") from error


def _read_file(file: IO[bytes], limits: Limits) -> bytes:
    data = bytearray()
    while len(data) <= limits.max_bytes:  # one without a buffer gives a part at a time
        try:
            part = file.read(limits.max_bytes + 1 - len(data))
        except (OSError, ValueError) as error:
            raise SourceError(f"the file object cannot be read: {error}") from error
        if not isinstance(part, bytes):
            raise SourceError(f"the file object gives {type(part).__name__}; open it in binary mode")
        if not part:
            return bytes(data)
        data += part
    raise PhotoTooLarge(f"more than the allowed {limits.max_bytes} bytes; scale it down")


def _from_pixels(photo: Any) -> Photo:
    from bgimage.codec import photo_from

    try:
        return photo_from(photo)
    except (OSError, SyntaxError) as error:  # a PIL image that is decoded only now
        raise BrokenPhoto(f"the image cannot be decoded: {error}; save the photo again") from error
