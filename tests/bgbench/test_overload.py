"""The overload bench must be able to find a front that gives way."""

import dataclasses

import pytest

from bgbench.load import overload
from bgbench.photos import jpegs
from bgbench.report.chaos import draw_overload, write
from bgbench.results import Case, Result, Series

from .test_chaos import result as chaos_result

FINE = {"200": 20, "429 with Retry-After": 1, "503 with Retry-After": 5}


def case(scenario, throughput, latency_ms, answers=FINE, **setting):
    return Case(
        scenario=scenario,
        setting={**setting, "answers": answers},
        tool="open loop",
        series={
            "throughput": Series(unit="photos/s", values=[throughput]),
            "latency": Series(unit="ms", values=[100.0, latency_ms]),
            "latency of refusals": Series(unit="ms", values=[5.0]),
        },
    )


def result(last=None):
    """A front that keeps 90 % of its peak of 10 photos a second; ``last``: at four times the peak."""
    front = {"concurrency": 2, "uploads": 64, "wait_s": 10.0, "megapixels": 1}
    environment = {**chaos_result({}).environment, "front": front}
    cases = [case("peak", 10.0, 400.0, users=4), case("overload", 5.0, 500.0, load=0.5, offered=5.0)]
    cases.append(last or case("overload", 9.0, 11_000.0, load=4.0, offered=40.0))
    return Result(set="overload", started="2026-01-01T00:00:00Z", environment=environment, cases=cases)


def test_a_front_that_keeps_its_pace_and_turns_the_rest_away_is_fine():
    assert overload.verdicts(result()) == []


@pytest.mark.parametrize(
    ("throughput", "latency_ms", "answers", "said"),
    [
        (7.9, 900.0, FINE, "4 x the peak: 79% of the peak were cut, not 80%"),
        (9.0, 11_201.0, FINE, "4 x the peak: an answer took 11201 ms, above 11200 ms"),
        (9.0, 900.0, {"200": 9, "503": 1}, "4 x the peak: 1 x 503"),
        (9.0, 900.0, {"200": 9, "500": 2}, "4 x the peak: 2 x 500"),
        (9.0, 900.0, {"200": 9, "ReadTimeout": 3}, "4 x the peak: 3 x ReadTimeout"),
    ],
)
def test_a_front_that_gives_way_is_found(throughput, latency_ms, answers, said):
    last = case("overload", throughput, latency_ms, answers, load=4.0, offered=40.0)
    assert overload.verdicts(result(last)) == [said]


def test_less_than_the_peak_is_no_fault_below_it():
    assert not any("0.5" in line for line in overload.verdicts(result()))


def test_the_report_has_the_table_and_the_plot(tmp_path):
    chaos_result({"cut-out": 9}).write(tmp_path / "results" / "chaos" / "a-120s.json")
    result().write(tmp_path / "results" / "overload" / "a.json")
    text = write(tmp_path / "results", tmp_path / "CHAOS.md").read_text()
    assert "| 4 x | 40.0 | 9.0 | 90% |" in text
    assert "The front kept what was asked." in text
    assert (tmp_path / "plots" / "overload-a.png").stat().st_size > 5000


def test_a_level_without_an_answer_can_be_drawn(tmp_path):
    silent = result()
    silent.cases[-1].series["latency"].values.clear()
    draw_overload(silent, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.server
@pytest.mark.slow
def test_every_answer_of_the_real_front_is_a_picture_or_a_word_when_to_come_back(tmp_path, monkeypatch):
    # fewer are let in than users ask at the peak: some are refused, however slow the machine is
    assert overload.USERS > 2
    monkeypatch.setattr(overload, "SETTINGS", dataclasses.replace(overload.SETTINGS, uploads=2))
    told = []
    outcome = overload.run(10.0, cache=tmp_path, tell=told.append)
    assert [c.setting.get("load") for c in outcome.cases] == [None, *overload.LEVELS]
    answers = {kind for c in outcome.cases for kind in c.setting["answers"]}
    assert answers == {"200", "503 with Retry-After"}, told
    assert len(jpegs(overload.MEGAPIXELS, 4, tmp_path)) == 4
