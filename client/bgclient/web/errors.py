"""What the REST side answers when it cannot answer with a picture: remove.bg's form, and our errors in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bgclient.errors import (
    BgError,
    BrokenPhoto,
    DecodeTooSlow,
    EmptyPhoto,
    MissingCodec,
    NoPersonFound,
    OptionError,
    PhotoTooLarge,
    SideTooLong,
    SourceError,
    TooManyPixels,
    TransportError,
    UnknownFormat,
)


class CannotListen(BgError):
    """The front cannot listen on the address or the port."""

    code = "cannot_listen"


class WebPortBusy(CannotListen):
    """Another program listens there."""

    code = "web_port_busy"
    retryable = True


class AssetsMissing(BgError):
    """The network or the runtime of "on this device" is not there."""

    code = "assets_missing"


class FolderTaken(OptionError):
    """The folder to write into holds files that are not the page's."""

    code = "folder_taken"


@dataclass(eq=False)
class Refusal(Exception):
    """An error body and its status."""

    status: int
    code: str
    """Stable name; remove.bg's own where it has one."""
    title: str
    detail: str = ""
    """What to do about it."""
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """``{"errors": [{"title", "code", "detail"}]}``."""
        entry = {"title": self.title, "code": self.code}
        return {"errors": [entry | ({"detail": self.detail} if self.detail else {})]}


def busy(detail: str, *, retry_after_s: float = 2.0) -> Refusal:
    """503 that says when to come back."""
    headers = {"Retry-After": str(max(1, round(retry_after_s)))}
    return Refusal(503, "service_unavailable", "The service is busy or not available", detail, headers)


_NAMED: dict[type[BgError], tuple[int, str, str]] = {
    NoPersonFound: (400, "unknown_foreground", "Could not identify foreground in image"),
    EmptyPhoto: (400, "missing_source", "The image is empty"),
    UnknownFormat: (415, "invalid_file_type", "Invalid file type"),
    MissingCodec: (415, "invalid_file_type", "Invalid file type"),
    BrokenPhoto: (400, "damaged_file", "The image is damaged"),
    PhotoTooLarge: (413, "file_too_large", "File too large"),
    TooManyPixels: (413, "resolution_too_high", "Image resolution too high"),
    SideTooLong: (413, "resolution_too_high", "Image resolution too high"),
    DecodeTooSlow: (413, "resolution_too_high", "Image takes too long to decode"),
    SourceError: (400, "failed_image_download", "Failed to download image"),
    OptionError: (400, "invalid_parameter", "Invalid parameter"),
}


def refusal_of(error: BgError, *, about: str = "") -> Refusal:
    """The refusal that says what ``error`` says. What is wrong behind this server stays there: it goes to the log.

    Args:
        error: from the client or from ``bgimage``.
        about: the parameter that is at fault, where that is known.
    """
    if isinstance(error, TransportError):
        return busy("No cut-out can be made at the moment; try again")
    for kind in type(error).__mro__:
        if kind in _NAMED:
            status, code, title = _NAMED[kind]
            return Refusal(status, code, title, f"{about}: {error}" if about else str(error))
    return Refusal(
        500, "internal_error", "Internal error", "The server's log has more, under the request's id"
    )
