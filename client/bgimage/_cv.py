"""OpenCV, imported when its first function is needed: it costs more than the rest of ``import bgimage`` together."""

from __future__ import annotations

import os
import sys
from typing import Any


class _OpenCV:
    def __getattr__(self, name: str) -> Any:
        first = "cv2" not in sys.modules
        import cv2

        if first and "OPENCV_LOG_LEVEL" not in os.environ:
            # it would write to stderr for broken photos; the error says all of it
            logging: Any = cv2.utils.logging
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        value = getattr(cv2, name)
        setattr(self, name, value)  # the next use finds it without this method
        return value


cv2: Any = _OpenCV()


def set_threads(count: int) -> None:
    """Threads that OpenCV may use in this process; 1 in a server whose requests already share out the cores.

    OpenCV keeps one number per process, so the library never sets it by itself: a program's entry point does. Results
    do not depend on it.
    """
    cv2.setNumThreads(count)
