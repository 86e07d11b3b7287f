import pytest

pytest.importorskip("onnx")

from bgbench.serving import Setting, Statistics, _changed_repository, _counters
from bgexport.repository import Names
from bgserver import model_repository

SAID = {
    "model_stats": [
        {
            "name": "tiramisu_onnx",
            "inference_count": "12",
            "execution_count": "4",
            "inference_stats": {
                "success": {"count": "12", "ns": "3600000000"},
                "fail": {},
                "queue": {"count": "12", "ns": "600000000"},
                "compute_input": {"count": "12", "ns": "1000000"},
                "compute_infer": {"count": "12", "ns": "2990000000"},
                "compute_output": {"count": "12", "ns": "9000000"},
            },
        }
    ]
}


def test_stages_are_means_a_request_between_two_readings():
    before = Statistics({"net": dict.fromkeys(_counters(SAID), 0), "idle": _counters(SAID)})
    after = Statistics({"net": _counters(SAID), "idle": _counters(SAID)})
    stages = after.since(before)
    assert set(stages) == {"net"}  # who answered nothing is left out
    assert stages["net"].requests == 12
    assert stages["net"].batch == 3.0
    assert stages["net"].queue_ms == pytest.approx(50)
    assert stages["net"].compute_ms == pytest.approx(250)


def test_counters_of_a_model_that_was_never_asked_are_zero():
    assert set(_counters({"model_stats": [{"name": "x"}]}).values()) == {0}


def test_a_setting_shows_only_what_it_sets():
    assert Setting().shown() == {}
    assert Setting(network=2, threads=1).shown() == {"threads": 1, "network": 2}


@pytest.mark.skipif(
    not (model_repository() / "tiramisu_onnx" / "1" / "model.onnx").exists(),
    reason="no network in the repository",
)
def test_a_setting_is_rendered_into_a_copy_of_the_repository(tmp_path):
    source = model_repository()
    before = (source / "tiramisu_onnx" / "configs" / "cpu.pbtxt").read_text()
    setting = Setting(network=3, postprocess=5, max_batch_size=2, max_queue_delay_us=1234)
    target = _changed_repository(source, setting, tmp_path / "models", Names())
    network = (target / "tiramisu_onnx" / "configs" / "cpu.pbtxt").read_text()
    assert "max_batch_size: 2" in network
    assert "count: 3" in network
    assert "max_queue_delay_microseconds: 1234" in network
    assert "count: 5" in (target / "bgclient_postprocess" / "configs" / "cpu.pbtxt").read_text()
    assert (source / "tiramisu_onnx" / "configs" / "cpu.pbtxt").read_text() == before
