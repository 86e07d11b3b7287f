"""What both Python models do around their work: one response a request, whatever happens, and a line in the log."""

from __future__ import annotations

import base64
import json
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bgimage.codec import check_batch, decode
from bgimage.contract import Contract
from bgimage.errors import BgError, InternalError
from bgserver.meters import Meters
from bgserver.stuck import ends_when_computing_on, ends_when_stuck

_DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
"""A PNG of one grey pixel."""

MAX_ID = 128
"""Characters of a request's id that are logged; callers may send any."""


class PhotoModel:
    """Base of a ``TritonPythonModel``, which says what it answers.

    A bad photo is its own request's INVALID_ARGUMENT. Everything else that goes wrong is that request's INTERNAL
    (``InternalError``): the traceback names paths, so it stays in the server's log.
    """

    triton: ClassVar[Any]
    """The module ``triton_python_backend_utils``."""
    failure: ClassVar[str]
    """The message to the caller when this model fails."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Triton's: once, before the first request."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.contract = Contract.from_json(parameters["contract"]["string_value"])
        self.meters = Meters(self.triton.MetricFamily, args["model_name"])
        self._name = args["model_name"]

    def is_ready(self) -> bool:
        """Triton's, from 26.03 on: part of every question whether the server is ready. The decoders still work."""
        return decode(_DOT).size_hw == (1, 1)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Triton's: one response a request."""
        responses = []
        for request in requests:
            with ends_when_stuck():
                responses.append(self._response(request))
        return responses

    def answer(self, request: Any) -> Mapping[str, NDArray[Any]]:
        """The outputs by name.

        Raises:
            BgError: a photo, or its options, cannot be used.
        """
        raise NotImplementedError

    def tensor(self, request: Any, name: str) -> NDArray[Any] | None:
        """An input; None where the caller left it out."""
        found = self.triton.get_input_tensor_by_name(request, name)
        return None if found is None else np.asarray(found.as_numpy())

    def photos(self, request: Any) -> NDArray[Any]:
        """The input ``photo``: bytes (N, 1), once all N together keep to the limits.

        Raises:
            PhotoError: they do not, or one of them alone does not.
        """
        photos = self.tensor(request, "photo")
        assert photos is not None  # Triton refuses a request without it
        check_batch(photos.ravel().tolist())
        return photos

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Around a stage that hostile bytes may keep busy: metered, and bounded in processor time."""
        with self.meters.stage(name), ends_when_computing_on():
            yield

    def _response(self, request: Any) -> Any:
        began = time.perf_counter()
        status = self.triton.TritonError
        try:
            if request.is_cancelled():
                outcome, said = "cancelled", ("the client cancelled", status.CANCELLED)
            else:
                tensors = [self.triton.Tensor(name, array) for name, array in self.answer(request).items()]
                outcome, said = "ok", None
        except BgError as error:
            self.meters.refusal(error)
            outcome, said = error.code, (error.message(), status.INVALID_ARG)
        except Exception:
            self.triton.Logger.log_error(traceback.format_exc())
            outcome, said = "error", (InternalError(self.failure).message(), status.INTERNAL)
        self._log(request.request_id(), outcome, 1e3 * (time.perf_counter() - began))
        if said is None:
            return self.triton.InferenceResponse(tensors)
        return self.triton.InferenceResponse(error=status(*said))

    def _log(self, request_id: str, outcome: str, ms: float) -> None:
        """One line of JSON; none for a request without an id, such as the watchdog's test photos."""
        if request_id:
            facts = {"model": self._name, "request_id": request_id[:MAX_ID], "outcome": outcome}
            self.triton.Logger.log_info(json.dumps(facts | {"ms": round(ms, 1)}))
