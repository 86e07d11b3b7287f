"""Work that is done once is done for each photo by itself, whatever other threads do with theirs."""

import threading
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter

import numpy as np
import pytest

from bgclient.results import Cutout
from bgimage import codec
from bgimage.finish import Finished
from bgimage.once import cached_property


class Rows:
    """A picture whose rows are there once those of another one are asked for too."""

    shape = (4, 4, 4)
    dtype = np.dtype(np.uint8)

    def __init__(self, both):
        self.both = both

    def __getitem__(self, rows):
        self.both.wait(20.0)
        return np.zeros(self.shape, np.uint8)


def finished(both):
    return Finished(picture=Rows(both), matte=np.zeros((4, 4), np.uint8), box=None, expected_iou=0.0)


MADE_ONCE = {
    "middle": lambda both: codec.photo_from(np.zeros((4, 4, 3), np.uint8)),
    "pixels": finished,
    "image": lambda both: Cutout(finished(both), timings=None),
}


@pytest.mark.parametrize("name", MADE_ONCE)
def test_two_threads_work_on_two_photos_at_a_time(name, monkeypatch):
    both = threading.Barrier(2)
    monkeypatch.setattr(codec, "block_means", lambda pixels, k: pixels * both.wait(20.0))
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(attrgetter(name), [MADE_ONCE[name](both) for _ in range(2)]))
    assert len(made) == 2


def test_what_was_made_once_is_kept():
    made = []

    class Thing:
        @cached_property
        def value(self):
            made.append(self)
            return object()

    one, other = Thing(), Thing()
    assert one.value is one.value
    assert other.value is not one.value
    assert made == [one, other]
    assert isinstance(Thing.value, cached_property)
