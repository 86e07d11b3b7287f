"""The requests of one batch: joined, run once, cut apart, and each answered as it asked."""

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from bgserver import batches, stuck


class Request:
    def __init__(self, *rows, wanted=("alpha",), cancelled=False):
        self.tensors = {"image": np.array(rows, np.float32).reshape(-1, 1)}
        self.wanted, self.cancelled = list(wanted), cancelled

    def is_cancelled(self):
        return self.cancelled

    def requested_output_names(self):
        return self.wanted


def error(message, status):
    return SimpleNamespace(message=message, status=status)


error.CANCELLED = "cancelled"
error.INTERNAL = "internal"
log = []

pb_utils = SimpleNamespace(
    Logger=SimpleNamespace(log_error=log.append),
    get_input_tensor_by_name=lambda request, name: SimpleNamespace(as_numpy=lambda: request.tensors[name]),
    InferenceResponse=lambda outputs=(), error=None: SimpleNamespace(outputs=dict(outputs), error=error),
    Tensor=lambda name, array: (name, array),
    TritonError=error,
)


def execute(*requests):
    """Responses, and the batch sizes and outputs of the runs that made them."""
    runs = []

    def run(feeds, wanted):
        runs.append((len(feeds["image"]), wanted))
        return [feeds["image"] * (2 if name == "alpha" else 3) for name in wanted]

    return batches.execute(pb_utils, requests, ["image"], run), runs


def test_all_requests_run_as_one_batch_and_get_their_own_rows_back():
    responses, runs = execute(Request(1, 2), Request(3), Request(4, 5, 6))
    assert runs == [(6, ["alpha"])]
    assert [r.outputs["alpha"].ravel().tolist() for r in responses] == [[2, 4], [6], [8, 10, 12]]
    assert all(r.outputs["alpha"].flags.c_contiguous for r in responses)


def test_a_cancelled_request_is_answered_so_and_not_run():
    responses, runs = execute(Request(1), Request(2, cancelled=True), Request(3))
    assert runs == [(2, ["alpha"])]
    assert [r.error and r.error.status for r in responses] == [None, "cancelled", None]
    assert responses[2].outputs["alpha"].item() == 6


def test_nothing_runs_when_everybody_cancelled():
    responses, runs = execute(Request(1, cancelled=True))
    assert runs == []
    assert responses[0].error.status == "cancelled"


def test_only_what_was_asked_for_is_computed_and_each_gets_what_it_asked_for():
    responses, runs = execute(Request(1, wanted=["alpha"]), Request(2, wanted=["alpha", "edges"]))
    assert runs == [(2, ["alpha", "edges"])]
    assert [sorted(r.outputs) for r in responses] == [["alpha"], ["alpha", "edges"]]


def test_a_network_that_fails_is_one_sentence_for_its_batch_and_a_traceback_in_the_log():
    def run(feeds, wanted):
        raise RuntimeError("no kernel image in /opt/models/1/model.onnx")

    log.clear()
    requests = [Request(1), Request(2, cancelled=True), Request(3)]
    responses = batches.execute(pb_utils, requests, ["image"], run)
    failed = ("error: the network could not be run on this batch", "internal")
    assert [(r.error.message, r.error.status) for r in responses] == [
        failed,
        ("the client cancelled", "cancelled"),
        failed,
    ]
    (text,) = log
    assert text.startswith("Traceback")
    assert "no kernel image" in text


HANGS = """
import time
from types import SimpleNamespace

from bgserver import stuck
from bgserver.photo_model import PhotoModel
from bgserver import batches

stuck.STUCK_S = 0.5
request = SimpleNamespace(is_cancelled=lambda: time.sleep(60) or True, requested_output_names=list)
"""
NETWORK = """
request.is_cancelled = lambda: False
pb_utils = SimpleNamespace(get_input_tensor_by_name=lambda *_: SimpleNamespace(as_numpy=lambda: [[0]]))
batches.execute(pb_utils, [request], ["image"], lambda feeds, wanted: time.sleep(60))
"""
PHOTOS = """
PhotoModel.triton = SimpleNamespace(TritonError=None)
PhotoModel().execute([request])
"""


COMPUTES = """
import itertools
from bgserver import meters, stuck
from bgserver.photo_model import PhotoModel

class Family:
    COUNTER = None
    def __init__(self, **_): pass

stuck.COMPUTED_S = 0.2
model = PhotoModel()
model.meters = meters.Meters(Family, "decoder")
def decoder():
    with model.stage("decode"):
        sum(itertools.repeat(0))  # one call of foreign code that never comes back
decoder()
"""


def test_a_decoder_that_computes_without_end_is_ended_by_the_kernel_and_leaves_its_stack_in_the_log():
    ended = subprocess.run([sys.executable, "-c", COMPUTES], capture_output=True, text=True, timeout=100)
    assert ended.returncode == -signal.SIGPROF
    assert "in decoder" in ended.stderr


def test_work_within_its_processor_time_is_left_alone(monkeypatch):
    monkeypatch.setattr(stuck, "COMPUTED_S", 0.05)
    with stuck.ends_when_computing_on():
        pass
    until = time.process_time() + 0.2  # outside of a decoder's work nothing is counted
    while time.process_time() < until:
        pass


@pytest.mark.parametrize("model", [NETWORK, PHOTOS], ids=["network", "photos"])
def test_a_model_that_hangs_ends_itself_and_leaves_its_stack_in_the_log(model):
    ended = subprocess.run([sys.executable, "-c", HANGS + model], capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "in execute" in ended.stderr
