"""Calls as generators that decide but do no I/O, and the two loops that run them.

A flow yields what it needs from the outside world (``Ask`` a server, ``Work`` on the processor, ``Pause``)
and gets the result sent in, or the error thrown in. Retries, balancing, deadlines and shared memory are
written once, as flows; ``Client`` and ``AsyncClient`` differ only in how they perform a step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from bgclient._endpoints import Endpoint
from bgclient._wire import Query, Request

T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """Send a request or a query to an endpoint; gives its ``Answer`` or the query's fields."""

    endpoint: Endpoint
    message: Request | Query
    timeout_s: float


@dataclass(frozen=True)
class Work:
    """Run a function that keeps a processor or a disk busy; gives its result."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Step = Ask | Work | Pause
Flow = Generator[Step, Any, T]


def drive(flow: Flow[T], perform: Callable[[Step], Any]) -> T:
    """Run ``flow`` to its end in this thread."""
    try:
        step = next(flow)
        while True:
            try:
                result = perform(step)
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def adrive(flow: Flow[T], perform: Callable[[Step], Awaitable[Any]]) -> T:
    """Run ``flow`` to its end in this task."""
    try:
        step = next(flow)
        while True:
            try:
                result = await perform(step)
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
