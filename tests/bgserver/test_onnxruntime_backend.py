"""The Python-based onnxruntime backend in the real server: strict at loading, joined in running."""

import re
import threading
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from bgserver import errors
from bgserver.rundir import complete

onnx = pytest.importorskip("onnx")

pytestmark = pytest.mark.server

FITTING = """
platform: "onnxruntime_onnx"
max_batch_size: 8
input { name: "image" data_type: TYPE_UINT8 dims: [3, 16, 16] }
output [
  { name: "alpha" data_type: TYPE_FP32 dims: [1, 16, 16] },
  { name: "inverse" data_type: TYPE_FP32 dims: [1, 16, 16] }
]
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { max_queue_delay_microseconds: 200000 }
"""


@pytest.fixture
def repository(tmp_path):
    """A network that calls brightness alpha and fails on any above 200; ``write(config)`` lays the repository down."""
    from onnx import TensorProto, helper

    def tensor(name, kind, channels):
        return helper.make_tensor_value_info(name, kind, ["N", channels, 16, 16])

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "scale"], ["colours"]),
            helper.make_node("ReduceMean", ["colours", "channels"], ["brightness"]),
            helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["levels", "all"], ["brightest"]),
            helper.make_node("Gather", ["nothing", "brightest"], ["none"]),
            helper.make_node("Add", ["brightness", "none"], ["alpha"]),
            helper.make_node("Sub", ["one", "alpha"], ["inverse"]),
        ],
        "brightness",
        [tensor("image", TensorProto.UINT8, 3)],
        [tensor("alpha", TensorProto.FLOAT, 1), tensor("inverse", TensorProto.FLOAT, 1)],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / 255]),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("channels", TensorProto.INT64, [1], [1]),
            helper.make_tensor("all", TensorProto.INT64, [3], [1, 2, 3]),
            helper.make_tensor("nothing", TensorProto.FLOAT, [201], [0.0] * 201),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder = tmp_path / "networks" / "net" / "1"
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")

    def write(config):
        (folder.parent / "config.pbtxt").write_text(config)
        return folder.parents[1]

    return write


@pytest.fixture
def start(tiny, repository):
    return lambda config, **settings: tiny(repository=repository(config), models=("net",), **settings).start()


WRONG = {
    "output's name": (
        '"alpha"',
        '"masque"',
        "unexpected inference output 'masque', allowed outputs are: alpha, inverse",
    ),
    "input's name": (
        '"image"',
        '"picture"',
        "unexpected inference input 'picture', allowed inputs are: image",
    ),
    "output's type": (
        "TYPE_FP32",
        "TYPE_FP16",
        "configuration expects datatype TYPE_FP16 for output 'alpha'",
    ),
    "dimensions": ("[3, 16, 16]", "[3, 8, 8]", "making complete shape [-1,3,8,8])"),
    "batching": (
        "max_batch_size: 8",
        "max_batch_size: 0",
        "the model expects 4 dimensions (shape [-1,3,16,16])",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_configuration_that_does_not_fit_the_network_is_refused(start, what):
    right, wrong, message = WRONG[what]
    assert right in FITTING
    config = FITTING.replace(right, wrong, 1)
    if what == "batching":  # which a model without batches must not ask for
        config = config.replace("dynamic_batching { max_queue_delay_microseconds: 200000 }", "")
    with pytest.raises(errors.ModelRefused) as caught:
        start(config)
    assert message in str(caught.value)


def test_it_is_refused_without_auto_completion_too(start):
    with pytest.raises(errors.ModelRefused, match="unexpected inference output 'masque'"):
        start(FITTING.replace('"alpha"', '"masque"'), extra_args=["--disable-auto-complete-config"])


def test_an_engine_that_is_asked_for_and_missing_ends_the_start(start):
    with pytest.raises(errors.EngineMissing, match="engine cuda was asked for"):
        start(FITTING, engine="cuda")


def test_completion_fills_in_what_a_configuration_leaves_out(start):
    server = start('platform: "onnxruntime_onnx" instance_group { count: 1 kind: KIND_CPU }')
    with triton.InferenceServerClient(server.grpc_url) as client:
        config = client.get_model_config("net", as_json=True)["config"]
    assert config["max_batch_size"] == 4
    assert [(i["name"], i["data_type"], i["dims"]) for i in config["input"]] == [
        ("image", "TYPE_UINT8", ["3", "16", "16"])
    ]
    assert [o["name"] for o in config["output"]] == ["alpha", "inverse"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_requests_are_joined_into_one_run_and_each_gets_its_own_answer(start, engine, eventually):
    if engine == "openvino":
        pytest.importorskip("openvino")
    server = start(FITTING, engine=engine)
    answers = {}

    def ask(client, level):
        image = triton.InferInput("image", [1, 3, 16, 16], "UINT8")
        image.set_data_from_numpy(np.full((1, 3, 16, 16), level, np.uint8))
        wanted = [triton.InferRequestedOutput("alpha" if level % 2 else "inverse")]
        answers[level] = client.infer("net", [image], outputs=wanted)

    with triton.InferenceServerClient(server.grpc_url) as client:
        threads = [threading.Thread(target=ask, args=(client, level)) for level in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        def counted():  # a moment after the answer
            said = client.get_inference_statistics("net", headers=server.admin_headers, as_json=True)
            (stats,) = said["model_stats"]
            return stats if int(stats["inference_count"]) == 16 else None

        stats = eventually(counted)
    for level, answer in answers.items():
        name, other, expected = (
            ("alpha", "inverse", level / 255) if level % 2 else ("inverse", "alpha", 1 - level / 255)
        )
        assert np.allclose(answer.as_numpy(name), expected, atol=1e-6)
        assert answer.as_numpy(other) is None
    assert int(stats["execution_count"]) < 16, "every request had a run of its own"
    (ran,) = server.facts["engines"]
    assert ran.startswith({"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[engine])
    assert ran.endswith("(asked for)")


def test_a_network_that_fails_tells_its_caller_no_more_than_that_and_goes_on(start, tmp_path):
    server = start(FITTING, engine="onnxruntime")

    def ask(client, level):
        image = triton.InferInput("image", [1, 3, 16, 16], "UINT8")
        image.set_data_from_numpy(np.full((1, 3, 16, 16), level, np.uint8))
        return client.infer("net", [image]).as_numpy("alpha")

    with triton.InferenceServerClient(server.grpc_url) as client:
        for _ in range(2):  # an error is not kept
            with pytest.raises(InferenceServerException) as caught:
                ask(client, 201)
        assert caught.value.status() == "StatusCode.INTERNAL"
        assert caught.value.message() == "error: the network could not be run on this batch"
        assert np.allclose(ask(client, 100), 100 / 255, atol=1e-6)
    assert "Traceback" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_a_photo_that_comes_again_is_answered_from_memory_where_there_is_some(start, cache_mb):
    server = start(FITTING, engine="onnxruntime", cache_mb=cache_mb)
    image = triton.InferInput("image", [1, 3, 16, 16], "UINT8")
    image.set_data_from_numpy(np.full((1, 3, 16, 16), 50, np.uint8))
    with triton.InferenceServerClient(server.grpc_url) as client:
        first, again = (client.infer("net", [image]).as_numpy("alpha") for _ in range(2))
    assert first.tobytes() == again.tobytes()
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        counted = re.findall(r'^bgclient_kept_answers_total{model="net"} (\S+)', answer.read().decode(), re.M)
    assert [float(count) for count in counted] == [1.0] * cache_mb


def test_triton_asks_no_model_for_what_its_configuration_says(root, tmp_path):
    ours = [path for path in (root / "model_repository").iterdir() if path.is_dir()]
    assert len(ours) >= 5
    assert all(complete(ours, variant) for variant in ("cpu", "gpu"))
    for text in ("", FITTING.replace("output", "# output"), FITTING.replace("max_batch_size: 8", "")):
        (tmp_path / "config.pbtxt").write_text(text)
        assert not complete([*ours, tmp_path], None)
    (tmp_path / "config.pbtxt").write_text(FITTING)
    assert complete([*ours, tmp_path], None)
