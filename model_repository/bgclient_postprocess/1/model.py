"""photo, alpha: float32 (1, S, S), options: JSON of bgimage's Options -> cutout: an encoded image, facts: JSON."""

import triton_python_backend_utils as pb_utils  # first: with the pip-installed server it decides which numpy

# isort: split
import numpy as np

from bgimage.codec import decode
from bgimage.finish import finish
from bgimage.options import Options
from bgserver.photo_model import PhotoModel


class TritonPythonModel(PhotoModel):
    triton = pb_utils
    failure = "the cut-out could not be made"

    def answer(self, request):
        photos = self.photos(request)
        alphas = self.tensor(request, self.contract.output_tensor)
        given = self.tensor(request, "options")
        options = [b"{}"] * len(photos) if given is None else given.ravel()
        made = [
            self.cutout(photo, alpha[0], asked)
            for photo, alpha, asked in zip(photos.ravel(), alphas, options, strict=True)
        ]
        return {
            name: np.array(values, dtype=object).reshape(photos.shape)
            for name, values in zip(("cutout", "facts"), zip(*made, strict=True), strict=True)
        }

    def cutout(self, photo, alpha, options):
        asked = Options.from_json(options)
        with self.stage("decode"):
            decoded = decode(photo)
        self.meters.photo(decoded.size_hw)
        with self.stage("finish"):
            finished = finish(decoded, alpha, self.contract, asked)
        del decoded  # its planes are large, and the encoder needs memory too
        with self.meters.stage("encode"):
            encoded = finished.encode()
        self.meters.cutout(found=finished.box is not None)
        return encoded, finished.facts()
