"""photo, alpha: float32 (1, S, S), options: JSON of bgimage's Options -> cutout: an encoded image, facts: JSON."""

import faulthandler
import json
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils

from bgimage.codec import decode
from bgimage.contract import Contract
from bgimage.errors import BgError
from bgimage.finish import finish
from bgimage.meters import Meters
from bgimage.options import Options

STUCK_S = 120
"""A request that takes longer ends this process: a stuck model becomes a dead one, which is noticed."""


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.contract = Contract.from_json(parameters["contract"]["string_value"])
        self.meters = Meters(pb_utils.MetricFamily, args["model_name"])

    def execute(self, requests):
        return [self.response(request) for request in requests]

    def response(self, request):
        faulthandler.dump_traceback_later(STUCK_S, exit=True)
        try:
            if request.is_cancelled():
                return refusal("the client cancelled", pb_utils.TritonError.CANCELLED)
            photos = pb_utils.get_input_tensor_by_name(request, "photo").as_numpy()
            alphas = pb_utils.get_input_tensor_by_name(request, self.contract.output_tensor).as_numpy()
            given = pb_utils.get_input_tensor_by_name(request, "options")
            options = given.as_numpy().ravel() if given is not None else [b"{}"] * len(photos)
            cutouts = [
                self.cutout(photo, alpha[0], asked)
                for photo, alpha, asked in zip(photos.ravel(), alphas, options, strict=True)
            ]
            answers = [
                pb_utils.Tensor(name, np.array(values, dtype=object).reshape(photos.shape))
                for name, values in zip(("cutout", "facts"), zip(*cutouts, strict=True), strict=True)
            ]
            return pb_utils.InferenceResponse(answers)
        except BgError as error:
            self.meters.refusal(error)
            return refusal(error.message(), pb_utils.TritonError.INVALID_ARG)
        except Exception:  # the traceback names paths: it stays here, in the server's log
            pb_utils.Logger.log_error(traceback.format_exc())
            return refusal("error: the cut-out could not be made", pb_utils.TritonError.INTERNAL)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def cutout(self, photo, alpha, options):
        asked = Options.from_json(options)
        with self.meters.stage("decode"):
            decoded = decode(photo)
        self.meters.photo(decoded.size_hw)
        with self.meters.stage("finish"):
            finished = finish(decoded, alpha, self.contract, asked)
        with self.meters.stage("encode"):
            encoded = finished.encode()
        self.meters.cutout(found=finished.box is not None)
        return encoded, finished.facts()


def refusal(message, status):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, status))
