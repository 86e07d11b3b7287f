"""The chaos suite must itself be able to find what it looks for."""

import asyncio
import dataclasses
import hashlib

import cv2
import numpy as np
import pytest

from bgbench.chaos import photos
from bgbench.chaos import run as chaos
from bgbench.chaos.run import Expected, Proxy, RequestResult, growth, jobs, verdicts
from bgbench.report.chaos import write
from bgbench.results import Case, Result, Series
from bgimage.codec import decode
from bgimage.errors import PhotoError


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture
def cutout():
    """A square of colour, half transparent at its border, on nothing. uint8 (8, 8, 4)."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:6, 2:6] = (10, 200, 90, 128)
    pixels[3:5, 3:5, 3] = 255
    return pixels


@pytest.fixture
def expected(cutout):
    return Expected(hashlib.sha256(png(cutout)).hexdigest(), cutout)


def test_the_same_bytes_are_the_same(expected, cutout):
    assert expected.verdict(png(cutout)) == "same"


def test_a_rounding_of_the_network_is_close(expected, cutout):
    cutout = cutout.copy()
    cutout[3, 3, :3] += 1
    assert expected.verdict(png(cutout)) == "close"


def test_the_colour_of_what_is_transparent_does_not_matter(expected, cutout):
    cutout = cutout.copy()
    cutout[0, 0, :3] = 255
    assert expected.verdict(png(cutout)) == "close"


def test_another_matte_another_colour_and_another_size_are_wrong(expected, cutout):
    for change in ((2, 2, 3), (3, 3, 0)):
        other = cutout.copy()
        other[change] += 10
        assert expected.verdict(png(other)) == "wrong"
    assert expected.verdict(png(cutout[:7])) == "wrong"


def test_bad_photos_are_refused_for_the_reason_that_is_written_down():
    bad = [job for job in jobs() if job.refusal is not None]
    assert {job.refusal for job in bad} >= {"empty_photo", "unknown_format", "broken_photo"}
    for job in bad:
        with pytest.raises(PhotoError) as refused:
            decode(job.data)
        assert refused.value.code == job.refusal


def test_good_photos_come_in_many_sizes_formats_and_ways():
    good = [job for job in jobs() if job.refusal is None]
    sizes = {decode(job.data).size_hw for job in good}
    assert sizes == set(photos.SIZES_HW.values())
    assert {decode(job.data).format for job in good} == {"jpeg", "png", "webp"}
    assert {job.where for job in good} == {"server", "client"}


def test_growth_compares_the_last_third_with_the_first():
    assert growth([100.0] * 9) == 0
    assert growth([100, 101, 100, 103, 103, 104, 110, 110, 111]) == pytest.approx(0.1)
    assert growth([1.0, 9.0]) == 0


@pytest.fixture
def bench():
    """A bench without a server, whose clock stands at 100 s."""
    made = object.__new__(chaos.ChaosRun)
    made.outcomes, made.probes = [], []
    made.now_s = lambda: 100.0
    made.watched = type("Watched", (), {"server": type("Server", (), {"restarts": 1, "state": "ready"})})
    return made


def recovery(bench, fault, start=50.0, restarts=0):
    return bench._recovery_s(start, 10.0, fault, restarts)


KILL, CUT = chaos.FAULTS[0], chaos.FAULTS[1]


def test_recovery_ends_with_the_first_probe_that_began_after_the_last_bad_one(bench):
    bench.probes = [
        (40, 41, True),
        (49, 51, False),
        (52, 55, False),
        (53, 56, True),
        (60, 63, True),
        (70, 71, True),
    ]
    assert recovery(bench, KILL) == 13.0


def test_a_fault_that_no_probe_noticed_took_no_time(bench):
    bench.probes = [(40, 41, True), (52, 53, True)]
    assert recovery(bench, CUT) == 0.0


def test_a_kill_is_not_over_before_the_restart(bench):
    bench.probes = [(40, 41, True), (52, 53, True)]
    assert recovery(bench, KILL, restarts=1) is None


def test_a_server_that_is_still_down_has_not_recovered(bench):
    bench.probes = [(60, 61, True), (62, 70, False)]
    assert recovery(bench, KILL) is None


def test_requests_that_were_under_way_count_for_the_fault(bench):
    bench.outcomes = [
        RequestResult(45.0, 10_000.0, "cut-out", 2),
        RequestResult(52.0, 100.0, "refused", 1),
        RequestResult(10.0, 100.0, "lost", 1),
    ]
    assert [o.kind for o in bench.between(50.0, 60.0)] == ["cut-out", "refused"]


def result(outcomes, *, notes=()):
    ms, s, mb = (
        lambda *values, unit=unit: Series(unit=unit, values=list(values)) for unit in ("ms", "s", "MB")
    )
    latencies = {"latency": ms(10.0, 12.0), "sent at": s(1.0, 21.0)}
    memory = {name: mb(*[400.0] * 6) for name in ("server memory", "client memory", "shared memory")}
    fault = {
        "fault": "a kill",
        "at_s": 20.0,
        "restarts": 1,
        "outcomes": outcomes,
        "tried again": 3,
        "said": [],
    }
    cases = [
        Case(
            scenario="quiet",
            setting={"photos": 9, "same bytes the second time": 9},
            tool="closed loop",
            series={},
        ),
        Case(
            scenario="soak",
            setting={"seconds": 10, "users": 4, "outcomes": {"cut-out": 50}},
            tool="closed loop",
            series={**memory, **latencies, "time": s(0.0, 2.0, 4.0, 6.0, 8.0, 10.0)},
            notes=list(notes),
        ),
        Case(scenario="fault", setting=fault, tool="closed loop", series={"recovery": s(4.2), **latencies}),
        Case(
            scenario="stop",
            setting={"outcomes": {}, "left behind": []},
            tool="timer",
            series={"stop": s(3.5)},
        ),
    ]
    environment = {
        "cpu": {"model": "A processor", "cores": 2},
        "load_1min_before": 0.1,
        "commit": "abc",
        "network": {"sha256": "0" * 64},
        "timeline": {
            "memory": [[0.0, 400.0, 200.0, 20.0], [10.0, 400.0, 200.0, 20.0]],
            "probes": [[20.0, 21.0, 0]],
        },
    }
    return Result(set="chaos", started="2026-01-01T00:00:00Z", environment=environment, cases=cases)


def test_errors_that_say_come_back_are_answers():
    assert verdicts(result({"cut-out": 9, "close": 1, "refused": 2, "error:server_unavailable": 1})) == []


@pytest.mark.parametrize("kind", ["lost", "wrong", "crash:KeyError", "error:server_fault"])
def test_anything_else_fails_the_run(kind):
    assert verdicts(result({"cut-out": 9, kind: 1})) == [f"a kill: 1 {kind}"]


def test_memory_that_grows_fails_the_run():
    assert verdicts(result({}, notes=["server memory grew by 9.0%"])) == ["soak: server memory grew by 9.0%"]


def test_the_report_names_each_fault_what_was_seen_and_what_was_lost(tmp_path):
    result({"cut-out": 9, "lost": 1}).write(tmp_path / "results" / "chaos" / "a-120s.json")
    text = write(tmp_path / "results", tmp_path / "CHAOS.md").read_text()
    assert "| a kill | 1 | 9 cut-outs of the same bytes, 1 **lost** | 3 | 4.2 s, 4.2 s | 1 | 1 | 0 |" in text
    assert "**Failed:** a kill: 1 lost." in text
    assert all(
        (tmp_path / "plots" / f"chaos-a-120s-{name}.png").stat().st_size > 5000
        for name in ("memory", "latency")
    )


def test_a_fault_that_came_again_has_one_row_with_its_longest_recovery(tmp_path):
    twice = result({"cut-out": 9})
    fault = next(twice.of("fault"))
    longer = {**fault.series, "recovery": Series(unit="s", values=[6.4])}
    twice.cases.append(dataclasses.replace(fault, series=longer))
    twice.write(tmp_path / "results" / "chaos" / "a-120s.json")
    text = write(tmp_path / "results", tmp_path / "CHAOS.md").read_text()
    assert "| a kill | 2 | 18 cut-outs of the same bytes | 6 | 5.3 s, 6.4 s | 2 | 0 | 0 |" in text


async def test_the_proxy_relays_and_can_reset_every_connection():
    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with proxy.listening() as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    server.close()


@pytest.mark.server
@pytest.mark.slow
def test_nothing_is_lost_and_nothing_wrong_when_a_model_is_killed_and_connections_are_cut(monkeypatch):
    monkeypatch.setattr(chaos, "FAULTS", chaos.FAULTS[:2])  # .ci/run goes through all short ones
    monkeypatch.setattr(chaos, "RESTART_GAP_S", 2.0)
    monkeypatch.setattr(chaos, "GAP_S", 2.0)
    told = []
    outcome = asyncio.run(chaos.run(10.0, seed=1, tell=told.append))
    assert verdicts(outcome) == [], told
    assert [case.setting["restarts"] for case in outcome.of("fault")] == [1, 0]
