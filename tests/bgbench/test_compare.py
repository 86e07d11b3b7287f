from bgbench.report.compare import compare, strangers, table
from bgbench.results import Case, Result, Series


def run(values, unit="ms", **setting):
    case = Case(
        scenario="one user",
        setting={"megapixels": 12, **setting},
        tool="closed loop",
        series={"latency": Series(unit=unit, values=values)},
    )
    return Result(set="cpu", started="", environment={}, cases=[case])


def verdict(before, after, unit="ms"):
    (change,) = compare(run(before, unit), run(after, unit))
    return change.verdict


def test_a_clear_change_is_told_in_the_right_direction():
    assert verdict([100.0] * 9, [50.0] * 9) == "faster"
    assert verdict([50.0] * 9, [100.0] * 9) == "slower"
    assert verdict([50.0] * 9, [100.0] * 9, unit="photos/s") == "faster"


def test_a_small_change_is_no_change_however_steady():
    assert verdict([100.0] * 9, [95.0] * 9) == "same"


def test_a_change_within_overlapping_intervals_is_no_change():
    assert verdict([60.0, 80.0, 100.0, 120.0, 140.0], [50.0, 65.0, 80.0, 95.0, 110.0]) == "same"


def test_a_value_that_was_taken_once_is_never_called_changed():
    assert verdict([100.0], [50.0]) == "same"


def test_two_engines_are_never_compared_with_each_other():
    assert compare(run([1.0], engine="one"), run([2.0], engine="other")) == []


def test_runs_of_different_machines_are_told():
    before, after = run([1.0]), run([2.0])
    assert strangers(before, after) is None
    after.environment["device"] = "another"
    assert strangers(before, after) == "different machines: None before, another after"


def test_cases_that_only_one_run_has_are_left_out():
    assert compare(run([1.0]), run([2.0], where="client")) == []


def test_a_knee_that_moved_does_not_part_two_cases():
    assert len(compare(run([1.0]), run([2.0], knee=True))) == 1


def test_the_table_names_what_moved_and_counts_the_rest():
    text = table(compare(run([100.0] * 9), run([50.0] * 9)))
    assert "faster 2.00 times: one user megapixels 12, latency: 100 -> 50 ms" in text
    assert "0 of 1 series did not change" in text
