"""When to try again, and until when."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from bgclient.errors import DeadlineExceeded, TransportError

FIRST_S, MOST_S = 0.1, 1.0
"""Upper ends of the first pause and of any: each is twice the one before."""
FIRST_CONTACT_S = 10.0
"""So long a server is waited for that has never answered: longer than a restart, shorter than most deadlines."""


class Deadline:
    """The moment a whole call must be over."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < timeout_s < math.inf:
            raise ValueError(f"timeout_s={timeout_s!r}: use a number of seconds above 0")
        self.timeout_s = timeout_s
        self._clock = clock
        self._started = clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the call began."""
        return self._clock() - self._started

    @property
    def left_s(self) -> float:
        """Seconds that remain; at most 0 when it is over."""
        return self.timeout_s - self.elapsed_s

    def left(self) -> float:
        """Seconds that remain, for the next step. ``DeadlineExceeded`` when none do."""
        left_s = self.left_s
        if left_s <= 0:
            raise DeadlineExceeded("no answer in time")
        return left_s


def pause_s(
    error: TransportError,
    tries: int,
    left_s: float,
    *,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float | None:
    """Seconds until the next try; None: there is none.

    Full jitter (M. Brooker, "Exponential Backoff and Jitter", AWS 2015): clients that failed together do not come back
    together. Nor earlier than the server asked for (Retry-After), nor after the deadline.

    Args:
        error: of the last try; only ``retryable`` ones are tried again.
        tries: made so far, from 1.
        left_s: seconds until the deadline.
        uniform: draws a number between two.
    """
    if not error.retryable:
        return None
    pause = max(uniform(0.0, min(MOST_S, FIRST_S * 2.0 ** min(tries - 1, 10))), error.retry_after_s)
    return pause if pause < left_s else None
