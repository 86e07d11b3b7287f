"""Against the real server: short, and judged by what came out, never by how long it took."""

import json
import shutil
from itertools import islice

import numpy as np
import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]

from bgbench import command, serving  # noqa: E402
from bgbench.command import CACHE  # noqa: E402
from bgbench.errors import ToolFailed, ToolMissing  # noqa: E402
from bgbench.measure import scenarios  # noqa: E402
from bgbench.measure.perf import PerfAnalyzer, write_photos  # noqa: E402


@pytest.fixture(scope="module")
def perf():
    """perf_analyzer; fetched from the registry where it is not here yet."""
    try:
        return PerfAnalyzer.find(CACHE)
    except ToolMissing:
        try:
            return PerfAnalyzer.install(CACHE)
        except ToolFailed as error:
            pytest.skip(f"no perf_analyzer: {error}")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with scenarios.Bench(tmp_path_factory.mktemp("cache"), variant="cpu", effort=0.01) as made:
        yield made


def assert_sent(requests, count):
    """All were sent; perf_analyzer's window may begin a request or two late, which then count as warm-up."""
    assert len(requests.latencies_ms) + len(requests.warm_up_ms) >= count
    assert len(requests.latencies_ms) >= count - 2


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_perf_analyzer_sends_real_photos_through_the_ensemble(bench, perf, tmp_path, protocol):
    data = write_photos(tmp_path / "photos.json", bench.photos(1, 2))
    url = bench.served.http_url if protocol == "http" else bench.served.url
    measured = perf.measure(
        "cutout", url, protocol=protocol, data=data, concurrency=2, count=6, headers=bench.served.headers
    )
    assert_sent(measured.requests, 6)
    assert measured.requests.window_s > 0


def test_the_served_network_answers_through_shared_memory(bench, perf):
    side = bench.contract.size_hw[0]
    measured = perf.measure(
        bench.served.network,
        bench.served.url,
        concurrency=1,
        count=4,
        shared_memory_bytes=4 * side * side,
        headers=bench.served.headers,
    )
    assert_sent(measured.requests, 4)


def test_the_server_says_what_really_runs_the_network(bench):
    about = bench.served.describe()
    assert about["tritonserver"]
    network = about["models"][bench.served.network]
    assert network["backend"] == "onnxruntime"
    assert network["runtime"]
    assert about["engine"]


def test_one_user_gets_cut_outs_and_every_phase_is_measured(bench):
    case = next(scenarios.one_user(bench))
    assert case.setting == {"megapixels": 1, "where": "client"}
    latency = case.series["latency"]
    assert len(latency.values) == 2
    assert len(latency.warm_up) == 1
    phases = sum(case.value(phase) for phase in ("load", "shrink", "ask", "finish", "encode"))
    assert 0 < phases <= 1.5 * max(latency.values)
    # the server's own account of it: the network alone, since the client does the rest
    assert "tiramisu_onnx: compute" in case.series
    assert not [name for name in case.series if name.startswith("bgclient_")]


def test_arrivals_by_chance_reach_the_server_and_one_point_is_the_knee(bench):
    cases = list(scenarios.many_users(bench))
    assert {case.setting["where"] for case in cases} == {"client", "server"}
    for where in ("client", "server"):
        assert sum(bool(case.setting.get("knee")) for case in cases if case.setting["where"] == where) == 1
    assert all(case.series["latency"].values for case in cases)


def test_results_of_a_run_go_to_json(bench, tmp_path):
    from bgbench.cli import main

    out = tmp_path / "result.json"
    arguments = [
        "run",
        "--only",
        "bare_network",
        "--effort",
        "0.01",
        "--cache",
        str(bench.cache),
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    written = json.loads(out.read_text())
    assert [case["setting"]["batch"] for case in written["cases"]][:4] == [1, 2, 4, 8]
    assert written["environment"]["network"]["contract"]


@pytest.fixture
def added(root, tmp_path, monkeypatch):
    """The only network in the benches' repository was added: "bright" sees people wherever a photo is not black."""
    from onnx import TensorProto, helper, numpy_helper, save

    from bgexport.add import Theirs, add
    from bgexport.photos import adversarial
    from bgexport.repository import Names, Serving

    theirs, models = Theirs(size=(32, 64)), tmp_path / "models"
    for name in (Names().preprocess, Names().postprocess):
        shutil.copytree(root / "model_repository" / name / "1", models / name / "1")
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, *theirs.size])
        for name, channels in (("colours", 3), ("sum", 1))
    ]
    ones = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "ones")
    summed = helper.make_node("Conv", ["colours", "ones"], ["sum"])
    graph = helper.make_graph([summed], "theirs", tensors[:1], tensors[1:], [ones])
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7),
        tmp_path / "bright.onnx",
    )
    pictures = adversarial(theirs.contract())
    add(tmp_path / "bright.onnx", theirs, "bright", pictures, models=models, serving=Serving.read())
    for module in (command, serving):
        monkeypatch.setattr(module, "model_repository", lambda: models)


def test_an_added_network_is_measured_by_the_same_scenarios(added, tmp_path):
    with scenarios.Bench(tmp_path / "cache", variant="cpu", effort=0.01, model="bright") as bench:
        *_, case = islice(scenarios.one_user(bench), 3)
        assert {"cutout_bright", "matte_bright"} <= bench.served.describe()["models"].keys()
    assert case.setting == {"megapixels": 1, "where": "server"}
    asked = {name.removesuffix(": compute") for name in case.series if name.endswith(": compute")}
    assert asked == {"bgclient_preprocess_bright", "bright_onnx", "bgclient_postprocess_bright"}


def test_an_added_network_is_named_in_its_result_file_and_an_unknown_one_is_refused(
    added, tmp_path, monkeypatch, capsys
):
    from bgbench.cli import main

    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    arguments = ["run", "--only", "bare_network", "--effort", "0.01", "--cache", str(tmp_path / "cache")]
    assert main([*arguments, "--model", "dark"]) == 1
    assert "no network 'dark' was added to" in (said := capsys.readouterr().err)
    assert said.endswith("added: bright\n")
    assert main([*arguments, "--model", "bright"]) == 0
    (file,) = (tmp_path / "results").glob("*-cpu-bright.json")
    environment = json.loads(file.read_text())["environment"]
    assert environment["model"] == "bright"
    assert environment["network"]["size_hw"] == [32, 64]
