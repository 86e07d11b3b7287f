"""A second, closer look: which part of a photo, and where its answer belongs."""

import numpy as np
import pytest

from bgimage.closer import Closer
from bgimage.codec import Photo
from bgimage.contract import Contract
from bgimage.geometry import crop_letterbox, network_input

CONTRACT = Contract(size_hw=(96, 96))


def photo_of(height, width):
    """A dark photo with a bright figure, and where that is."""
    figure = np.s_[height // 2 : height // 2 + height // 5, width // 4 : width // 4 + width // 8]
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[figure] = 255
    return Photo(pixels), figure


def bright(photo, contract=CONTRACT):
    """A network that sees what is bright: alpha float32 (S, S)."""
    return (network_input(photo, contract)[0] > 140).astype(np.float32)


@pytest.mark.parametrize("size_hw", [(400, 600), (600, 400), (97, 1201), (512, 512)])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_the_answer_to_the_part_lies_where_the_answer_to_the_whole_photo_lies(size_hw, fit):
    contract = Contract(size_hw=(96, 96), fit=fit)
    photo, _ = photo_of(*size_hw)
    first = bright(photo, contract)
    closer = Closer.on(photo, crop_letterbox(first, size_hw, contract))
    again = closer.whole(bright(closer.photo, contract), size_hw, contract)
    assert again.dtype == np.float32
    assert again.shape == first.shape
    differs = (again > 0.5) != (first > 0.5)
    assert differs.sum() <= 0.35 * first.sum()  # a pixel along the outline of something small
    rows, columns = (np.average(np.arange(96), weights=first.sum(axis)) for axis in (1, 0))
    there = [np.average(np.arange(96), weights=again.sum(axis)) for axis in (1, 0)]
    np.testing.assert_allclose(there, (rows, columns), atol=0.6)


def test_the_part_holds_the_people_and_some_room_and_stays_inside_the_photo():
    photo, figure = photo_of(400, 600)
    closer = Closer.on(photo, crop_letterbox(bright(photo), photo.size_hw, CONTRACT))
    left, top, right, bottom = closer.box
    assert 130 < left < figure[1].start < figure[1].stop < right < 240
    assert 180 < top < figure[0].start < figure[0].stop < bottom < 300
    np.testing.assert_array_equal(closer.photo.pixels, photo.pixels[top:bottom, left:right])


def test_transparency_of_the_photo_is_looked_at_too_and_nobody_or_somebody_everywhere_gives_no_part():
    photo, _ = photo_of(400, 600)
    seen = crop_letterbox(bright(photo), photo.size_hw, CONTRACT)
    alpha = np.full((400, 600), 200, np.uint8)
    closer = Closer.on(Photo(photo.pixels, alpha), seen)
    assert closer.photo.alpha.shape == closer.photo.pixels.shape[:2]
    assert Closer.on(photo, seen * 0) is None
    assert Closer.on(photo, seen * 0 + 1) is None
