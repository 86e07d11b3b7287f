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
