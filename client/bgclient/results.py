"""What comes back: a cut-out, how long it took, and how a run of many went."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bgclient._files import write_atomically
from bgclient.errors import BgError, OptionError
from bgimage.once import cached_property

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from bgimage.codec import Limits, Pixels
    from bgimage.finish import Finished

P = TypeVar("P")

_FORMATS = {
    ".png": "png",
    ".webp": "webp",
    ".avif": "avif",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""Format that a file's suffix asks for."""


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Where the time of one call went, milliseconds."""

    load_ms: float
    """Reading the photo, and waiting for its pixels, which are decoded while the server is asked."""
    shrink_ms: float
    """Making what is sent."""
    ask_ms: float
    """Server and network, tries and pauses included; for the first call of a process its start, too."""
    finish_ms: float
    """Bringing the matte to full resolution and composing; 0 where the server did it."""
    total_ms: float
    """Everything."""
    tries: int
    """Requests that were sent, or tried to be."""
    sent_bytes: int
    """Size of the photo that was uploaded."""
    server: str
    """Address of the server that answered."""
    request_id: str
    """What the server's log knows this call by."""


@dataclass(frozen=True)
class Encoded:
    """A picture that the server finished, and what it said about it."""

    data: bytes = field(repr=False)
    """As the server encoded it."""
    box: tuple[int, int, int, int] | None
    expected_iou: float
    holds_matte: bool
    """True when the picture's alpha is the matte: not inverted, cropped, placed, or on a background."""
    dropped: tuple[str, ...] = ()
    looks: int = 1

    @property
    def format(self) -> str:
        """What ``data`` is, by its first bytes."""
        from bgimage.codec import sniff

        return sniff(self.data)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the picture, read from its header."""
        from bgimage.codec import probe

        return probe(self.data, self._limits).size_hw

    @property
    def _limits(self) -> Limits:
        """A finished picture may weigh more than a photo: 48 megapixels of PNG are 90 MB."""
        from bgimage.codec import Limits

        return Limits(max_bytes=len(self.data) + 1)

    def decoded(self) -> Finished:
        """The picture in pixels. Its ``matte`` means something only where ``holds_matte``."""
        import numpy as np

        from bgimage.arrays import eight_bits
        from bgimage.codec import decode
        from bgimage.finish import Finished

        photo = decode(self.data, self._limits)
        pixels, alpha = photo.pixels, photo.alpha
        if alpha is not None:
            pixels = np.dstack([pixels, alpha])
        elif self.holds_matte:
            pixels = alpha = np.ascontiguousarray(pixels[..., 0])
        else:
            alpha = np.full(photo.size_hw, 255, np.uint8)
        return Finished(
            picture=pixels,
            matte=eight_bits(alpha),
            box=self.box,
            expected_iou=self.expected_iou,
            format=photo.format or "png",
            icc=photo.icc,
            exif=photo.exif,
            dpi=photo.dpi,
            dropped=self.dropped,
            looks=self.looks,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Cutout:
    """A person, cut out of a photo."""

    made: Finished | Encoded = field(repr=False)
    """The picture, as it was finished here or came from the server."""
    timings: Timings

    @cached_property
    def finished(self) -> Finished:
        """Pixels, matte, box, expected IoU and metadata."""
        return self.made.decoded() if isinstance(self.made, Encoded) else self.made

    def __repr__(self) -> str:
        """Size, people, and how good the cut-out is expected to be."""
        height, width = self.size_hw
        if self.box is None:
            people = "no people found"
        else:
            left, top, right, bottom = self.box
            people = f"people in ({left}, {top}, {right}, {bottom}), expected IoU {self.expected_iou:.2f}"
        return f"<Cutout {width} x {height}, {people}, {self.timings.total_ms:.0f} ms>"

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the picture, pixels."""
        if isinstance(self.made, Encoded):
            return self.made.size_hw
        height, width, *_ = self.made.picture.shape
        return height, width

    @property
    def pixels(self) -> Pixels:
        """(H, W, 4) RGBA with straight alpha, (H, W, 3) RGB where opaque, (H, W) a matte; uint8 or uint16."""
        return self.finished.pixels

    @property
    def matte(self) -> NDArray[np.uint8]:
        """uint8 (H, W), 0..255: the people's alpha at the photo's own resolution, before cropping and
        placing.

        Raises:
            OptionError: the server finished the picture in a way that leaves no matte in it.
        """
        if isinstance(self.made, Encoded) and not self.made.holds_matte:
            raise OptionError(
                "the server sent only the finished picture; cut with where='client' to have its matte too"
            )
        return self.finished.matte

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Left, top, right, bottom of the people in photo pixels; None where no person was found."""
        return self.made.box

    @property
    def expected_iou(self) -> float:
        """0..1: the IoU that such cut-outs had on average (``bgimage.expected``); 0.0 without a person."""
        return self.made.expected_iou

    @property
    def dropped(self) -> tuple[str, ...]:
        """What the photo's file held besides, and the picture does not: "XMP", "C2PA", "HDR gain map"."""
        return self.made.dropped

    @property
    def looks(self) -> int:
        """1, or 2 where a second, closer look at the people was the better one (``bgimage.closer``)."""
        return self.made.looks

    @cached_property
    def image(self) -> Image.Image:
        """The picture as a PIL image of 8 bits a channel."""
        from PIL import Image

        from bgimage.arrays import eight_bits

        return Image.fromarray(eight_bits(self.pixels))

    def encode(self, format: str | None = None, *, quality: int | None = None) -> bytes:
        """Image bytes: "png", "webp", "avif", "jpeg" or "tiff"; None: the format that the options asked for.

        Raises:
            OptionError: an unknown format, or one without transparency for a picture that has some.
        """
        if isinstance(self.made, Encoded) and quality is None and format in (None, self.made.format):
            return self.made.data
        return self.finished.encode(format, quality=quality)

    def png(self) -> bytes:
        """PNG bytes, ready to write, upload or show."""
        return self.encode("png")

    _repr_png_ = png  # what Jupyter shows

    def save(self, path: str | os.PathLike[str], *, quality: int | None = None) -> Path:
        """Write the picture; the suffix says the format. The file appears whole or not at all.

        Raises:
            OptionError: a suffix that is none of png, webp, avif, jpg, tif, or JPEG for a transparent
                picture.
            TargetError: the file cannot be written.
        """
        target = Path(path)
        write_atomically(target, self.encode(format_of(target), quality=quality), overwrite=True)
        return target

    def on(self, background: str | tuple[int, ...]) -> Cutout:
        """The same people on a colour ("white", "#ff8800", (255, 136, 0)): opaque, so JPEG can hold it.

        Raises:
            OptionError: no colour, or a picture that is not transparent.
        """
        import dataclasses

        import numpy as np

        from bgimage.compose import over
        from bgimage.finish import painted
        from bgimage.options import Options

        colour = Options.of(background=background).background
        if not isinstance(colour, tuple):
            raise OptionError(
                f"background={background!r}: on() takes a colour; give cut() background= for the rest"
            )
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 4:
            raise OptionError(
                "this picture is not transparent: it was made as a matte or already has a background"
            )
        sheet = painted(np.array([[colour[:3]]], np.uint8), self.finished.icc, self.pixels.dtype)
        pixels = over(self.pixels, tuple(sheet[0, 0].tolist()))
        return Cutout(dataclasses.replace(self.finished, picture=pixels), self.timings)


def format_of(path: Path) -> str:
    """The format that a file's suffix asks for, or ``OptionError``."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise OptionError(f"{path.name}: unknown suffix {path.suffix!r}; use {', '.join(_FORMATS)}") from None


@dataclass(frozen=True)
class Outcome(Generic[P]):
    """How one photo of many went: a cut-out or an error."""

    index: int
    """Place in the input, from 0."""
    photo: P
    """What was given."""
    cutout: Cutout | None = None
    error: BgError | None = None

    @property
    def ok(self) -> bool:
        """True when there is a cut-out."""
        return self.cutout is not None

    def unwrap(self) -> Cutout:
        """The cut-out; raises the error where there is one."""
        if self.cutout is None:
            raise self.error or RuntimeError("an outcome without cut-out and without error")
        return self.cutout


@dataclass(frozen=True)
class Progress:
    """How far a run of many is; given to the progress callback after each photo."""

    done: int
    """Photos that are finished, well or not."""
    failed: int
    """Those with an error."""
    total: int | None
    """Photos in all, where the input knows its length."""


def known_length(photos: Any) -> int | None:
    """``len`` where there is one."""
    return len(photos) if hasattr(photos, "__len__") else None
