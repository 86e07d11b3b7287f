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
    conv = pixels * 2 * 4 * 27  # 27 products and sums for each of 4 channels
    head = pixels * 2 * 7
    assert cost.flops == conv + head
    assert cost.parameters == 4 * 27 + 4 + 7


def test_a_network_whose_sizes_depend_on_the_photo_has_no_floor():
    model = network()
    model.graph.node.append(helper.make_node("NonZero", ["a"], ["places"]))
    with pytest.raises(Unreadable, match=r"places .* known only when it runs"):
        floors.count(model)


def test_transposed_convolutions_and_products_count_too():
    tensors = {
        "spread": numpy_helper.from_array(np.zeros((4, 2, 2, 2), np.float32), "spread"),
        "product": numpy_helper.from_array(np.zeros((16, 5), np.float32), "product"),
    }
    nodes = [
        helper.make_node("ConvTranspose", ["image", "spread"], ["larger"], "up", strides=[2, 2]),
        helper.make_node("MatMul", ["larger", "product"], ["alpha"], "product"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4, 8, 8])
    alpha = helper.make_tensor_value_info("alpha", TensorProto.FLOAT, ["batch", 2, 16, 5])
    graph = helper.make_graph(nodes, "tiny", [image], [alpha], list(tensors.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert floors.count(model).flops == 2 * 4 * 8 * 8 * (2 * 2 * 2) + 2 * 2 * 16 * 5 * 16


def test_the_peak_is_measured():
    assert floors.peak_gflops(tries=1, side=256) > 0.1
