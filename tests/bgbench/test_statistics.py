import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgbench.statistics import drift, knee, median_interval, summary

SERIES = st.lists(st.floats(0.1, 1e4), min_size=1, max_size=60)


@given(SERIES)
def test_percentiles_are_in_order_and_within_the_values(values):
    found = summary(values)
    told = [value for value in (found.p50, found.p95, found.p99) if not math.isnan(value)]
    assert [min(values) - 1e-9, *told, max(values) + 1e-9] == sorted(
        [min(values) - 1e-9, *told, max(values) + 1e-9]
    )
    assert found.count == len(values)
    assert math.isclose(found.mean, sum(values) / len(values))


@given(SERIES)
def test_the_interval_of_the_median_holds_the_median_of_most_resamples(values):
    low, high = median_interval(values)
    assert min(values) <= low <= high <= max(values)
    assert (low, high) == median_interval(values)  # the same values give the same report


def test_a_percentile_needs_values_beyond_it():
    assert math.isnan(summary([1.0] * 19).p95)
    assert summary([1.0] * 20).p95 == 1.0
    assert math.isnan(summary([1.0] * 99).p99)
    assert summary([1.0] * 100).p99 == 1.0


def test_the_interval_of_a_few_values_is_their_range():
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_a_summary_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing was measured"):
        summary([])


def test_a_series_that_slows_down_has_drifted_and_a_noisy_one_has_not():
    assert drift([10.0] * 6 + [11.0] * 6 + [13.0] * 6) == pytest.approx(3 / 11)
    assert drift([9.0, 11.0] * 9) == pytest.approx(0.0)
    assert drift([1.0, 100.0]) == 0.0  # too few values to say
    assert drift([0.0] * 9) == 0.0


def test_the_knee_is_where_throughput_for_its_latency_is_greatest():
    throughputs, latencies = [10.0, 20.0, 30.0, 33.0, 34.0], [20.0, 21.0, 24.0, 60.0, 300.0]
    assert knee(throughputs, latencies) == 2
    with pytest.raises(ValueError, match="one of each a point"):
        knee([1.0], [])
