"""The requests that Triton hands to a model at once, as one batch: joined, run, and cut apart again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[Mapping[str, NDArray[Any]], Sequence[str]], list[NDArray[Any]]]


def execute(pb_utils: Any, requests: Sequence[Any], inputs: Sequence[str], run: Run) -> list[Any]:
    """One response a request.

    Args:
        pb_utils: Triton's module.
        requests: Triton's requests; those that were cancelled are answered so and not run.
        inputs: names of the network's inputs.
        run: arrays by input name, first axis the batch, and names of wanted outputs -> their arrays.
    """
    live = [request for request in requests if not request.is_cancelled()]
    answered: dict[int, Any] = {}
    if live:
        feeds = {
            name: [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in live]
            for name in inputs
        }
        # Only what somebody asked for is computed and copied; each gets what it asked for itself.
        wanted = sorted({name for request in live for name in request.requested_output_names()})
        answers = run({name: np.concatenate(arrays) for name, arrays in feeds.items()}, wanted)
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
    return [answered.get(id(request)) or _cancelled(pb_utils) for request in requests]


def _cancelled(pb_utils: Any) -> Any:
    error = pb_utils.TritonError("the client cancelled", pb_utils.TritonError.CANCELLED)
    return pb_utils.InferenceResponse(error=error)
