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
