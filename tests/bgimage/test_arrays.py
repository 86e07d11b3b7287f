"""One rule from 16 to 8 bits."""

import numpy as np

from bgimage.arrays import eight_bits


def test_sixteen_bits_become_the_nearest_of_eight():
    deep = np.arange(65536, dtype=np.uint16)
    assert np.abs(deep / 257 - eight_bits(deep)).max() <= 0.5
    shallow = np.arange(256, dtype=np.uint8)
    assert np.array_equal(eight_bits(shallow.astype(np.uint16) * 257), shallow)
    assert eight_bits(shallow) is shallow
