"""Everything that can go wrong in a call: what ``bgimage.errors`` says of photos and options, and the way to
the server.

BgError                       base; .code, .retryable
├── PhotoError ...            the photo, see ``bgimage.errors``
│   └── SourceError           the photo could not be read from where it is
│       ├── UrlRefused        a URL where none is allowed, or one that leads inside
│       └── DownloadFailed    the other side gave no photo, too much of it, or too late
├── OptionError               an option, see ``bgimage.errors``
├── NoPersonFound
├── Doubtful                  the cut-out is expected to be worse than ``at_least``
├── InternalError             a fault of this software with one photo; no other photo is affected
├── FolderNotAllowed          a path leads outside of the folders that may be used
├── TargetError               a cut-out could not be written where it should go
└── TransportError            the way to the server
    ├── NoServer              no address given, and nothing here can run the network
    ├── ServerUnavailable     no working server at the address                         (retryable)
    ├── ServerBusy            the server's queue or memory is full                     (retryable)
    ├── DeadlineExceeded      the whole call took longer than ``timeout_s``
    ├── CallCancelled         cancelled from this side
    ├── AccessDenied          the server wants another token or certificate
    ├── ModelMissing          a Triton, but without our models
    ├── NetworkChanged        the server was given another network in between           (retryable)
    └── ServerFault           the server broke on this request, or answers nonsense
"""

from __future__ import annotations

import errno

from bgimage.errors import (
    BatchTooLarge,
    BgError,
    BrokenPhoto,
    DecodeTooSlow,
    Doubtful,
    EmptyPhoto,
    InternalError,
    MissingCodec,
    NoPersonFound,
    OptionError,
    PhotoError,
    PhotoTooLarge,
    SideTooLong,
    TooManyPixels,
    UnknownFormat,
    from_message,
)

__all__ = [
    "AccessDenied",
    "BatchTooLarge",
    "BgError",
    "BrokenPhoto",
    "CallCancelled",
    "DeadlineExceeded",
    "DecodeTooSlow",
    "Doubtful",
    "DownloadFailed",
    "EmptyPhoto",
    "FolderNotAllowed",
    "InternalError",
    "MissingCodec",
    "ModelMissing",
    "NetworkChanged",
    "NoPersonFound",
    "NoServer",
    "OptionError",
    "PhotoError",
    "PhotoTooLarge",
    "ServerBusy",
    "ServerFault",
    "ServerUnavailable",
    "SideTooLong",
    "SourceError",
    "TargetError",
    "TooManyPixels",
    "TransportError",
    "UnknownFormat",
    "UrlRefused",
    "from_message",
]


class TargetError(BgError):
    """A cut-out could not be written where it should go."""

    code = "cannot_write"
    hopeless = False
    """True where no other file can be written there either: a full disk, a read-only file system."""

    @classmethod
    def of(cls, target: object, error: OSError) -> TargetError:
        """What the operating system said, about ``target`` by its own name."""
        made = cls(f"{target}: {error.strerror or error}")
        made.hopeless = error.errno in (errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))
        return made


class FolderNotAllowed(BgError):
    """A path leads outside of the folders that may be read and written."""

    code = "folder_not_allowed"


class SourceError(PhotoError):
    """The photo could not be read from where it is: no such file, a folder, no permission."""

    code = "unreadable_source"


class UrlRefused(SourceError):
    """A URL where none is allowed, or one that leads to an address that is not public."""

    code = "url_refused"


class DownloadFailed(SourceError):
    """The other side gave no photo, too many bytes, or took too long."""

    code = "download_failed"


class TransportError(BgError):
    """The way to the server."""

    retry_after_s: float = 0.0
    """Seconds to wait before another try, where the server said so."""
    code = "transport"


class NoServer(TransportError):
    """No address is given, and nothing on this machine can run the network."""

    code = "no_server"


class ServerUnavailable(TransportError):
    """No server answers at the address, or the server is not in working order."""

    code = "server_unavailable"
    retryable = True


class ServerBusy(TransportError):
    """The server answers, its queue or its shared memory is full."""

    code = "server_busy"
    retryable = True


class DeadlineExceeded(TransportError):
    """The whole call, retries included, took longer than ``timeout_s``."""

    code = "deadline_exceeded"


class CallCancelled(TransportError):
    """The call was cancelled from this side: the client was closed, or a run of many was stopped."""

    code = "cancelled"


class AccessDenied(TransportError):
    """The server wants another token, key or certificate."""

    code = "access_denied"


class ModelMissing(TransportError):
    """A Triton answers, but it does not serve our models."""

    code = "model_missing"


class NetworkChanged(TransportError):
    """The answer does not fit the contract that was read before; it is read again."""

    code = "network_changed"
    retryable = True


class ServerFault(TransportError):
    """The server broke on this request, or its answer is not what the contract says."""

    code = "server_fault"
