"""A cancellation that another thread can order and a call in flight obeys."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bgclient.errors import CallCancelled

CLOSED = "the call was cancelled from this side: the client was closed or the run was stopped"


class Cancel:
    """Ordered once, for every call that watches it."""

    def __init__(self) -> None:
        self._ordered = threading.Event()
        self._lock = threading.Lock()
        self._orders: set[Callable[[], object]] = set()

    def order(self) -> None:
        """Cancel every call that watches, and each one that begins to watch later."""
        with self._lock:
            self._ordered.set()
            orders = list(self._orders)
        for act in orders:
            act()

    @property
    def ordered(self) -> bool:
        """True once ``order`` was called."""
        return self._ordered.is_set()

    @contextmanager
    def watched(self, act: Callable[[], object]) -> Iterator[None]:
        """Call ``act`` if the order comes within the block, or has come already."""
        with self._lock:
            late = self._ordered.is_set()
            if not late:
                self._orders.add(act)
        if late:
            act()
        try:
            yield
        finally:
            with self._lock:
                self._orders.discard(act)

    def sleep(self, seconds: float) -> None:
        """Wait; ``CallCancelled`` as soon as the order comes."""
        if self._ordered.wait(seconds):
            self.check()

    def check(self) -> None:
        """``CallCancelled`` once the order has come."""
        if self.ordered:
            raise CallCancelled(CLOSED)
