"""What ends a model's process that hangs: a stuck process becomes a dead one, which is noticed and replaced."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager

STUCK_S = 120
"""Seconds; what takes longer is taken to hang."""

COMPUTED_S = 30
"""Seconds of processor time; half as much again as ``codec.Limits.max_decode_s``. The largest photos take a third."""


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


@contextmanager
def ends_when_computing_on() -> Iterator[None]:
    """Around a decoder's work; after ``COMPUTED_S`` of the process SIGPROF ends it, its stack in the log.

    Processor time, not the clock: a photo does not cost more on a machine that does other things too. The kernel's
    signal ends foreign code that nothing else can stop. One piece of work at a time.
    """
    faulthandler.register(signal.SIGPROF, chain=True)
    signal.setitimer(signal.ITIMER_PROF, COMPUTED_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
