"""Checkpoint to ONNX, TensorRT plan and Triton repository, with a check at every arrow."""

from importlib.metadata import version

__version__ = version("bgclient")
