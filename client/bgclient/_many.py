"""Many things at a time, in threads: results in order, a bounded number in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Source(Iterator[T]):
    """An iterator that ends where the given one raises; ``check`` then raises the error."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._error: Exception | None = None

    def __next__(self) -> T:
        if self._error is None:
            try:
                return next(self._items)
            except StopIteration:
                raise
            except Exception as error:  # what was taken before is not lost
                self._error = error
        raise StopIteration

    def check(self) -> None:
        """Raise what ended it early."""
        if self._error is not None:
            raise self._error


def ordered(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    in_flight: int,
    on_done: Callable[[R], object],
    on_stop: Callable[[], object],
) -> Iterator[R]:
    """``function`` of every item, in the order of ``items``, which are taken no faster than results are fetched. An
    error of ``items`` is raised after the results of those that came before.

    Each call sees the context variables of this thread (a trace, a request's id), as a task of asyncio does.
    ``on_done`` is called in this thread with each result as it gets ready; ``on_stop`` when the loop ends, in whatever
    way, before the threads are waited for.
    """
    workers = ThreadPoolExecutor(in_flight, thread_name_prefix="bgclient")
    queue: deque[Future[R]] = deque()
    unseen: set[Future[R]] = set()
    source = Source(items)
    try:
        while True:
            for item in source:
                queue.append(workers.submit(copy_context().run, function, item))
                unseen.add(queue[-1])
                if len(queue) == in_flight:
                    break
            if not queue:
                source.check()
                return
            while queue[0] in unseen:
                ready, unseen = wait(unseen, return_when=FIRST_COMPLETED)
                for future in ready:
                    on_done(future.result())
            yield queue.popleft().result()
    finally:
        on_stop()
        workers.shutdown(wait=True, cancel_futures=True)
