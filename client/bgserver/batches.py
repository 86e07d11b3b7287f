"""The requests that Triton hands to a model at once, as one batch: joined, run, and cut apart again."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgserver.stuck import ends_when_stuck

Run = Callable[[Mapping[str, NDArray[Any]], Sequence[str]], list[NDArray[Any]]]


FAILURE = "error: the network could not be run on this batch"
"""The whole message to a caller: the traceback names paths, so it stays in the server's log."""


def execute(pb_utils: Any, requests: Sequence[Any], inputs: Sequence[str], run: Run) -> list[Any]:
    """One response a request; where the network fails, each of the batch's requests is answered ``FAILURE``.

    Args:
        pb_utils: Triton's module.
        requests: Triton's requests; those that were cancelled are answered so and not run.
        inputs: names of the network's inputs.
        run: arrays by input name, first axis the batch, and names of wanted outputs -> their arrays.
    """
    live = [request for request in requests if not request.is_cancelled()]
    try:
        with ends_when_stuck():
            answered = _answered(pb_utils, live, inputs, run) if live else {}
    except Exception:
        pb_utils.Logger.log_error(traceback.format_exc())
        internal = pb_utils.TritonError.INTERNAL
        answered = {id(request): _refused(pb_utils, FAILURE, internal) for request in live}
    cancelled = pb_utils.TritonError.CANCELLED
    return [
        answered.get(id(request)) or _refused(pb_utils, "the client cancelled", cancelled)
        for request in requests
    ]


def _answered(pb_utils: Any, live: Sequence[Any], inputs: Sequence[str], run: Run) -> dict[int, Any]:
    """Responses by the ``id`` of their requests."""
    feeds = {
        name: [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in live]
        for name in inputs
    }
    # Only requested outputs are computed and copied; each request gets its own.
    wanted = sorted({name for request in live for name in request.requested_output_names()})
    answers = run({name: np.concatenate(arrays) for name, arrays in feeds.items()}, wanted)
    answered: dict[int, Any] = {}
    start = 0
    for request, first in zip(live, feeds[inputs[0]], strict=True):
        rows = slice(start, start + len(first))
        start = rows.stop
        answered[id(request)] = pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.ascontiguousarray(answer[rows]))
                for name, answer in zip(wanted, answers, strict=True)
                if name in request.requested_output_names()
            ]
        )
    return answered


def _refused(pb_utils: Any, message: str, status: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, status))
