"""What ends a model's process that hangs: a stuck process becomes a dead one, which is noticed and replaced."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

STUCK_S = 120
"""Seconds; what takes longer is taken to hang."""


@contextmanager
def ends_when_stuck() -> Iterator[None]:
    """Around a piece of work; after ``STUCK_S`` the process ends with status 1 and its stack in the log.

    It does so from a thread of its own, also while foreign code holds Python's lock. One piece of work at a time.
    """
    faulthandler.dump_traceback_later(STUCK_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
