"""ONNX Runtime and OpenVINO as they are imported here: with their telemetry off, so that nothing leaves the machine.

Imported plainly, ONNX Runtime (from 1.29) starts an uploader and OpenVINO asks for an analytics host; both write ids
into the user's home. Ruff refuses any other import of the two.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any


def onnxruntime() -> Any:
    """The module. ``ImportError`` where it is not installed. A user's own ORT_DISABLE_TELEMETRY is obeyed."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when the library is loaded
    return importlib.import_module("onnxruntime")


def session(
    model: str | os.PathLike[str] | bytes,
    *,
    threads: int = 0,
    providers: Sequence[Any] = ("CPUExecutionProvider",),
    **options: Any,
) -> Any:
    """An ``onnxruntime.InferenceSession``. ``ImportError`` where ONNX Runtime is not installed.

    Args:
        model: an ONNX file, or its bytes.
        threads: 0: ONNX Runtime's choice, one a core.
        providers: tried in this order. ONNX Runtime goes on without one that does not start.
        options: further attributes of ``SessionOptions``.
    """
    ort = onnxruntime()
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    # Spinning threads of one session slow every other process of the machine down, at no visible gain here.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, value in options.items():
        setattr(settings, name, value)
    return ort.InferenceSession(
        model if isinstance(model, bytes) else os.fspath(model), settings, providers=list(providers)
    )


def openvino() -> Any:
    """The module. ``ImportError`` where it is not installed."""
    # None makes the import fail, which OpenVINO expects: it then uses a stub of its own that sends nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")
