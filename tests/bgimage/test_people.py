"""Specks, holes and the choice of people."""

import numpy as np
import pytest

from bgimage import people


def blank():
    return np.zeros((120, 160), np.float32)


@pytest.fixture
def one():
    """A person with a soft rim, columns 40 to 80."""
    alpha = blank()
    alpha[20:110, 40:80] = 1
    alpha[20:110, 39] = alpha[20:110, 80] = 0.4
    return alpha


def test_specks_go_and_everything_else_stays(one):
    speckled = one.copy()
    speckled[5:7, 130:132] = 0.9
    speckled[60:63, 120:122] = 1
    np.testing.assert_array_equal(people.cleaned(speckled), one)
    np.testing.assert_array_equal(people.cleaned(one), one)


def test_what_is_smaller_than_any_person_who_is_meant_is_nobody():
    alpha = np.zeros((200, 300), np.float32)
    alpha[80:92, 150:162] = 1  # 0.24 % of the picture: a rocket's tip
    assert people.cleaned(alpha).max() == 0
    alpha[80:100, 150:162] = 1  # 0.4 %
    assert people.cleaned(alpha).sum() == 240


def test_a_half_transparent_body_is_decided_and_its_rim_stays_soft(one):
    doubtful = one.copy()
    doubtful[40:60, 50:70] = 0.7  # a ghost inside the coat
    doubtful[100:118, 100:118] = 0.3  # another in the background
    np.testing.assert_allclose(people.decided(doubtful), one, atol=1e-6)


def test_deciding_moves_no_contour():
    wedge = np.tile(np.linspace(0, 1, 160, dtype=np.float32), (120, 1))
    decided = people.decided(wedge)
    np.testing.assert_array_equal(decided > 0.5, wedge > 0.5)
    assert set(np.unique(decided[:, [0, 40, 120, 159]])) == {0, 1}
    for nobody in (blank(), blank() + np.float32(0.2)):
        assert not people.decided(nobody).any()
    assert people.decided(blank() + np.float32(0.8)).all()


def test_pinholes_are_filled_and_real_gaps_are_not(one):
    holed = one.copy()
    holed[50:52, 60:62] = 0
    np.testing.assert_array_equal(people.cleaned(holed), one)
    gap = one.copy()
    gap[40:70, 55:65] = 0  # between arm and body
    np.testing.assert_array_equal(people.cleaned(gap), gap)
    soft = one.copy()
    soft[50:52, 60:62] = 0.7  # a veil is no hole
    np.testing.assert_array_equal(people.cleaned(soft), soft)


def test_an_empty_matte_stays_empty():
    assert not people.cleaned(blank()).any()
    assert not people.parts(blank()).any()
    assert not people.chosen(blank(), "main", (480, 640)).any()
    assert not people.chosen(blank(), (3, 3), (480, 640)).any()


def test_people_who_hold_hands_are_two():
    alpha = blank()
    alpha[20:110, 20:60] = 1
    alpha[20:110, 90:130] = 1
    alpha[60:65, 60:90] = 1
    parts = people.parts(alpha)
    assert set(np.unique(parts)) == {0, 1, 2}
    assert parts[50, 40] != parts[50, 110]
    left = people.chosen(alpha, (4 * 40, 4 * 50), (480, 640))
    assert left[:, :60].sum() == alpha[:, :60].sum()
    assert left[:, 95:].sum() == 0


def test_head_and_arms_belong_to_their_body():
    alpha = blank()
    y, x = np.mgrid[:120, :160]
    alpha[np.hypot(y - 20, x - 80) < 12] = 1  # head
    alpha[30:40, 76:85] = 1  # neck
    alpha[38:90, 60:100] = 1
    alpha[45:52, 20:60] = 1  # arm
    alpha[90:118, 62:75] = 1
    alpha[90:118, 85:98] = 1
    assert people.parts(alpha).max() == 1


def test_people_shoulder_to_shoulder_stay_one_part():
    alpha = blank()
    alpha[20:110, 20:60] = 1
    alpha[30:110, 60:100] = 1
    assert people.parts(alpha).max() == 1


def test_soft_edges_go_with_their_person(one):
    two = one.copy()
    two[30:100, 110:150] = 1
    kept = people.chosen(two, (4 * 60, 4 * 60), (480, 640))
    np.testing.assert_array_equal(kept[:, :95], one[:, :95])
    assert not kept[:, 96:].any()


def test_passers_by_go_and_what_is_near_or_large_stays(one):
    crowd = one.copy()
    crowd[50:60, 5:9] = 1  # far and small
    crowd[90:100, 82:88] = 1  # a hand behind a table
    crowd[20:80, 120:140] = 1  # a third of the largest
    wanted = crowd.copy()
    wanted[50:60, 5:9] = 0
    np.testing.assert_array_equal(people.chosen(crowd, "subjects", (120, 160)), wanted)
    np.testing.assert_array_equal(people.chosen(crowd, "all", (120, 160)), crowd)
    np.testing.assert_array_equal(people.chosen(one, "subjects", (120, 160)), one)
    assert not people.chosen(blank(), "subjects", (120, 160)).any()


def test_who_stands_farther_away_beside_the_largest_is_a_passer_by():
    scene = blank()
    scene[10:115, 40:80] = 1
    farther, child, raised, bust = (blank() for _ in range(4))
    farther[20:75, 90:105] = 1
    child[60:115, 90:105] = 1  # its feet on the same ground
    raised[5:60, 90:105] = 1  # reaches above the largest
    bust[20:45, 90:105] = 1  # less than TALL: a hand behind a pole
    for other in (child, raised, bust):
        np.testing.assert_array_equal(people.chosen(scene + other, "subjects", (120, 160)), scene + other)
    np.testing.assert_array_equal(people.chosen(scene + farther, "subjects", (120, 160)), scene)
    np.testing.assert_array_equal(people.chosen(scene + farther, "all", (120, 160)), scene + farther)


def test_main_prefers_the_middle_among_equals():
    alpha = blank()
    alpha[20:60, 0:20] = 1
    alpha[40:80, 70:90] = 1
    assert people.chosen(alpha, "main", (480, 640))[60, 80] == 1
    assert people.chosen(alpha, "main", (480, 640))[40, 10] == 0


def test_a_box_that_holds_no_one_whole_takes_who_is_most_in_it(one):
    assert people.chosen(one, (4 * 40, 4 * 20, 4 * 50, 4 * 40), (480, 640)).sum() == one.sum()
    assert people.chosen(one, (4 * 120, 0, 640, 480), (480, 640)).sum() == 0
