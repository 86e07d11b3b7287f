"""glibc's heap (mallopt(3)), set for photos: few arenas, and freed memory kept for the next pieces of work.

By itself glibc keeps a heap for every few threads, each as large as the largest photo that passed through it, and gives
freed pieces of a few hundred kilobytes back to the kernel, which must then zero each page again: much of the processor
time of a cut-out of one megapixel (docs/pixels.md, "Cost"). What is kept lies between pieces in use, and grows for an
hour where photos of many sizes come and go; so a thread gives it back once a minute. A process has one heap for all of
its code, so the library never sets it by itself: this project's programs do, and the server that they start.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time

_SETTINGS = (
    # variable, number in malloc.h, value
    ("MALLOC_ARENA_MAX", -8, 2),
    ("MALLOC_MMAP_THRESHOLD_", -3, 4 << 20),  # larger pieces go back to the kernel when they are freed
    ("MALLOC_TRIM_THRESHOLD_", -1, 64 << 20),  # so much of the smaller ones is kept
)


def environment() -> dict[str, str]:
    """Variables for a process that is yet to start."""
    return {name: str(value) for name, _, value in _SETTINGS}


def tune(trim_every_s: float = 60.0) -> None:
    """This process, before it starts threads; what the user has set stays. Elsewhere than with glibc: nothing.

    Args:
        trim_every_s: how often free memory goes back to the kernel (malloc_trim(3)), for processes that live long.
    """
    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    for name, number, value in _SETTINGS:
        if name not in os.environ:
            libc.mallopt(number, value)

    def trimming() -> None:
        while True:
            time.sleep(trim_every_s)
            libc.malloc_trim(0)

    threading.Thread(target=trimming, name="bgimage-heap", daemon=True).start()
