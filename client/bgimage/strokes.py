"""Keep and remove: marks that are drawn on a photo decide the parts they touch again.

A mark speaks for what it covers, and for what hangs together with it by colour: the geodesic distance (Bai and Sapiro
2007; swept as by Weber et al. 2008) adds up the changes of colour on the way from the mark. A part is taken as far as
that distance stays below a reach, which is longer where the network agrees with the mark. Every step is one of IEEE's
exact float32 operations in a fixed order: the same marks give the same answer on every machine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bgimage import people
from bgimage._cv import cv2
from bgimage.arrays import planes
from bgimage.errors import OptionError

if TYPE_CHECKING:
    from bgimage.codec import Photo
    from bgimage.options import Options

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MOST = 2000
"""Numbers that all marks of one list may have together: about ten kilobytes of JSON."""
FURTHEST = 1e6
"""Pixels; no photo is wider."""

REACH = np.float32(0.35)
"""Change of colour (1: from black to white in one channel) that a mark reaches where the network contradicts it, ..."""
AGREED = np.float32(5)
"""... and by how much farther where the network is of its opinion, times the root of its probability."""
STEP = np.float32(0.005)
"""What a step of one pixel costs where the colour stays the same: a small mark does not flood a plain background. These
three were chosen on validation photos."""
SOFT = np.float32(0.2)
"""Distances about the end of the reach over which the alpha falls from 1 to 0."""
UNREACHED = np.float32(1e6)
"""The distance of a pixel that no mark reaches."""


@dataclass(frozen=True)
class Stroke:
    """A line drawn with a round brush."""

    points: tuple[tuple[float, float], ...]
    """(x, y) of its corners, pixels of the upright photo."""
    radius: float = 0.0
    """Of the brush, pixels of the photo; 0: the thinnest line."""


Mark = tuple[float, float] | tuple[float, float, float, float] | Stroke
"""A point (x, y), a box (left, top, right, bottom), all of which is meant, or a stroke; pixels of the upright photo."""


def checked(field: str, value: Any) -> tuple[Mark, ...]:
    """The marks in ``value``: a list of points, boxes and strokes; a stroke may be {"points": [...], "radius": ...}.

    Raises:
        OptionError: something else, or more than ``MOST`` numbers.
    """
    if not isinstance(value, list | tuple) or any(isinstance(mark, int | float) for mark in value):
        raise _refused(field, value, "use a list of marks, such as [[120, 80]]")
    marks = tuple(_mark(field, mark) for mark in value)
    count = sum(2 * len(mark.points) + 1 if isinstance(mark, Stroke) else len(mark) for mark in marks)
    if count > MOST:
        raise OptionError(f"{field}: {count} numbers; use at most {MOST}, strokes with fewer points")
    return marks


def plain(value: object) -> Any:
    """What ``json.dumps`` writes for a stroke, as its ``default``."""
    if isinstance(value, Stroke):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def _mark(field: str, value: Any) -> Mark:
    if isinstance(value, Stroke):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        points, radius = value.get("points"), value.get("radius", 0)
        if set(value) - {"points", "radius"} or not isinstance(points, list | tuple) or not points:
            raise _refused(field, value, 'a stroke is {"points": [[x, y], ...], "radius": pixels}')
        corners = tuple(_numbers(field, point, (2,)) for point in points)
        return Stroke(corners, _numbers(field, [radius], (1,))[0])  # type: ignore[arg-type]
    numbers = _numbers(field, value, (2, 4))
    if len(numbers) == 4 and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise _refused(field, value, "an empty box; use left < right and top < bottom")
    return numbers  # type: ignore[return-value]


def _numbers(field: str, value: Any, lengths: tuple[int, ...]) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) not in lengths:
        raise _refused(
            field, value, 'a mark is [x, y], [left, top, right, bottom] or {"points": ..., "radius": ...}'
        )
    for number in value:
        known = isinstance(number, int | float) and not isinstance(number, bool)
        if not known or not math.isfinite(number) or not 0 <= number <= FURTHEST:
            raise _refused(field, value, "use pixels of the photo, 0 or more")
    return tuple(int(number) if float(number).is_integer() else float(number) for number in value)


def _refused(field: str, value: Any, advice: str) -> OptionError:
    text = repr(value)
    return OptionError(f"{field}={text if len(text) <= 100 else text[:100] + '...'}: {advice}")


def drawn(field: str, marks: Sequence[Mark], size_hw: tuple[int, int], shape: tuple[int, int]) -> Mask:
    """bool ``shape``: the small pixels of a photo of ``size_hw`` that the marks cover; at least one a mark.

    Raises:
        OptionError: a mark that leaves the photo.
    """
    (height, width), (rows, columns) = size_hw, shape
    covered = np.zeros(shape, bool)
    for mark in marks:
        stroke = mark if isinstance(mark, Stroke) else None
        points = np.array(stroke.points if stroke else mark, np.float64).reshape(-1, 2)
        if (points > (width, height)).any():
            said = f"{points[(points > (width, height)).any(1)][0].tolist()}"
            raise OptionError(f"{field}: {said} is outside the photo of {width} x {height} pixels")
        points *= (columns / width, rows / height)
        if stroke is None and len(points) == 2:
            (left, top), (right, bottom) = points
            covered[int(top) : math.ceil(bottom), int(left) : math.ceil(right)] = True
            continue
        radius = max(0.5, (stroke.radius if stroke else 0) * columns / width)
        for start, end in zip(points, points[1:] if len(points) > 1 else points, strict=False):
            _line(covered, start, end, radius)
        for x, y in points:
            covered[min(rows - 1, int(y)), min(columns - 1, int(x))] = True
    return covered


def _line(covered: Mask, start: NDArray[np.float64], end: NDArray[np.float64], radius: float) -> None:
    """Mark in place every pixel whose centre is within ``radius`` of the line."""
    rows, columns = covered.shape
    left, top = np.maximum(0, np.minimum(start, end) - radius).astype(int)
    right, bottom = np.minimum((columns, rows), np.maximum(start, end) + radius + 1).astype(int)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    way = end - start
    along = ((x - start[0]) * way[0] + (y - start[1]) * way[1]) / max(float(way @ way), 1e-12)
    along = along.clip(0, 1)
    off_x, off_y = x - start[0] - along * way[0], y - start[1] - along * way[1]
    covered[top:bottom, left:right] |= off_x * off_x + off_y * off_y <= radius * radius


def steps(colours: Floats) -> tuple[Floats, Floats]:
    """What a step from a pixel to the next costs: the change of colour, and ``STEP`` a pixel of the way.

    Args:
        colours: float32 (3, h, w) in 0..1.

    Returns:
        From row to row, float32 (3, h - 1, w + 1): diagonals from the upper left to the lower right, straight,
        diagonals from the lower left to the upper right; ``UNREACHED`` where one would leave the picture. And from
        column to column, float32 (3, w - 1, h + 1).
    """
    diagonal = STEP * np.float32(math.sqrt(2))
    falling = _changes(colours[:, 1:, 1:], colours[:, :-1, :-1]) + diagonal
    rising = _changes(colours[:, 1:, :-1], colours[:, :-1, 1:]) + diagonal
    down = _changes(colours[:, 1:], colours[:, :-1]) + STEP
    right = _changes(colours[:, :, 1:], colours[:, :, :-1]) + STEP
    both = []
    for straight, slanting in ((down, (falling, rising)), (right.T, (falling.T, rising.T))):
        costs = np.full((3, straight.shape[0], straight.shape[1] + 1), UNREACHED)
        costs[::2, :, 1:-1] = slanting
        costs[1, :, :-1] = straight
        both.append(costs)
    return both[0], both[1]


def _changes(one: Floats, other: Floats) -> Floats:
    r, g, b = one - other
    changes: Floats = np.sqrt(r * r + g * g + b * b)
    return changes


def distances(seeds: Mask, costs: Sequence[Floats], limits: Floats) -> Floats:
    """Geodesic distance to the nearest seed: float32 (h, w), ``UNREACHED`` where it is not below the limit.

    Args:
        seeds: bool (h, w).
        costs: of ``steps``.
        limits: float32 (h, w). A pixel whose distance is not below its limit hands none on; 0: nothing gets here.
    """
    found = np.where(seeds & (limits > 0), np.float32(0), UNREACHED)
    if found.all():
        return found
    rows_then_columns = zip(costs, (limits, limits.T), strict=True)
    for (falling, straight, rising), limited in rows_then_columns:
        wide = cv2.copyMakeBorder(found, 0, 0, 1, 1, cv2.BORDER_CONSTANT, value=float(UNREACHED))
        straight = straight[:, :-1]
        _carry(wide, falling[:, :-1], straight, rising[:, 1:], limited)
        back = np.s_[::-1]
        _carry(wide[back], rising[back, :-1], straight[back], falling[back, 1:], limited[back])
        found = np.ascontiguousarray(wide[:, 1:-1].T)
    return found


def _carry(wide: Floats, left: Floats, straight: Floats, right: Floats, limits: Floats) -> None:
    """Carry distances from row to row of (h, w + 2), in place; columns at the sides are not reached.

    Args:
        left, straight, right: float32 (h - 1, w), what the steps to a row's pixels cost, by where they come from.
        limits: float32 (h, w).
    """
    reached = np.flatnonzero((wide[:-1] < UNREACHED).any(1))
    if not reached.size:
        return
    first, last = reached[[0, -1]]
    ways = np.empty((3, straight.shape[1]), np.float32)  # a thousand times the same memory
    nearer = np.empty(straight.shape[1], bool)
    from_left, least, from_right = ways
    rows = zip(
        *(one[first:] for one in (wide[:-1], left, straight, right, wide[1:, 1:-1], limits[1:])), strict=True
    )
    for at, (before, left_cost, cost, right_cost, row, limit) in enumerate(rows, first):
        np.add(before[:-2], left_cost, out=from_left)
        np.add(before[1:-1], cost, out=least)
        np.add(before[2:], right_cost, out=from_right)
        np.minimum(least, from_left, out=least)
        np.minimum(least, from_right, out=least)
        np.minimum(least, row, out=least)
        np.less(least, limit, out=nearer)
        np.copyto(row, least, where=nearer)
        if at >= last and not nearer.any():
            return


def redecided(alpha: Floats, guide: NDArray[np.uint8], keep: Mask, remove: Mask) -> Floats:
    """``alpha`` (h, w) with the parts at the marks decided by them; where both cover a pixel, it is removed.

    Args:
        guide: uint8 (h, w, 3), the photo at the alpha's size.
        keep, remove: bool (h, w), what the marks cover.
    """
    keep = keep & ~remove
    costs = steps(planes(cv2.GaussianBlur(guide, (3, 3), 0)))
    inside = alpha > people.INSIDE
    result = alpha.copy()
    for seeds, others, value in ((keep, remove, 1), (remove, keep, 0)):
        if not seeds.any():
            continue
        # a mark changes what is on the other side, and never goes through its own
        free = inside != value
        reach = REACH + AGREED * np.sqrt(alpha if value else 1 - alpha)
        limits = np.where(free, reach + SOFT / 2, np.float32(0))
        own = distances(seeds, costs, limits)
        other = distances(others, costs, np.where(own < limits, limits, np.float32(0)))
        share = (np.minimum(reach - own, other - own) / SOFT + np.float32(0.5)).clip(0, 1)
        share[seeds] = 1
        result = np.maximum(result, share) if value else np.minimum(result, 1 - share)
    return result


def _touching(mask: Mask, seeds: Mask) -> Mask:
    """The connected parts of ``mask`` that hold a seed."""
    count, labels = cv2.connectedComponents((mask | seeds).astype(np.uint8), connectivity=8)
    touched = np.zeros(count, bool)
    touched[labels[seeds]] = True
    touched[0] = False
    result: Mask = touched[labels]
    return result


def chosen(alpha: Floats, photo: Photo, options: Options) -> Floats:
    """The people that ``options`` mean, and what its marks say of them: ``people.chosen`` where there are none.

    Args:
        alpha: float32 (h, w) in [0, 1], small, without letterbox.
        photo: at full resolution.

    Raises:
        OptionError: a mark, point or box outside the photo.
    """
    size_hw = photo.size_hw
    if not (options.keep or options.remove):
        return people.chosen(alpha, options.people, size_hw)
    shape = (alpha.shape[0], alpha.shape[1])
    keep, remove = (drawn(field, getattr(options, field), size_hw, shape) for field in ("keep", "remove"))
    guide = cv2.resize(photo.middle, shape[::-1], interpolation=cv2.INTER_AREA)
    marked = redecided(alpha, guide, keep, remove)
    result = people.chosen(people.cleaned(marked) if options.clean else marked, options.people, size_hw)
    # a marked person stays, passer-by or not
    return np.where(_touching(marked > people.INSIDE, keep & ~remove), marked, result)
