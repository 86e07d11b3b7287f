import asyncio
import selectors

import numpy as np
import pytest

from bgbench.load import arrivals as load


class _Jumping(selectors.SelectSelector):
    """Does not wait: where nothing is ready, its clock jumps to the next deadline."""

    now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds cost none, so that the tests measure the arithmetic and not the machine."""

    def __init__(self):
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now


def run(coroutine):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


class OneAtATime:
    """A server with one worker: ``service_s`` a photo, and one long stall before photo number ``stall_at``."""

    def __init__(self, service_s, stall_at=None, stall_s=0.0):
        self.service_s, self.stall_at, self.stall_s = service_s, stall_at, stall_s
        self.count, self.lock = 0, asyncio.Lock()

    async def __call__(self, photo):
        async with self.lock:
            self.count += 1
            await asyncio.sleep(self.service_s + (self.stall_s if self.count == self.stall_at else 0))


def test_arrivals_are_a_poisson_process_of_the_asked_rate():
    arrivals = np.array(load.poisson_arrivals(50, 200, seed=3))
    gaps = np.diff(arrivals)
    assert len(arrivals) == pytest.approx(10_000, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # exponential gaps: as wide as they are long
    assert arrivals.max() < 200
    assert (arrivals == np.array(load.poisson_arrivals(50, 200, seed=3))).all()


def test_a_pattern_keeps_its_crowding_at_every_rate():
    pattern = load.poisson_arrivals(1.0, 50)
    slow, fast = (np.array(load.at_rate(pattern, rate)) for rate in (2.0, 8.0))
    assert len(slow) / slow[-1] == pytest.approx(2.0)
    assert slow == pytest.approx(4 * fast)


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        load.poisson_arrivals(0, 10)


def test_a_stall_is_charged_to_every_photo_that_was_due_meanwhile():
    arrivals = [0.1 * number for number in range(100)]

    async def both():
        server = OneAtATime(0.01, stall_at=10, stall_s=2.0)
        opened = await load.open_loop(server, [b""], arrivals)
        closed = await load.closed_loop(
            OneAtATime(0.01, stall_at=10, stall_s=2.0), [b""], users=1, duration_s=10
        )
        return opened, closed

    opened, closed = run(both())
    assert len(opened.latencies_ms) == 100
    waited = [value for value in opened.latencies_ms if value > 500]
    assert (
        len(waited) >= 15
    )  # 2 s of stall at 10 photos a second, less the backlog that is quickly worked off
    assert max(opened.latencies_ms) == pytest.approx(2010, abs=20)
    # the closed loop, which sends nothing during the stall, sees it once: that is the coordinated omission
    assert sum(value > 500 for value in closed.latencies_ms) == 1


def test_an_idle_server_answers_in_its_service_time():
    found = run(load.open_loop(OneAtATime(0.02), [b"a", b"b"], [0.5, 1.0, 1.5]))
    assert found.latencies_ms == pytest.approx([20, 20, 20])
    assert found.lateness_ms == pytest.approx([0, 0, 0])
    assert found.notes == []
    assert found.throughput == pytest.approx(3 / 1.52)


def test_a_server_that_cannot_keep_up_is_called_saturated_and_the_run_ends():
    arrivals = [0.01 * number for number in range(1000)]
    found = run(load.open_loop(OneAtATime(1.0), [b""], arrivals, max_waiting=10, patience_s=3))
    assert found.saturated
    assert len(found.due_s) == 10
    assert len(found.latencies_ms) == 3  # one a second, within the patience
    assert "saturated" in found.notes[0]
    assert "7 of 10 requests failed" in found.notes[1]


def test_failures_are_counted_and_the_first_is_quoted():
    async def refuse(photo):
        raise ConnectionError("no server at localhost")

    found = run(load.open_loop(refuse, [b""], [0.0, 0.1]))
    assert found.latencies_ms == []
    assert found.throughput == 0
    assert found.notes == ["2 of 2 requests failed, first: ConnectionError: no server at localhost"]


def test_photos_are_sent_in_turn():
    seen = []

    async def remember(photo):
        seen.append(photo)

    run(load.open_loop(remember, [b"a", b"b", b"c"], [0.0, 0.1, 0.2, 0.3]))
    assert seen == [b"a", b"b", b"c", b"a"]


def test_closed_loop_users_wait_for_their_own_answers():
    found = run(load.closed_loop(OneAtATime(0.1), [b""], users=2, duration_s=10))
    assert found.throughput == pytest.approx(10, rel=0.05)
    assert np.median(found.latencies_ms) == pytest.approx(200, rel=0.05)
