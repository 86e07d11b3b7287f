import numpy as np
import pytest

from bgbench import photos
from bgimage.codec import decode, probe


@pytest.mark.parametrize("megapixels", sorted(photos.SIZES_HW))
def test_a_size_has_the_megapixels_of_its_name_in_4_to_3(megapixels):
    height, width = photos.SIZES_HW[megapixels]
    assert height * width / 1e6 == pytest.approx(megapixels, rel=0.01)
    assert width / height == pytest.approx(4 / 3, rel=0.01)


def test_photos_are_real_jpegs_that_differ_and_are_kept(tmp_path):
    first = photos.jpegs(1, 2, tmp_path)
    assert [probe(one).format for one in first] == ["jpeg", "jpeg"]
    assert decode(first[0]).size_hw == photos.SIZES_HW[1]
    assert first[0] != first[1]
    assert photos.jpegs(1, 2, tmp_path) == first


def test_a_photo_is_the_same_each_time_and_has_grain():
    one, again = photos.photo(1, 3), photos.photo(1, 3)
    assert (one == again).all()
    rows = one.astype(np.int16)
    assert np.abs(np.diff(rows, axis=1)).mean() > 2  # enlarging alone would leave it smooth
