import pytest

pytest.importorskip("onnx")

from bgbench.serving import Statistics, _counters

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
