"""Only what lies in ``Options.region`` can be foreground."""

import numpy as np
import pytest

from bgimage.codec import photo_from
from bgimage.contract import Contract
from bgimage.errors import NoPersonFound, OptionError
from bgimage.finish import finish
from bgimage.options import Options

PHOTO = photo_from(np.full((200, 300, 3), 120, np.uint8))
EVERYBODY = np.ones((320, 320), np.float32)


def matte(**options):
    return finish(PHOTO, EVERYBODY, Contract(), Options(**options))


def test_everything_outside_a_region_is_background_to_the_pixel():
    found = matte(region=(31, 17, 200, 101))
    wanted = np.zeros((200, 300), np.uint8)
    wanted[17:101, 31:200] = 255
    assert np.array_equal(found.matte, wanted)
    assert found.box == (31, 17, 200, 101)


def test_a_region_with_nobody_in_it_is_a_photo_of_nobody():
    alpha = EVERYBODY.copy()
    alpha[:, 160:] = 0
    with pytest.raises(NoPersonFound):
        finish(PHOTO, alpha, Contract(), Options(region=(200, 0, 300, 200), require_person=True))


@pytest.mark.parametrize("region", [(5, 5, 5, 9), (9, 5, 5, 9), (0, 0, 1), (-1, 0, 4, 4), "all"])
def test_a_region_that_is_no_box_is_refused(region):
    with pytest.raises(OptionError, match="region"):
        Options(region=region)


def test_a_region_outside_the_photo_is_refused():
    with pytest.raises(OptionError, match="300 x 200"):
        matte(region=(300, 0, 310, 10))


def test_a_region_travels_as_json():
    options = Options(region=(1, 2, 3, 4))
    assert Options.from_json(options.to_json()) == options
