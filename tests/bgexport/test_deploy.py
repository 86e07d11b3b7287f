"""The TensorRT variant's plan: built once for each kind of machine, never loaded on another."""

import dataclasses
import os
import threading

import pytest

from bgexport.deploy import NoGpu, cached_plan, key, with_plan
from bgexport.errors import BuildError
from bgexport.graph import sha256_of
from bgserver.plans import Machine, PlanRecord, record_path

H100 = Machine(tensorrt_version="11.2.1", gpu="NVIDIA H100 80GB HBM3", compute_capability="9.0")


class Builder:
    """Builds plans that are only text, and counts them."""

    def __init__(self, machine=H100):
        self.machine, self.built = machine, 0

    def __call__(self, network, plan):
        self.built += 1
        plan.write_text(f"plan {self.built}")
        record = PlanRecord(
            plan_sha256=sha256_of(plan),
            onnx_sha256=sha256_of(network),
            contract_fingerprint="f",
            precision="fp16",
            builder="tensorrt",
            tensorrt_version=self.machine.tensorrt_version,
            gpu=self.machine.gpu,
            compute_capability=self.machine.compute_capability,
            batches=(1, 4, 8),
        )
        record_path(plan).write_text(record.to_json())


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a network")
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "plans"


def test_the_folder_is_named_by_gpu_tensorrt_and_network(network):
    assert key(H100, network) == f"nvidia-h100-80gb-hbm3-9.0-trt-11.2.1-{sha256_of(network)[:12]}"


def test_a_plan_is_built_once_for_each_kind_of_machine_and_network(network, cache):
    build = Builder()
    first = cached_plan(network, cache, H100, build)
    assert cached_plan(network, cache, H100, build) == first
    assert build.built == 1
    newer = dataclasses.replace(H100, tensorrt_version="11.3.0")
    assert cached_plan(network, cache, newer, Builder(newer)) != first
    network.write_bytes(b"another network")
    assert cached_plan(network, cache, H100, build) != first
    assert build.built == 2


def test_a_damaged_plan_is_built_again(network, cache, capsys):
    build = Builder()
    plan = cached_plan(network, cache, H100, build)
    plan.write_text("cut short")
    assert cached_plan(network, cache, H100, build).read_text() == "plan 2"
    assert "is not the file that was built" in capsys.readouterr().err


def test_a_build_that_fails_leaves_nothing_that_could_be_loaded(network, cache):
    def fail(network, plan):
        plan.write_text("half a plan")
        raise BuildError("out of memory")

    with pytest.raises(BuildError):
        cached_plan(network, cache, H100, fail)
    assert [path.suffix for path in cache.rglob("*")] == [".lock"]


def test_pods_that_start_together_build_once(network, cache):
    build = Builder()
    threads = [threading.Thread(target=cached_plan, args=(network, cache, H100, build)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build.built == 1


@pytest.mark.parametrize("missing", ["gpu", "tensorrt_version"])
def test_without_gpu_or_tensorrt_it_is_said_what_else_to_use(network, cache, missing):
    with pytest.raises(NoGpu, match="use variant onnx-gpu or cpu"):
        cached_plan(network, cache, dataclasses.replace(H100, **{missing: ""}), Builder())


def test_the_repository_to_be_served_has_the_plan_and_its_record_beside_it(network, cache, root, tmp_path):
    plan = cached_plan(network, cache, H100, Builder())
    repository = tmp_path / "models"
    for _ in range(2):  # a container that is started again finds the old one
        with_plan(root / "model_repository", plan, repository)
    version = repository / "tiramisu_trt" / "1"
    assert os.path.realpath(version / "model.plan") == str(plan)
    assert PlanRecord.read(version / "model.plan").gpu == H100.gpu
    assert "tiramisu_trt" in (repository / "cutout" / "configs" / "trt.pbtxt").read_text()
    assert (repository / "tiramisu_trt" / "config.pbtxt").is_file()
    with_plan(root / "model_repository", plan, repository, triton=(2, 75))
    assert "max_inflight_requests" in (repository / "cutout" / "configs" / "trt.pbtxt").read_text()
