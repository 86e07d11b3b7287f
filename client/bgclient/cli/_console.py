"""What the command line says on stderr, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Any

import typer

from bgclient.errors import AccessDenied, BgError, ModelMissing, NoServer, OptionError, ServerUnavailable


class Status(IntEnum):
    """Exit statuses; ``bgclient.cli`` documents them."""

    WELL = 0
    FAILED = 1
    USAGE = 2
    NO_SERVER = 3
    NOT_INSTALLED = 4
    STOPPED = 130


class CommandError(Exception):
    """Ends the command with a sentence on stderr."""

    def __init__(self, status: Status, sentence: str = "") -> None:
        super().__init__(sentence)
        self.status = status


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Around the imports of a part that an ``extra`` installs; without it, the command ends with status 4."""
    try:
        yield
    except ImportError as error:
        raise CommandError(
            Status.NOT_INSTALLED, f"{what} is not installed ({error}); pip install 'bgclient[{extra}]'"
        ) from error


# click's base class of wrong usage; newer typer carries its own click.
_USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def say(sentence: str) -> None:
    """One line on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def status_of(error: BgError) -> Status:
    """How a command ends that this error stops."""
    if isinstance(error, OptionError):
        return Status.USAGE
    # What bgserver and the web app say; their classes are not imported for the comparison.
    if isinstance(error, NoServer | ServerUnavailable | ModelMissing | AccessDenied) or _is_of(
        error, "server_error", "cannot_listen"
    ):
        return Status.NO_SERVER
    return Status.FAILED


def _is_of(error: BgError, *codes: str) -> bool:
    return any(getattr(kind, "code", None) in codes for kind in type(error).__mro__)


def run_app(command: Callable[..., Any]) -> int:
    """Run a typer app; the exit status."""
    status = _run_app(command)
    try:
        sys.stdout.flush()
    except OSError:  # it is full; Python would try again at its end, and exit with 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _run_app(command: Callable[..., Any]) -> int:
    try:
        code = command(standalone_mode=False)
        return int(code or 0)
    except CommandError as end:
        if str(end):
            say(f"bgclient: {end}")
        return int(end.status)
    except BgError as error:
        say(f"bgclient: {error.message()}")
        return int(status_of(error))
    except _USAGE as error:
        error.show()
        return int(Status.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        say("bgclient: stopped")
        return int(Status.STOPPED)
    except BrokenPipeError:  # the reader of stdout went away, as ``head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Status.FAILED)
    except OSError as error:
        say(f"bgclient: {error.filename or 'input or output'}: {error.strerror or error}")
        return int(Status.FAILED)
    except Exception as error:
        if os.environ.get("BGCLIENT_DEBUG"):
            traceback.print_exc()
        say(
            f"bgclient: this is a fault of bgclient: {type(error).__name__}: {error}; "
            "set BGCLIENT_DEBUG=1 to see where, and report it"
        )
        return int(Status.FAILED)


class Stop:
    """The first Ctrl-C (or SIGTERM) asks for an orderly end, the second one for an immediate one."""

    def __init__(self, sentence: str) -> None:
        self.asked = self.insisted = False
        self._sentence = sentence
        self._before: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.insisted = True
            raise KeyboardInterrupt
        self.asked = True
        say(f"\n{self._sentence}")

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
