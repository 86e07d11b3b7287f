"""ONNX Runtime and OpenVINO as they are imported here: with their telemetry off, so that nothing leaves the machine.

Imported plainly, ONNX Runtime (from 1.29) starts an uploader and OpenVINO asks for an analytics host; both write ids
into the user's home. Ruff refuses any other import of the two.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def onnxruntime() -> Any:
    """The module. ``ImportError`` where it is not installed. A user's own ORT_DISABLE_TELEMETRY is obeyed."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when the library is loaded
    return importlib.import_module("onnxruntime")


def openvino() -> Any:
    """The module. ``ImportError`` where it is not installed."""
    # None makes the import fail, which OpenVINO expects: it then uses a stub of its own that sends nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")
