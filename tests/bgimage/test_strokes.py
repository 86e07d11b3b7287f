"""Marks: what is refused, what they cover, and what they decide again."""

import numpy as np
import pytest

from bgimage import strokes
from bgimage.codec import photo_from
from bgimage.contract import Contract
from bgimage.errors import OptionError
from bgimage.finish import finish
from bgimage.options import Options
from bgimage.strokes import Stroke

CONTRACT = Contract(size_hw=(96, 96))


@pytest.fixture
def scene():
    """A grey photo, 192 x 192: a brown person that the network sees, a red flag that it does not, a blue passer-by."""
    pixels = np.full((192, 192, 3), 90, np.uint8)
    pixels[60:190, 20:80] = (140, 90, 40)
    pixels[20:60, 60:120] = (200, 30, 30)
    pixels[80:180, 130:170] = (40, 60, 170)
    alpha = np.zeros((96, 96), np.float32)
    alpha[30:95, 10:40] = alpha[40:90, 65:85] = 0.95
    alpha[10:30, 30:60] = 0.2
    return photo_from(pixels), alpha


def matte(scene, **options):
    return finish(*scene, CONTRACT, Options(people="all", **options)).matte > 127


FLAG, PERSON, PASSER_BY = np.s_[24:56, 66:116], np.s_[66:186, 26:74], np.s_[84:176, 134:166]


def test_a_keep_stroke_brings_the_part_back_that_it_touches(scene):
    assert not matte(scene)[FLAG].any()
    kept = matte(scene, keep=[{"points": [[75, 40], [100, 40]], "radius": 3}])
    assert kept[FLAG].all()
    assert kept[PERSON].all()
    kept[18:62, 58:122] = False
    before = matte(scene)
    before[18:62, 58:122] = False
    assert np.array_equal(kept, before), "nothing changes but the part and its rim"


def test_a_remove_stroke_takes_the_passer_by_away(scene):
    left = matte(scene, remove=[(150, 120)])
    assert not left[76:186, 126:174].any()
    assert left[PERSON].all()


def test_whom_a_mark_keeps_stays_whoever_else_is_meant(scene):
    assert not finish(*scene, CONTRACT, Options(people="main")).matte[PASSER_BY].any()
    both = finish(*scene, CONTRACT, Options(people="main", keep=[(150, 120)])).matte
    assert both[PASSER_BY].all()
    assert both[PERSON].all()


def test_a_removed_person_does_not_hide_another(scene):
    """The part that people= means is chosen among those that the marks leave."""
    left = finish(*scene, CONTRACT, Options(people="main", remove=[(50, 120)])).matte > 127
    assert left[PASSER_BY].all()
    assert not left[PERSON].any()


def test_a_box_says_of_all_in_it_what_it_is(scene):
    left = matte(scene, remove=[(0, 100, 192, 192)])
    assert not left[104:].any()


def test_where_both_cover_a_pixel_it_is_removed(scene):
    both = matte(scene, keep=[(30, 70, 60, 170)], remove=[(30, 70, 60, 170)])
    assert not both[76:164, 36:54].any()


def test_the_order_of_marks_does_not_matter(scene):
    one, other = (75, 40), Stroke(((90, 30), (110, 50)), 2)
    assert np.array_equal(matte(scene, keep=[one, other]), matte(scene, keep=[other, one]))


def test_marks_mean_the_same_pixels_from_python_and_from_json(scene):
    options = Options(keep=[(75, 40), Stroke(((90, 30), (110.5, 50)), 2)], remove=[[130, 80, 170, 180]])
    again = Options.from_json(options.to_json())
    assert again == options
    first, second = (finish(*scene, CONTRACT, one) for one in (options, again))
    assert np.array_equal(first.pixels, second.pixels)


def test_a_mark_covers_what_lies_within_its_radius():
    stroke = Stroke(((20, 40), (60, 40)), 10)
    covered = strokes.drawn("keep", [stroke], (100, 100), (50, 50))
    y, x = np.mgrid[:50, :50] * 2 + 1
    distance = np.hypot(np.maximum(np.maximum(20 - x, x - 60), 0), y - 40)
    assert np.array_equal(covered, distance <= 10)


@pytest.mark.parametrize(
    "mark", [(0, 0), (300, 200), (299.9, 0.1), (10, 10, 10.1, 10.1), Stroke(((7, 7),), 0)]
)
def test_the_smallest_mark_covers_a_pixel(mark):
    assert 1 <= strokes.drawn("keep", [mark], (200, 300), (64, 96)).sum() <= 2


def test_distance_adds_up_colour_and_takes_the_way_around_a_wall():
    colours = np.zeros((3, 40, 40), np.float32)
    colours[:, :30, 20] = 1  # a wall with a gap below
    seed = np.zeros((40, 40), bool)
    seed[5, 5] = True
    limits = np.full((40, 40), 3, np.float32)
    limits[:, 38:] = 0  # the other side of the outline
    found = strokes.distances(seed, strokes.steps(colours), limits)
    assert found[:, 38:].min() == strokes.UNREACHED, "nothing crosses the outline"
    down_and_up_again = 2 * (15 * np.sqrt(2) + 10)
    assert found[5, 35] == pytest.approx(float(strokes.STEP) * down_and_up_again, rel=1e-4)
    assert found[5, 20] == pytest.approx(np.sqrt(3), rel=0.05)
    nothing = strokes.distances(np.zeros_like(seed), strokes.steps(colours), limits)
    assert nothing.min() == strokes.UNREACHED, "no seeds, no distance"


def test_a_pixel_at_its_limit_hands_nothing_on():
    limits = np.full((9, 30), 1, np.float32)
    limits[:, 15] = 2.5 * strokes.STEP  # eight steps away
    seed = np.zeros(limits.shape, bool)
    seed[4, 7] = True
    found = strokes.distances(seed, strokes.steps(np.zeros((3, *limits.shape), np.float32)), limits)
    assert found[4, 14] == pytest.approx(7 * float(strokes.STEP), rel=1e-4)
    assert found[:, 15:].min() == strokes.UNREACHED


@pytest.mark.parametrize("seed", [(0, 0), (20, 31), (39, 49)])
def test_rows_that_nothing_has_reached_yet_are_left_out_without_a_difference(seed):
    """``_carry`` begins at the first row that is reached, and ends where it reaches no more."""
    rng = np.random.default_rng(4)
    costs = strokes.steps(rng.random((3, 40, 50), np.float32) / 20)
    limits = rng.random((40, 50), np.float32)
    seeds = np.zeros((40, 50), bool)
    seeds[seed] = True
    wanted = np.where(seeds, np.float32(0), strokes.UNREACHED)
    for falling, straight, rising in costs:
        limit = limits if wanted.shape == limits.shape else limits.T
        last = len(wanted) - 1
        for to, back in [(at, at - 1) for at in range(1, last + 1)] + [
            (at, at + 1) for at in range(last)[::-1]
        ]:
            cell, (left, right) = min(to, back), (falling, rising) if back < to else (rising, falling)
            for x in range(wanted.shape[1]):
                ways = [(x, straight[cell, x]), (x - 1, left[cell, x]), (x + 1, right[cell, x + 1])]
                found = min(wanted[back, at] + cost for at, cost in ways if 0 <= at < wanted.shape[1])
                if found < min(wanted[to, x], limit[to, x]):
                    wanted[to, x] = found
        wanted = np.ascontiguousarray(wanted.T)
    assert np.array_equal(strokes.distances(seeds, costs, limits), wanted)


def test_a_small_mark_does_not_flood_a_plain_background():
    """A dot on a lost finger before a white wall brings no wall along."""
    photo = photo_from(np.full((384, 384, 3), 230, np.uint8))
    alpha = np.zeros((384, 384), np.float32)
    alpha[200:, 150:250] = 1
    found = finish(photo, alpha, Contract(size_hw=(384, 384)), Options(keep=[(200, 150)])).matte > 127
    assert found[150, 200]
    assert found[:200].mean() < 0.2


def test_nobody_is_found_but_by_a_mark(scene):
    photo, alpha = scene
    found = finish(photo, 0 * alpha, CONTRACT, Options(keep=[(50, 120)], require_person=True))
    assert (found.matte[PERSON] > 127).all()


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ("here", "list of marks"),
        ((120, 80), "list of marks"),
        ([(1, 2, 3)], "a mark is"),
        ([("a", "b")], "0 or more"),
        ([(-1, 2)], "0 or more"),
        ([(float("nan"), 2)], "0 or more"),
        ([(True, 2)], "0 or more"),
        ([(9, 9, 3, 12)], "empty box"),
        ([{"points": []}], "a stroke is"),
        ([{"points": [[1, 2]], "width": 3}], "a stroke is"),
        ([{"points": [[1, 2]], "radius": "3"}], "0 or more"),
        ([{"points": [[1, 2]] * 1001}], "2003 numbers; use at most 2000"),
    ],
)
@pytest.mark.parametrize("field", ["keep", "remove"])
def test_what_is_no_mark_is_refused_with_the_mend(field, marks, words):
    with pytest.raises(OptionError, match=words) as refused:
        Options(**{field: marks})
    assert str(refused.value).startswith(field)
    assert len(str(refused.value)) < 300


def test_a_mark_outside_the_photo_is_refused(scene):
    with pytest.raises(OptionError, match=r"remove: \[193.0, 5.0\] is outside the photo of 192 x 192"):
        matte(scene, remove=[Stroke(((5, 5), (193, 5)))])
