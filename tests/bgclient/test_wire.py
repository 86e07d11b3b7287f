"""Protocol values without a socket."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgclient import errors
from bgclient._wire import (
    Answer,
    Request,
    Tensor,
    error_of,
    http_answer,
    http_body,
    http_error,
)


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_packed_items_come_back(items):
    tensor = Tensor.of_bytes("photo", items)
    assert tensor.shape == (len(items), 1)
    assert tensor.items() == items


@given(st.binary(max_size=40))
def test_packed_items_that_do_not_add_up_are_a_fault_of_the_server_and_never_a_crash(data):
    try:
        items = Tensor("cutout", "BYTES", (1,), data).items()
    except errors.ServerFault:
        return
    assert sum(4 + len(item) for item in items) == len(data)


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=2))
def test_an_answer_that_is_none_is_a_fault_of_the_server_and_never_a_crash(body, headers):
    with pytest.raises(errors.ServerFault):
        http_answer("matte", headers, body)


@pytest.mark.parametrize("cut", [1, 5, 400])
def test_an_answer_cut_short_is_a_fault_of_the_server(cut):
    header = json.dumps(
        {
            "outputs": [
                {"name": "alpha", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 400}}
            ]
        }
    ).encode()
    body = (header + bytes(400))[:-cut]
    with pytest.raises(errors.ServerFault):
        http_answer("matte", {"inference-header-content-length": str(len(header))}, body)


def test_floats_of_the_wrong_kind_or_length_are_a_fault_of_the_server():
    alpha = np.ones((1, 1, 2, 3), np.float32)
    assert (Tensor("alpha", "FP32", (1, 1, 2, 3), alpha.tobytes()).floats() == alpha).all()
    for wrong in (
        Tensor("alpha", "FP16", (1, 1, 2, 3), alpha.tobytes()),
        Tensor("alpha", "FP32", (7,), b"1234"),
    ):
        with pytest.raises(errors.ServerFault, match="alpha"):
            wrong.floats()


def test_a_missing_output_is_named_with_those_that_are_there():
    with pytest.raises(errors.ModelMissing, match=r"answers \['mask'\], not 'alpha'"):
        Answer("matte", {"mask": Tensor("mask", "FP32", (1,))}).output("alpha")


def test_a_request_over_http_says_sizes_and_headers():
    request = Request(
        "matte",
        (Tensor.of_bytes("photo", [b"abc"]), Tensor("other", "UINT8", (2,), b"de")),
        ("alpha", "more"),
        id="7",
        headers={"traceparent": "00-1"},
    )
    body, headers = http_body(request)
    size = int(headers["Inference-Header-Content-Length"])
    fields = json.loads(body[:size])
    assert headers["traceparent"] == "00-1"
    assert body[size:] == b"\x03\0\0\0abcde"
    assert [tensor["parameters"] for tensor in fields["inputs"]] == [
        {"binary_data_size": 7},
        {"binary_data_size": 2},
    ]
    assert fields["outputs"][1] == {"name": "more", "parameters": {"binary_data": True}}


POOL_FULL = (
    "in ensemble 'cutout', Failed to increase the shared memory pool size for key '/bgserver-x-1' to 67108864 bytes. "
    "If you are running Triton inside docker, use '--shm-size' flag to control the shared memory region size. "
    "Error: No space left on device"
)

SAID = [
    (
        "INVALID_ARGUMENT",
        "in ensemble 'cutout', empty_photo: 0 bytes; send the whole file",
        errors.EmptyPhoto,
    ),
    ("INVALID_ARGUMENT", "in ensemble 'cutout', bad_option: unknown option x", errors.OptionError),
    ("INVALID_ARGUMENT", "no_person_found: nobody", errors.NoPersonFound),
    ("INTERNAL", "error: the photo could not be read", errors.ServerFault),  # of servers before
    ("INTERNAL", "internal_error: the photo could not be read", errors.InternalError),
    ("INTERNAL", "Stub process 'preprocess_0_0' is not healthy.", errors.ServerUnavailable),
    (
        "INVALID_ARGUMENT",
        "[request id: 1] unexpected shape for input 'image' for model 'tiramisu_onnx'. Expected [-1,3,288,288]",
        errors.NetworkChanged,
    ),
    ("INTERNAL", POOL_FULL, errors.ServerBusy),
    ("INVALID_ARGUMENT", "[request id: 1] expected 1 inputs but got 2", errors.ServerFault),
    ("UNAVAILABLE", "in ensemble 'matte', Exceeds maximum queue size", errors.ServerBusy),
    ("UNAVAILABLE", "Request timeout expired", errors.ServerBusy),
    ("UNAVAILABLE", "Socket closed", errors.ServerUnavailable),
    ("UNAVAILABLE", "Request for unknown model: 'matte' has no available versions", errors.ServerUnavailable),
    (
        "UNAVAILABLE",
        "This protocol is restricted, expecting header 'triton-grpc-protocol-x'",
        errors.AccessDenied,
    ),
    ("NOT_FOUND", "Request for unknown model: 'matte' is not found", errors.ModelMissing),
    ("INVALID_ARGUMENT", "Request for unknown model: 'matte' is not found", errors.ModelMissing),
    ("UNIMPLEMENTED", "unknown service", errors.ModelMissing),
    ("INVALID_ARGUMENT", "unexpected inference output 'facts' for model 'cutout'", errors.ModelMissing),
    ("INVALID_ARGUMENT", "unexpected inference input 'options' for model 'cutout'", errors.ModelMissing),
    (
        "INVALID_ARGUMENT",
        "[request id: 7] expected 1 inputs but got 2 inputs for model 'cutout'.",
        errors.ModelMissing,
    ),
    ("UNAUTHENTICATED", "", errors.AccessDenied),
    ("PERMISSION_DENIED", "no", errors.AccessDenied),
    ("RESOURCE_EXHAUSTED", "too many", errors.ServerBusy),
    ("DEADLINE_EXCEEDED", "", errors.DeadlineExceeded),
    ("CANCELLED", "", errors.CallCancelled),
    ("UNKNOWN", "", errors.ServerFault),
]


@pytest.mark.parametrize(("status", "message", "kind"), SAID)
def test_what_a_server_says_becomes_the_right_error_with_its_address(status, message, kind):
    error = error_of(status, message, "gpu1:8001")
    assert type(error) is kind
    if isinstance(error, errors.TransportError):
        assert "gpu1:8001" in str(error)


def test_a_server_whose_own_shared_memory_is_full_is_busy_and_says_what_helps():
    said = str(error_of("INTERNAL", POOL_FULL, "gpu1:8001"))
    assert "gpu1:8001 has no room left in its /dev/shm" in said
    assert "bgserver-x" not in said


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error": "in ensemble, broken_photo: JPEG cut short"}', errors.BrokenPhoto),
        (401, b"", errors.AccessDenied),
        (404, b'{"error": "Request for unknown model"}', errors.ModelMissing),
        (404, b"<html>not found</html>", errors.ModelMissing),
        (413, b"", errors.PhotoTooLarge),
        (429, b"", errors.ServerBusy),
        (500, b'{"error": "broke"}', errors.ServerFault),
        (502, b"<html>Bad Gateway</html>", errors.ServerUnavailable),
        (503, b'{"error": "Exceeds maximum queue size"}', errors.ServerBusy),
        (504, b"\xff\xfe", errors.ServerUnavailable),
    ],
)
def test_an_http_status_becomes_the_right_error(status, body, kind):
    assert type(http_error(status, {}, body, "http://gpu1:8000")) is kind


@pytest.mark.parametrize(
    ("said", "wait_s"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("-1", 0.0)]
)
def test_retry_after_goes_with_the_error(said, wait_s):
    error = http_error(503, {"retry-after": said}, b"", "http://gpu1:8000")
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize("shape", [[-1], ["1"], [1.5], [[1]], 7, None])
def test_a_shape_that_is_none_is_a_fault_of_the_server(shape):
    output = {"name": "alpha", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": 0}}
    with pytest.raises(errors.ServerFault):
        http_answer("matte", {}, json.dumps({"outputs": [output]}).encode())


def test_json_without_a_bottom_is_a_fault_of_the_server():
    with pytest.raises(errors.ServerFault):
        http_answer("matte", {}, b"[" * 200_000)


def test_every_error_of_the_tree_has_its_own_code_and_stands_in_the_drawing():
    kinds = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        drawn = kind.__name__ in errors.__doc__
        assert drawn or kind.__module__ == "bgimage.errors"
    retryable = {kind.__name__ for kind in kinds if kind.retryable}
    assert retryable == {"ServerUnavailable", "ServerBusy", "NetworkChanged"}
    for name in retryable:
        line = next(line for line in errors.__doc__.splitlines() if name in line)
        assert line.endswith("(retryable)")
