"""Everything that can be wrong with a photo or with what is asked of it.

    BgError                     base of every error of this project; .code, .retryable
    ├── PhotoError              the photo itself
    │   ├── EmptyPhoto          no bytes at all
    │   ├── UnknownFormat       bytes in no image format that is read here
    │   ├── BrokenPhoto         a known format, cut short or damaged
    │   ├── PhotoTooLarge       more bytes than Limits.max_bytes
    │   ├── TooManyPixels       more pixels than Limits.max_pixels
    │   ├── SideTooLong         one side over Limits.max_side or below one pixel
    │   ├── BatchTooLarge       photos of one request over Limits.max_batch_bytes or max_batch_pixels together
    │   ├── DecodeTooSlow       decoding passed Limits.max_decode_s
    │   └── MissingCodec        the format needs an extra that is not installed
    ├── OptionError             an option that does not exist, or a value outside its range
    ├── NoPersonFound           asked for a person, found none
    ├── Doubtful                asked for a good cut-out, this one may not be
    └── InternalError           a fault of this software with one photo

The ``code`` travels over the wire ("too_many_pixels: 900 megapixels ..."), and ``from_message`` builds the
same class again on the other side.
"""

from __future__ import annotations

from typing import ClassVar


class BgError(Exception):
    """Base class. The message says what, which, and what next."""

    code: ClassVar[str] = "error"
    """Stable snake_case name; safe to match on in any language."""
    retryable: ClassVar[bool] = False
    """True where the same call may succeed later without a change."""

    def message(self) -> str:
        """``code: sentence``, the form that crosses the wire."""
        return f"{self.code}: {self}"


class PhotoError(BgError):
    """The photo cannot be used."""

    code = "bad_photo"


class EmptyPhoto(PhotoError):
    """There are no bytes."""

    code = "empty_photo"


class UnknownFormat(PhotoError):
    """The bytes are no image format that is read here."""

    code = "unknown_format"


class BrokenPhoto(PhotoError):
    """A known format, but cut short or damaged."""

    code = "broken_photo"


class PhotoTooLarge(PhotoError):
    """More bytes than allowed."""

    code = "photo_too_large"


class TooManyPixels(PhotoError):
    """More pixels than allowed; told from the header, before decoding."""

    code = "too_many_pixels"


class SideTooLong(PhotoError):
    """A side longer than allowed, or no side at all."""

    code = "side_too_long"


class BatchTooLarge(PhotoError):
    """Photos of one request that are too much together; told from their headers, before decoding."""

    code = "batch_too_large"


class DecodeTooSlow(PhotoError):
    """Decoding took longer than allowed."""

    code = "decode_too_slow"


class MissingCodec(PhotoError):
    """The format is known, its decoder is not installed."""

    code = "missing_codec"


class OptionError(BgError):
    """An unknown option, or a value outside its range."""

    code = "bad_option"


class NoPersonFound(BgError):
    """A person was asked for and none was found."""

    code = "no_person_found"


class Doubtful(BgError):
    """The cut-out is expected to be worse than ``at_least``."""

    code = "doubtful"


class InternalError(BgError):
    """A fault of this software with one photo or its options; no other photo is affected."""

    code = "internal_error"

    @classmethod
    def of(cls, error: BaseException) -> InternalError:
        """For whatever was raised and should not have been."""
        said = str(error)[:200]
        return cls(f"a fault of bgclient with this photo: {type(error).__name__}: {said}; please report it")


def _tree(root: type[BgError]) -> dict[str, type[BgError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def from_message(message: str) -> BgError | None:
    """The error that ``message()`` wrote, found anywhere in ``message``; ``None`` where there is none.

    Triton prefixes what a model says ("in ensemble 'cutout', ..."), so the code is looked for inside the
    text.
    """
    for code, kind in sorted(_tree(BgError).items(), key=lambda item: -len(item[0])):
        head, mark, sentence = message.partition(f"{code}: ")
        if mark and (not head or not (head[-1].isalnum() or head[-1] == "_")):
            return kind(sentence)
    return None
