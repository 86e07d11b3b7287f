"""Photos that are transparent already: what nobody sees decides nothing, and cutting again changes nothing."""

import numpy as np
import pytest

from bgimage import transparent
from bgimage.codec import photo_from
from bgimage.contract import Contract
from bgimage.finish import finish
from bgimage.options import Options

CONTRACT = Contract()
RED = (200, 60, 40)


@pytest.fixture
def cut_out():
    """A red disc with an edge of 8 soft pixels, black under alpha 0: (320, 320, 4)."""
    y, x = np.mgrid[:320, :320]
    alpha = np.rint(np.clip((100 - np.hypot(y - 160, x - 160)) / 8 + 0.5, 0, 1) * 255).astype(np.uint8)
    return np.dstack([np.where(alpha[..., None] > 0, RED, 0).astype(np.uint8), alpha])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("under", [(0, 0, 0), (255, 255, 255), (0, 255, 0)])
def test_what_lies_under_alpha_0_is_nowhere_in_the_result(dtype, under, cut_out):
    cut_out[cut_out[..., 3] == 0, :3] = under
    deep = cut_out.astype(dtype) * (257 if dtype == np.uint16 else 1)
    # a network that is wrong by some pixels, on both sides
    y, x = np.mgrid[:320, :320]
    for radius in (90, 110):
        answer = np.clip((radius - np.hypot(y - 160, x - 160)) / 20 + 0.5, 0, 1).astype(np.float32)
        done = finish(photo_from(deep), answer, CONTRACT).pixels
        soft = (done[..., 3] > 0) & (cut_out[..., 3] < 255)
        np.testing.assert_array_equal(
            done[soft][:, :3], np.broadcast_to(np.array(RED) * (deep.max() // 255), (soft.sum(), 3))
        )
        sure = done[..., 3] > 0
        assert np.abs(done[sure][:, :3].astype(int) // (deep.max() // 255) - RED).max() <= 2


def test_to_cut_a_cut_out_again_changes_nothing(cut_out):
    alpha = cut_out[..., 3]
    seen = (alpha / 255).astype(np.float32)  # the network repeats the photo's own edge
    done = finish(photo_from(cut_out), seen, CONTRACT).pixels
    np.testing.assert_allclose(done[..., 3].astype(int), alpha, atol=2)
    shrunk = np.where(seen >= 1, 0.97, seen * 0.8).astype(np.float32)  # or draws it further inside
    done = finish(photo_from(cut_out), shrunk, CONTRACT).pixels
    np.testing.assert_allclose(done[..., 3].astype(int), alpha, atol=2)


def test_what_is_no_person_is_cut_off_a_cut_out(cut_out):
    answer = np.zeros((320, 320), np.float32)
    answer[:, :160] = cut_out[:, :160, 3] / 255  # half of the disc
    done = finish(photo_from(cut_out), answer, CONTRACT).pixels
    assert done[160, 100, 3] == 255
    assert done[160, 250, 3] == 0
    edge = np.s_[160, 55:66, 3]
    np.testing.assert_allclose(
        done[edge].astype(int), cut_out[edge], atol=8
    )  # the photo's own, not its square


def test_a_picture_with_round_corners_is_no_cut_out():
    photo = np.full((320, 320, 4), 255, np.uint8)
    photo[:10, :10, 3] = 0
    answer = np.ones((320, 320), np.float32)
    answer[200:230] = 0
    done = finish(photo_from(photo), answer, CONTRACT, Options(edges="none")).pixels
    assert done[215, 160, 3] == 0


def test_half_transparent_areas_keep_their_alpha_and_colours(cut_out):
    glass = cut_out.copy()
    glass[..., 3] = 128
    glass[..., :3] = np.random.default_rng(0).integers(0, 255, glass[..., :3].shape)
    answer = np.zeros((320, 320), np.float32)
    answer[100:220, 100:220] = 1
    done = finish(photo_from(glass), answer, CONTRACT).pixels
    inside = done[..., 3] > 0
    np.testing.assert_array_equal(done[inside][:, :3], glass[inside][:, :3])
    np.testing.assert_array_equal(done[150:170, 150:170, 3], 128)


def test_an_inverse_has_the_photos_edge_once(cut_out):
    nobody = np.zeros((320, 320), np.float32)
    done = finish(photo_from(cut_out), nobody, CONTRACT, Options(output="inverse")).pixels
    np.testing.assert_array_equal(done[..., 3], cut_out[..., 3])


def test_a_photo_of_which_nothing_is_visible_is_no_fault():
    empty = photo_from(np.zeros((40, 60, 4), np.uint8))
    assert not finish(empty, np.ones((320, 320), np.float32), CONTRACT).pixels.any()
    assert transparent.visible(empty).pixels.shape == (40, 60, 3)
