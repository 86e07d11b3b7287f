"""photo: an encoded image -> image: uint8 (3, S, S), RGB, letterboxed, what the network sees."""

import faulthandler
import json
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils

from bgimage.codec import decode
from bgimage.contract import Contract
from bgimage.errors import BgError
from bgimage.geometry import decode_side, network_input
from bgimage.meters import Meters

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
            photos = pb_utils.get_input_tensor_by_name(request, "photo").as_numpy().ravel()
            images = np.stack([self.image(photo) for photo in photos])
            return pb_utils.InferenceResponse([pb_utils.Tensor(self.contract.input_tensor, images)])
        except BgError as error:
            self.meters.refusal(error)
            return refusal(error.message(), pb_utils.TritonError.INVALID_ARG)
        except Exception:  # the traceback names paths: it stays here, in the server's log
            pb_utils.Logger.log_error(traceback.format_exc())
            return refusal("error: the photo could not be read", pb_utils.TritonError.INTERNAL)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def image(self, photo):
        with self.meters.stage("decode"):
            decoded = decode(photo, at_least=decode_side(self.contract))
        self.meters.photo(decoded.size_hw)
        with self.meters.stage("fit"):
            return network_input(decoded, self.contract)


def refusal(message, status):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, status))
