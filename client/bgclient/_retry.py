"""When to try again, and until when."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a call is tried; only errors whose class is ``retryable``, only within the call's
    deadline.
    """

    attempts: int = 5
    """Tries in all; 1 means never again."""
    first_s: float = 0.1
    """Upper end of the first pause; doubled for each further one."""
    most_s: float = 2.0
    """Upper end of any pause."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Retry.attempts={self.attempts}: use 1 or more")
        if not 0 <= self.first_s <= self.most_s:
            raise ValueError(
                f"Retry.first_s={self.first_s}, most_s={self.most_s}: use 0 <= first_s <= most_s"
            )

    def pause_s(self, attempt: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds to wait after the ``attempt``-th try (1, 2, ...) failed.

        Full jitter (M. Brooker, "Exponential Backoff and Jitter", AWS 2015): clients that failed together do
        not come back together.
        """
        ceiling: float = min(self.most_s, self.first_s * 2.0 ** (attempt - 1))
        return uniform(0.0, ceiling)


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
