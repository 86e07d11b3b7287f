"""OpenCV, imported when its first function is needed: it costs more than the rest of ``import bgimage`` together."""

from __future__ import annotations

from typing import Any


class _OpenCV:
    def __getattr__(self, name: str) -> Any:
        import cv2

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
