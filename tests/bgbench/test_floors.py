import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from bgbench.errors import Unreadable  # noqa: E402
from bgbench.measure import floors  # noqa: E402


def network():
    """(N, 3, 8, 8) -> 3x3 convolution to 4 channels, ReLU, concatenation with the input, 1x1 convolution to 1."""
    first = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "first")
    bias = numpy_helper.from_array(np.zeros(4, np.float32), "bias")
    last = numpy_helper.from_array(np.zeros((1, 7, 1, 1), np.float32), "last")
    nodes = [
        helper.make_node("Conv", ["image", "first", "bias"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Concat", ["b", "image"], ["c"], "concat", axis=1),
        helper.make_node("Conv", ["c", "last"], ["alpha"], "head"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])
    alpha = helper.make_tensor_value_info("alpha", TensorProto.FLOAT, ["batch", 1, 8, 8])
    graph = helper.make_graph(nodes, "tiny", [image], [alpha], [first, bias, last])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_operations_are_those_counted_by_hand():
    cost = floors.count(network())
    pixels = 8 * 8
    conv = pixels * (2 * 4 * 27 + 4)  # 27 products and sums for each of 4 channels, and the bias
    relu = pixels * 4
    head = pixels * 2 * 7
    assert [node.flops for node in cost.nodes] == [conv, relu, 0, head, 0]
    assert cost.flops == conv + relu + head
    assert cost.parameters == 4 * 27 + 4 + 7


def test_bytes_are_those_counted_by_hand():
    cost = floors.count(network())
    pixels = 8 * 8
    conv = 4 * (pixels * 3 + 4 * 27 + 4 + pixels * 4)
    relu = 4 * (pixels * 4 + pixels * 4)
    concat = 4 * (pixels * 4 + pixels * 3 + pixels * 7)
    head = 4 * (pixels * 7 + 7 + pixels * 1)
    ends = 4 * (pixels * 3 + pixels * 1)
    assert cost.bytes(fused=False) == conv + relu + concat + head
    assert cost.bytes(fused=True) == conv + head + ends


def test_a_network_whose_sizes_depend_on_the_photo_has_no_floor():
    model = network()
    model.graph.node.append(helper.make_node("NonZero", ["a"], ["places"]))
    with pytest.raises(Unreadable, match=r"places .* known only when it runs"):
        floors.count(model)


def test_the_floor_takes_the_longer_of_arithmetic_and_bytes_of_each_node():
    nodes = (
        floors.Node("busy", "Conv", 2_000_000_000, 10, 10),
        floors.Node("wide", "Conv", 10, 10**9, 10**9),
    )
    cost = floors.Cost(nodes, 0)
    peaks = floors.Peaks(gflops=100, memory_gbs=10, cache_gbs=50, cache_bytes=1 << 20)
    assert peaks.floor_s(cost, fused=True) == pytest.approx(0.02 + 0.1)
    assert peaks.memory_share(cost) == pytest.approx(0.1 / 0.12)


def test_what_fits_into_the_cache_is_charged_at_the_cache_s_speed():
    cost = floors.Cost((floors.Node("small", "Conv", 0, 1000, 1000),), 0)
    peaks = floors.Peaks(gflops=100, memory_gbs=10, cache_gbs=50, cache_bytes=1 << 20)
    assert peaks.floor_s(cost, fused=False) == pytest.approx(1000 / 50e9)


def test_peaks_are_measured_and_the_cache_is_known():
    found = floors.peaks(tries=1)
    assert found.gflops > 0.1
    assert found.memory_gbs > 0.05
    assert found.cache_gbs > 0.05
    assert found.cache_bytes >= 1 << 18
