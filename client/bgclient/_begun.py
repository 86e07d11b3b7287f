"""Work in a thread of its own, waited for by one or by many, by each until its own deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from bgclient._cancel import Cancel
from bgclient._retry import Deadline
from bgclient.errors import DeadlineExceeded

T = TypeVar("T")

_WAKE_S = 0.25
"""How often a thread that waits looks whether its call was cancelled."""


def done(result: T) -> Future[T]:
    """Work that is over."""
    work: Future[T] = Future()
    work.set_result(result)
    return work


def begun(function: Callable[[], T], *, daemon: bool) -> Future[T]:
    """``function`` in a thread of its own; callers that wait for it cannot cancel it.

    Args:
        function: the work.
        daemon: let the process end in the middle of it.
    """
    work: Future[T] = Future()
    work.set_running_or_notify_cancel()

    def run(work: Future[T]) -> None:
        try:
            work.set_result(function())
        except BaseException as error:
            work.set_exception(error)
        finally:
            del work  # an error that is kept would keep itself by this frame

    threading.Thread(target=run, args=(work,), daemon=daemon, name="bgclient").start()
    return work


def waited(work: Future[T], deadline: Deadline, cancel: Cancel) -> T:
    """The result of ``work``, or its error. After ``DeadlineExceeded`` or ``CallCancelled`` the work goes on."""
    while True:
        cancel.check()
        try:
            return work.result(min(_WAKE_S, deadline.left_s))
        except TimeoutError:
            if work.done():  # at the last moment, or with a TimeoutError of its own
                return work.result()
        if deadline.left_s <= 0:
            raise DeadlineExceeded(
                f"the engine was not ready within {deadline.timeout_s:g} s; it is still starting: "
                "call again, or give a longer timeout_s"
            )
