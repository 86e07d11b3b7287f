"""Work of seconds that is begun once and waited for by many, by each until its own deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from bgclient._retry import Deadline
from bgclient.errors import DeadlineExceeded

T = TypeVar("T")


def done(result: T) -> Future[T]:
    """Work that is over."""
    work: Future[T] = Future()
    work.set_result(result)
    return work


def begun(function: Callable[[], T], *, daemon: bool) -> Future[T]:
    """``function`` in a thread of its own; nobody who waits for it can cancel it.

    Args:
        function: the work.
        daemon: let the process end in the middle of it.
    """
    work: Future[T] = Future()
    work.set_running_or_notify_cancel()

    def run() -> None:
        try:
            work.set_result(function())
        except BaseException as error:
            work.set_exception(error)

    threading.Thread(target=run, daemon=daemon, name="bgclient-start").start()
    return work


def waited(work: Future[T], deadline: Deadline) -> T:
    """What comes of it; its error. ``DeadlineExceeded`` leaves it to go on."""
    try:
        return work.result(deadline.left())
    except TimeoutError:
        return _late(work, deadline)


async def awaited(work: Future[T], deadline: Deadline) -> T:
    """The same for a loop, whose other tasks go on meanwhile."""
    try:
        async with asyncio.timeout(deadline.left()):
            return await asyncio.wrap_future(work)
    except TimeoutError:
        return _late(work, deadline)


def _late(work: Future[T], deadline: Deadline) -> T:
    if work.done():  # at the last moment, or with a TimeoutError of its own
        return work.result()
    raise DeadlineExceeded(
        f"what runs the network in this process was not ready within {deadline.timeout_s:g} s, and goes on starting; "
        "call again, or give a longer timeout_s"
    )
