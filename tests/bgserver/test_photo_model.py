"""What a Python model does around its work, without a server."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bgimage.contract import Contract
from bgimage.errors import BrokenPhoto
from bgserver.photo_model import MAX_ID, PhotoModel


class Triton:
    """As much of ``triton_python_backend_utils`` as the models use."""

    class MetricFamily:
        COUNTER = "counter"

        def __init__(self, *, name, description, kind):
            pass

        def Metric(self, *, labels):  # noqa: N802 (Triton's name)
            return SimpleNamespace(increment=lambda amount: None)

    class TritonError(Exception):
        CANCELLED, INVALID_ARG, INTERNAL = "cancelled", "invalid", "internal"

    @staticmethod
    def Tensor(name, array):  # noqa: N802
        return name, array

    @staticmethod
    def InferenceResponse(tensors=(), error=None):  # noqa: N802
        return SimpleNamespace(tensors=dict(tensors), error=error.args if error else None)

    @staticmethod
    def get_input_tensor_by_name(request, name):
        value = request.inputs.get(name)
        return None if value is None else SimpleNamespace(as_numpy=lambda: value)


@pytest.fixture
def log(monkeypatch):
    """What the model told Triton's log: level and text."""
    lines = []
    logger = SimpleNamespace(
        log_info=lambda text: lines.append(("info", text)),
        log_error=lambda text: lines.append(("error", text)),
    )
    monkeypatch.setattr(Triton, "Logger", logger, raising=False)
    return lines


@pytest.fixture
def model(log):
    """Doubles its input; "broken" is a bad photo, and what is no number is a fault of this model."""

    class Doubles(PhotoModel):
        triton = Triton
        failure = "it could not be doubled"

        def answer(self, request):
            value = self.tensor(request, "value")
            if value == "broken":
                raise BrokenPhoto("half a photo")
            return {"double": 2 * float(value) if self.tensor(request, "options") is None else value}

    made = Doubles()
    config = {"parameters": {"contract": {"string_value": Contract().to_json()}}}
    made.initialize({"model_config": json.dumps(config), "model_name": "doubles"})
    return made


def asked(value, request_id="", cancelled=False, **inputs):
    return SimpleNamespace(
        inputs={"value": np.array(value), **inputs},
        request_id=lambda: request_id,
        is_cancelled=lambda: cancelled,
    )


def test_every_request_of_a_batch_has_a_fate_of_its_own(model, log):
    requests = [asked(1), asked("broken"), asked(2, cancelled=True), asked("no number"), asked(3)]
    answers = model.execute(requests)
    assert [answer.tensors for answer in answers] == [{"double": 2}, {}, {}, {}, {"double": 6}]
    assert [answer.error for answer in answers] == [
        None,
        ("broken_photo: half a photo", "invalid"),
        ("the client cancelled", "cancelled"),
        ("internal_error: it could not be doubled", "internal"),
        None,
    ]
    ((level, text),) = log
    assert level == "error"
    assert text.startswith("Traceback")


def test_a_request_with_an_id_leaves_one_line_that_says_what_became_of_it(model, log):
    model.execute([asked(1, "order-17"), asked("broken", "order-18"), asked(2)])
    lines = [json.loads(text) for _, text in log]
    assert all(line.pop("ms") >= 0 for line in lines)
    assert lines == [
        {"model": "doubles", "request_id": "order-17", "outcome": "ok"},
        {"model": "doubles", "request_id": "order-18", "outcome": "broken_photo"},
    ]


def test_an_id_without_end_is_cut_short(model, log):
    model.execute([asked(1, "x" * 10_000)])
    assert json.loads(log[0][1])["request_id"] == "x" * MAX_ID


def test_an_input_that_was_left_out_is_none(model):
    (answer,) = model.execute([asked(1, options=np.array(["{}"]))])
    assert answer.tensors == {"double": 1}


def test_a_model_is_ready_while_its_decoders_work(model, monkeypatch):
    assert model.is_ready() is True

    def broken(data):
        raise BrokenPhoto("no decoder")

    monkeypatch.setattr("bgserver.photo_model.decode", broken)
    with pytest.raises(BrokenPhoto):  # Triton takes an exception for "not ready"
        model.is_ready()
