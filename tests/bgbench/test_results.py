import json

import pytest

from bgbench.errors import BrokenResult
from bgbench.measure import pixels
from bgbench.results import Case, Result, Series


def case(**changes):
    fields = {
        "scenario": "one user",
        "setting": {"megapixels": 12, "where": "client"},
        "tool": "closed loop",
        "series": {"latency": Series(unit="ms", values=[101.25, 99.5, 100.0], warm_up=[400.0])},
        "command": ["perf_analyzer", "-m", "cutout"],
        "others": 0.02,
        "notes": [],
    }
    return Case(**{**fields, **changes})


def result(*cases):
    return Result(
        set="cpu", started="2026-01-01T00:00:00Z", environment={"device": "x"}, cases=list(cases), seconds=9.5
    )


def test_what_is_written_is_read_again(tmp_path):
    written = result(case(), case(scenario="floor", series={}))
    written.write(tmp_path / "r.json")
    assert Result.read(tmp_path / "r.json") == written


def test_the_raw_values_of_a_series_lie_on_one_line_and_warm_up_apart(tmp_path):
    result(case()).write(tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    assert '"values": [101.25, 99.5, 100.0]' in text
    assert '"warm_up": [400.0]' in text
    assert json.loads(text)["cases"][0]["series"]["latency"]["unit"] == "ms"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 99}', "schema 99"),
        ("not JSON", "not a result of bgbench"),
        ('{"schema": 1, "set": "cpu"}', "not a result of bgbench"),
        ("[1]", "not a result of bgbench"),
        (
            '{"schema": 1, "set": "cpu", "started": "", "environment": {}, "cases": [{"scenario": "x", "setting": {}, '
            '"tool": "", "series": {"a": {"unit": "furlongs", "values": []}}}]}',
            "furlongs",
        ),
    ],
)
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path, text, said):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(BrokenResult, match=said) as raised:
        Result.read(path)
    assert "broken.json" in str(raised.value)


def test_a_missing_file_is_a_broken_result(tmp_path):
    with pytest.raises(BrokenResult, match="cannot be read"):
        Result.read(tmp_path / "none.json")


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        Series(unit="ms", values=[float("nan")])


def test_a_steady_case_has_no_doubts():
    assert case().doubts == []


def test_busy_neighbours_a_drift_and_the_tool_s_own_word_are_doubts():
    slowing = Series(unit="ms", values=[10.0] * 5 + [12.0] * 5 + [15.0] * 5)
    doubtful = case(others=0.4, series={"latency": slowing}, notes=["unstable: no three windows", "a remark"])
    assert doubtful.doubts == [
        "unstable: no three windows",
        "other programs used 40% of the cores",
        "latency moved by 42% during the measurement",
    ]


def test_a_part_of_a_few_milliseconds_may_move_but_not_a_whole_case_of_them():
    jumping = Series(unit="ms", values=[0.1, 0.1, 2.0, 2.0, 0.1, 0.1])
    assert case(series={"latency": Series(unit="ms", values=[50.0] * 6), "load": jumping}).doubts == []
    assert case(series={"latency": jumping}).doubts != []


def test_latencies_under_a_growing_queue_are_no_drift_of_the_machine():
    growing = Series(unit="ms", values=[float(value) for value in range(1, 40)])
    assert case(tool="open loop", series={"latency": growing}).doubts == []


def test_cases_are_found_by_scenario_and_setting():
    both = result(case(), case(setting={"megapixels": 48, "where": "client"}))
    assert [one.setting["megapixels"] for one in both.of("one user", where="client")] == [12, 48]
    assert list(both.of("one user", megapixels=1)) == []


def test_a_series_that_a_case_lacks_is_named():
    with pytest.raises(BrokenResult, match="'throughput', only latency"):
        case().value("throughput")


@pytest.mark.parametrize(
    ("earlier", "now", "said"),
    [
        ({}, {}, None),
        ({"commit": "b"}, {}, "another commit"),
        ({"device": "y"}, {}, "another device"),
        ({"network": {"sha256": "2"}}, {}, "another network"),
        ({"commit": "a+"}, {"commit": "a+"}, "code that no commit holds"),
        ({"commit": None}, {"commit": None}, "code that no commit holds"),
    ],
)
def test_only_cases_of_the_same_clean_commit_may_stand_in_one_table(earlier, now, said):
    same = {"device": "x", "network": {"sha256": "1"}, "commit": "a"}
    one, other = (
        Result(set="rivals", started="", environment={**same, **changed}) for changed in (earlier, now)
    )
    assert other.differs(one) == said


def test_wanted_cases_of_an_earlier_file_are_kept_and_it_is_named(tmp_path):
    environment = {"device": "x", "commit": "a"}
    earlier = Result(set="fresh", started="then", environment=environment)
    earlier.cases = [case(setting={"python": version}) for version in ("3.11", "3.13")]
    earlier.write(tmp_path / "r.json")
    now = Result(set="fresh", started="now", environment={**environment})
    now.keep(tmp_path / "r.json", lambda one: one.setting["python"] != "3.11")
    assert [one.setting["python"] for one in now.cases] == ["3.13"]
    assert now.environment["kept"] == ["then, commit a"]
    now.environment["commit"] = "b"
    with pytest.raises(BrokenResult, match="is of another commit; measure all of it again"):
        now.keep(tmp_path / "r.json", lambda one: True)


def test_what_the_pixel_bench_measures_has_units_that_a_result_takes():
    for unit in pixels.UNITS.values():
        assert Series(unit=unit, values=[1.0]).unit == unit
