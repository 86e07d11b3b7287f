"""Configurations that do not fit the network are refused in the words of NVIDIA's C++ backends."""

import re

import pytest

from bgserver.strict import ConfigError, TensorSpec, check, missing

INPUTS = {"image": TensorSpec("TYPE_UINT8", (-1, 3, 64, 64))}
OUTPUTS = {"alpha": TensorSpec("TYPE_FP32", (-1, 1, 64, 64))}


def config(max_batch_size=8, **changes):
    """What Triton gives a backend; ``changes``: fields of the one input or output, by kind."""
    image = {"name": "image", "data_type": "TYPE_UINT8", "dims": [3, 64, 64], **changes.get("input", {})}
    alpha = {"name": "alpha", "data_type": "TYPE_FP32", "dims": [1, 64, 64], **changes.get("output", {})}
    return {"name": "net", "max_batch_size": max_batch_size, "input": [image], "output": [alpha]}


def test_a_configuration_that_fits_is_taken():
    check(config(), INPUTS, OUTPUTS)
    check(config(input={"dims": [1, 3, 4096], "reshape": {"shape": [3, 64, 64]}}), INPUTS, OUTPUTS)
    varying = {"image": TensorSpec("TYPE_UINT8", (-1, 3, -1, -1))}
    check(config(), varying, OUTPUTS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input": {"name": "picture"}}, "unexpected inference input 'picture', allowed inputs are: image"),
        ({"output": {"name": "masque"}}, "unexpected inference output 'masque', allowed outputs are: alpha"),
        (
            {"output": {"data_type": "TYPE_FP16"}},
            "unable to load model 'net', configuration expects datatype TYPE_FP16 for output 'alpha', "
            "model provides TYPE_FP32",
        ),
        (
            {"input": {"dims": [3, 32, 32]}},
            "model 'net', tensor 'image': the model expects 4 dimensions (shape [-1,3,64,64]) but the model "
            "configuration specifies 4 dimensions (an initial batch dimension because max_batch_size > 0 followed by "
            "the explicit tensor shape, making complete shape [-1,3,32,32])",
        ),
        (
            {"max_batch_size": 0},
            "model 'net', tensor 'image': the model expects 4 dimensions (shape [-1,3,64,64]) but the model "
            "configuration specifies 3 dimensions (shape [3,64,64])",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_triton_s_words(wrong, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(config(**wrong), INPUTS, OUTPUTS)


def test_a_network_with_another_number_of_inputs_is_refused():
    more = {**INPUTS, "trimap": TensorSpec("TYPE_UINT8", (-1, 1, 64, 64))}
    with pytest.raises(ConfigError, match="configuration expects 1 inputs, model provides 2"):
        check(config(), more, OUTPUTS)


def test_a_fixed_batch_does_not_support_batching():
    with pytest.raises(ConfigError, match=r"first dimension must be -1; .* is \[1,3,64,64\]"):
        check(config(), {"image": TensorSpec("TYPE_UINT8", (1, 3, 64, 64))}, OUTPUTS)


def test_an_output_must_have_the_very_dimensions_that_the_network_names():
    with pytest.raises(ConfigError, match="tensor 'alpha'"):
        check(config(), INPUTS, {"alpha": TensorSpec("TYPE_FP32", (-1, 1, -1, -1))})


def test_completion_adds_what_is_missing_and_keeps_what_is_said():
    complete = missing({"name": "net", "max_batch_size": 0}, INPUTS, OUTPUTS)
    assert complete["max_batch_size"] == 4
    assert complete["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [3, 64, 64]}]
    assert complete["output"] == [{"name": "alpha", "data_type": "TYPE_FP32", "dims": [1, 64, 64]}]
    assert missing(config(), INPUTS, OUTPUTS) == {}
    assert set(missing({"name": "net", "max_batch_size": 16}, INPUTS, OUTPUTS)) == {"input", "output"}
