"""Engines by name: the same numbers from each, and never another one than was asked for."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bgimage import runtimes
from bgimage.contract import Contract
from bgserver import engines
from bgserver.errors import EngineMissing
from bgserver.strict import TensorSpec

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")


@pytest.fixture(scope="module")
def model(root):
    return root / "model_repository" / "tiramisu_onnx" / "1" / "model.onnx"


@pytest.fixture(scope="module")
def size_hw(model):
    """Height and width of the network's input, as its contract has them."""
    metadata = runtimes.onnxruntime().InferenceSession(model).get_modelmeta().custom_metadata_map
    return Contract.from_json(metadata["contract"]).size_hw


@pytest.fixture(scope="module")
def images(size_hw):
    return {"image": np.random.default_rng(0).integers(0, 256, (2, 3, *size_hw), np.uint8)}


def test_onnx_runtime_tells_the_network_s_tensors(model, size_hw):
    engine = engines.onnxruntime_engine(model, threads=1)
    assert engine.inputs == {"image": TensorSpec("TYPE_UINT8", (-1, 3, *size_hw))}
    assert engine.outputs == {"alpha": TensorSpec("TYPE_FP32", (-1, 1, *size_hw))}


@needs_openvino
def test_openvino_tells_the_same_tensors_and_computes_the_same_alphas(model, images):
    one, other = engines.onnxruntime_engine(model, threads=2), engines.openvino_engine(model, threads=2)
    assert (one.inputs, one.outputs) == (other.inputs, other.outputs)
    (expected,), (found,) = one.run(images, ["alpha"]), other.run(images, ["alpha"])
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-3


@needs_openvino
def test_answers_do_not_change_when_the_engine_runs_again(model, images):
    engine = engines.openvino_engine(model, threads=1)
    (first,) = engine.run(images, ["alpha"])
    kept = first.copy()
    engine.run({"image": 255 - images["image"]}, ["alpha"])
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    ("flags", "installed", "times_ms", "expected", "why"),
    [
        ({"avx2"}, False, {}, "onnxruntime", "OpenVINO is not installed"),
        ({"amx_bf16"}, True, {}, "openvino bf16", "this CPU computes in BF16"),
        ({"avx512_bf16"}, True, {}, "openvino bf16", "this CPU computes in BF16"),
        ({"avx2"}, True, {"onnxruntime": 34.0, "openvino": 26.0}, "openvino", "ONNX Runtime 34.0 ms"),
        (
            {"avx512f"},
            True,
            {"onnxruntime": 20.0, "openvino": 10.0},
            "openvino",
            "ONNX Runtime 20.0 ms, OpenVINO 10.0 ms",
        ),
        ({"avx512f"}, True, {"onnxruntime": 20.0, "openvino": 19.5}, "onnxruntime", "OpenVINO 19.5 ms"),
    ],
)
def test_auto_takes_what_the_machine_runs_fastest_and_says_why(
    monkeypatch, flags, installed, times_ms, expected, why
):
    def fake(name):
        return engines.Engine(name, {}, {}, lambda feeds, wanted: [])

    monkeypatch.setattr(engines, "cpu_flags", lambda: flags)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: installed or None)
    monkeypatch.setattr(engines, "onnxruntime_engine", lambda model, threads: fake("onnxruntime"))
    monkeypatch.setattr(
        engines,
        "openvino_engine",
        lambda model, threads, bf16=False: fake("openvino bf16" if bf16 else "openvino"),
    )
    monkeypatch.setattr(engines, "seconds", lambda engine: times_ms[engine.name] / 1e3)
    engine, reason = engines.load(Path("model.onnx"), "auto", threads=2)
    assert engine.name == expected
    assert why in reason


@needs_openvino
@pytest.mark.parametrize("faster", ["onnxruntime", "openvino"])
def test_a_restarting_server_takes_the_engine_that_was_faster_without_measuring_again(
    faster, monkeypatch, tmp_path
):
    monkeypatch.setattr(engines, "cpu_flags", set)
    for name in ("onnxruntime", "openvino"):
        made = engines.Engine(name, {}, {}, None)
        monkeypatch.setattr(engines, f"{name}_engine", lambda *_, made=made, **__: made)
    monkeypatch.setattr(engines, "seconds", lambda engine: 0.01 if engine.name == faster else 0.02)
    first = engines.load(Path("model.onnx"), "auto", threads=1, measured=tmp_path / "network-1")
    monkeypatch.delattr(engines, "seconds")
    again = engines.load(Path("model.onnx"), "auto", threads=1, measured=tmp_path / "network-1")
    assert again == first
    assert again[0].name == faster


def test_an_engine_that_is_not_installed_is_an_error(monkeypatch, model):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        EngineMissing, match="engine openvino was asked for and openvino is not installed; pip install"
    ):
        engines.load(model, "openvino", threads=1)


def test_cuda_is_never_replaced_by_the_cpu(model):
    if "CUDAExecutionProvider" in runtimes.onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    for name, device in (("cuda", None), ("cuda", 0)):
        with pytest.raises(EngineMissing, match="built without; pip install onnxruntime-gpu"):
            engines.load(model, name, threads=1, cuda_device=device)


def test_bf16_on_a_cpu_without_it_is_an_error(monkeypatch, model):
    monkeypatch.setattr(engines, "cpu_flags", lambda: {"avx2"})
    with pytest.raises(EngineMissing, match="neither AVX512-BF16 nor AMX"):
        engines.load(model, "openvino-bf16", threads=1)


def test_an_unknown_engine_lists_the_known_ones(model):
    with pytest.raises(EngineMissing, match="auto, onnxruntime, openvino, openvino-bf16, cuda"):
        engines.load(model, "tensorflow", threads=1)
