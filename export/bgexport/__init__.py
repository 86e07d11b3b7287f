"""Checkpoint to ONNX, TensorRT plan and Triton repository, with a check at every arrow."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bgclient")
except PackageNotFoundError:  # a checkout on PYTHONPATH, not installed
    __version__ = "0"
