import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgbench.measure.budget import Probe, search


def queue(capacity, service_ms=50.0):
    """p95 of a queue whose server manages ``capacity`` photos a second: grows without bound towards it."""

    def probe(rate):
        steady = rate < capacity
        return Probe(
            rate, 3 * service_ms / (1 - rate / capacity) if steady else 1e9, min(rate, capacity), steady
        )

    return probe


@given(st.floats(2, 50), st.floats(200, 2000))
def test_the_answer_is_within_the_budget_and_close_to_the_border(capacity, budget_ms):
    border = capacity * (1 - 150 / budget_ms)
    low, high = 0.05 * capacity, capacity
    found = search(queue(capacity), budget_ms=budget_ms, low=low, high=high, steps=12)
    assert found.best.p95_ms <= budget_ms
    assert found.best.rate == pytest.approx(border, abs=(high - low) / 2**9)


def test_a_budget_that_nothing_meets_has_no_answer_and_costs_one_probe():
    found = search(queue(10), budget_ms=100, low=1, high=10)
    assert found.best is None
    assert len(found.probes) == 1


def test_where_even_the_highest_rate_fits_it_is_the_answer():
    found = search(queue(100), budget_ms=500, low=1, high=10)
    assert found.best.rate == 10


def test_a_probe_that_fell_behind_never_wins():
    def probe(rate):
        return Probe(rate, 10.0, rate, steady=rate < 4)

    assert search(probe, budget_ms=100, low=1, high=9, steps=6).best.rate < 4


def test_rates_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        search(queue(1), budget_ms=1, low=0, high=1)
