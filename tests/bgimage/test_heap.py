"""glibc's heap, asked in a process of its own: it has one, and keeps what it was told."""

import os
import subprocess
import sys

import pytest

from bgimage import heap

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")

MAPPED = """
import ctypes, sys
from bgimage import heap
if sys.argv[1:] == ["tune"]:
    heap.tune()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")]
libc.mallinfo2.restype = Info
before = libc.mallinfo2().hblks
libc.malloc(1 << 20)
libc.malloc(8 << 20)
print(libc.mallinfo2().hblks - before)
"""


def pieces_of_the_kernel(*arguments: str, **variables: str) -> int:
    """Of one megabyte and eight, how many were asked of the kernel directly."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", MAPPED, *arguments]
    done = subprocess.run(
        command, env=environment | variables, capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


def test_a_tuned_process_keeps_small_pieces_and_gives_large_ones_back():
    assert pieces_of_the_kernel() == 2
    assert pieces_of_the_kernel("tune") == 1


def test_the_environment_says_the_same_to_a_process_that_is_yet_to_start():
    assert pieces_of_the_kernel(**heap.environment()) == 1


def test_a_setting_of_the_user_stays():
    assert pieces_of_the_kernel("tune", MALLOC_MMAP_THRESHOLD_="65536") == 2


HOLES = """
import time
import numpy as np
from bgimage import heap

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

heap.tune(trim_every_s=0.2)
pieces = [np.ones(100_000, np.uint8) for _ in range(2000)]
full = resident_mb()
kept = pieces[::50]  # what lies between them is free, and none of it at the heap's end
del pieces
until = time.monotonic() + 30
while resident_mb() > full - 150 and time.monotonic() < until:
    time.sleep(0.1)
print(full - resident_mb())
"""


def test_what_lies_free_between_pieces_in_use_goes_back_to_the_kernel():
    done = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) > 150  # of 200 MB
