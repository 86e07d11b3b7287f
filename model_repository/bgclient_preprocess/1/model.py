"""photo: an encoded image -> image: uint8 (3, S, S), RGB, letterboxed, what the network sees."""

import triton_python_backend_utils as pb_utils  # first: with the pip-installed server it decides which numpy

# isort: split
import numpy as np

from bgimage.codec import decode
from bgimage.geometry import decode_side, network_input
from bgserver.photo_model import PhotoModel


class TritonPythonModel(PhotoModel):
    triton = pb_utils
    failure = "the photo could not be read"

    def answer(self, request):
        photos = self.photos(request).ravel()
        return {self.contract.input_tensor: np.stack([self.image(photo) for photo in photos])}

    def image(self, photo):
        with self.stage("decode"):
            decoded = decode(photo, at_least=decode_side(self.contract))
        self.meters.photo(decoded.size_hw)
        with self.meters.stage("fit"):
            return network_input(decoded, self.contract)
