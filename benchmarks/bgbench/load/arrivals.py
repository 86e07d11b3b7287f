"""Requests at times that do not wait for answers: an open loop, so that a slow server is not spared.

A closed loop (send, wait, send) sends less when the server stalls and so never sees most of the stall ("coordinated
omission", Gil Tene). Here arrivals are a Poisson process fixed beforehand, and a latency runs from the moment at which
a request was due, not from when it could be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Call = Callable[[bytes], Awaitable[object]]
LATE_MS = 20.0
"""Above this 95th percentile of its own lateness the generator, not the server, is what was measured."""


@dataclass(kw_only=True)
class Run:
    """What happened to each request, in the order of arrival. Times are seconds from the start of the run."""

    due_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    done_s: list[float | None] = field(default_factory=list)
    """None where the request failed or was given up."""
    errors: list[str] = field(default_factory=list)
    saturated: bool = False
    """More requests were waiting than ``max_waiting``: the server cannot keep up with this rate."""

    @property
    def latencies_ms(self) -> list[float]:
        """From due to done, of the answered requests."""
        return [
            1e3 * (done - due) for due, done in zip(self.due_s, self.done_s, strict=True) if done is not None
        ]

    @property
    def lateness_ms(self) -> list[float]:
        """From due to sent: the generator's own fault."""
        return [1e3 * (sent - due) for due, sent in zip(self.due_s, self.sent_s, strict=True)]

    @property
    def throughput(self) -> float:
        """Answers a second, from the start of the run to the last answer."""
        done = [one for one in self.done_s if one is not None]
        return len(done) / max(done) if done else 0.0

    @property
    def notes(self) -> list[str]:
        """What a reader must know."""
        notes = []
        if self.saturated:
            notes.append(
                "saturated: answers fell behind arrivals without end, so latencies grow with the run's length"
            )
        if self.errors:
            notes.append(
                f"{len(self.errors)} of {len(self.due_s)} requests failed, first: {self.errors[0][:200]}"
            )
        late = float(np.percentile(self.lateness_ms, 95)) if self.sent_s else 0.0
        if late > LATE_MS:
            notes.append(
                f"unstable: the generator itself sent {late:.0f} ms late (p95), it lacks processor time"
            )
        return notes


def poisson_arrivals(rate: float, duration_s: float, seed: int = 0) -> list[float]:
    """Seconds at which requests are due: exponential gaps of mean ``1 / rate``, at least one."""
    if rate <= 0 or duration_s <= 0:
        raise ValueError(f"{rate} requests a second for {duration_s} s; both must be above 0")
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, size=max(1, round(2 * rate * duration_s) + 20)))
    return [float(one) for one in times[times < duration_s]] or [0.0]


def at_rate(pattern: Sequence[float], rate: float) -> list[float]:
    """``pattern`` with ``rate`` arrivals a second on average: rates are compared by the same crowding, only denser."""
    scale = len(pattern) / (rate * pattern[-1])
    return [scale * due for due in pattern]


async def open_loop(
    call: Call,
    photos: Sequence[bytes],
    arrivals_s: Sequence[float],
    *,
    max_waiting: int = 64,
    patience_s: float = 20.0,
) -> Run:
    """Send ``photos`` in turn at ``arrivals_s``; no more above ``max_waiting``, and wait ``patience_s`` at the end."""
    run = Run()
    tasks: list[asyncio.Task[None]] = []
    waiting = 0
    clock = asyncio.get_running_loop().time
    started = clock()

    async def one(number: int, photo: bytes) -> None:
        nonlocal waiting
        run.sent_s[number] = clock() - started
        try:
            await call(photo)
            run.done_s[number] = clock() - started
        except Exception as error:  # whatever a failing server makes of it: counted, first message reported
            run.errors.append(f"{type(error).__name__}: {error}")
        finally:
            waiting -= 1

    for number, due in enumerate(arrivals_s):
        await asyncio.sleep(max(0.0, started + due - clock()))
        if waiting >= max_waiting:
            run.saturated = True
            break
        run.due_s.append(due)
        run.sent_s.append(due)
        run.done_s.append(None)
        waiting += 1
        tasks.append(asyncio.create_task(one(number, photos[number % len(photos)])))
    _, given_up = await asyncio.wait(tasks, timeout=patience_s)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    if given_up:
        run.saturated = True
        run.errors += [f"no answer {patience_s:g} s after the last arrival"] * len(given_up)
    return run


async def closed_loop(call: Call, photos: Sequence[bytes], *, users: int, duration_s: float) -> Run:
    """``users`` that each send as soon as they have an answer: the most that the server can do, not what users see."""
    run = Run()
    clock = asyncio.get_running_loop().time
    started = clock()

    async def user(offset: int) -> None:
        turn = offset
        while (due := clock() - started) < duration_s:
            number = len(run.due_s)
            run.due_s.append(due)
            run.sent_s.append(due)
            run.done_s.append(None)
            try:
                await call(photos[turn % len(photos)])
                run.done_s[number] = clock() - started
            except Exception as error:  # as in open_loop
                run.errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.1)  # a server that refuses at once is not to be hammered
            turn += users

    await asyncio.gather(*(user(number) for number in range(users)))
    return run
