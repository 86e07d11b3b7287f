"""Which people of a matte are meant.

People are connected parts of the alpha. Parts that hang together by something narrow (hands, elbows, a shared bag) are
taken apart at that place; people who overlap or stand shoulder to shoulder stay one part: telling them apart needs a
network that knows instances, and this one does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage._cv import cv2
from bgimage.errors import OptionError

Floats = NDArray[np.float32]

INSIDE = 0.5
"""Alpha above which a pixel belongs to somebody."""
SPECK = 0.002
"""A part with less than this share of all people's alpha is a speck; so is a hole with less than this share."""
SMALLEST = 9.0
"""Pixels of the network's picture; a hole below it is filled in any case."""
FAR_AWAY = 0.001
"""A part below this share of the whole picture is a speck."""
NOBODY = 0.003
"""Where all parts together have less than this share of the picture, nobody is there. Of 73 validation photos without
people 4 fewer are marked; of 551 with people 2 lose a cut-out, of people who cover 2 % of the photo or less."""
SOFT = 0.003
"""Half the width of the soft band along the outline, over the picture's diagonal; half as much again fades."""
NECK = 0.45
"""Two bodies are taken apart where their link is narrower than this share of the slimmer body."""
BODY = 0.15
"""A body has at least this share of the part's area: arms and heads do not count as people."""
SUBJECT = 0.2
"""A part with less than this share of the largest part's area is a passer-by, ..."""
APART = 0.1
"""... if it is farther from all larger parts than this share of the picture's diagonal: no leg behind a table."""
BEHIND = 0.35
"""A part with less than this share of the largest part's area is a passer-by too if it stands farther away: beside the
largest part, ..."""
HEAD, FEET, TALL = 0.05, 0.75, 0.3
"""... its upper end below HEAD and its lower end above FEET of the largest part's height, both from its upper end, and
at least TALL of that height between them: feet that are farther from the camera are higher in the picture."""
NEAR = 0.02
"""A point may miss a person by this share of the picture's diagonal."""


def cleaned(alpha: Floats) -> Floats:
    """``alpha`` (h, w) without specks and pinholes; the soft edges of everything that stays are untouched.

    Nothing stays where all parts together are below ``NOBODY``.
    """
    result = alpha.copy()
    support = (alpha > 0.1).view(np.uint8)
    count, labels = cv2.connectedComponents(support, connectivity=8)
    mass = _sums(labels, alpha, support, count)[1:]
    if mass.sum() < NOBODY * alpha.size:
        return np.zeros_like(alpha)
    limit = max(SMALLEST, SPECK * float(mass.sum()))
    specks = np.concatenate([[False], mass < max(limit, FAR_AWAY * alpha.size)])
    if specks.any():
        result[specks[labels]] = 0
    count, labels = cv2.connectedComponents((result < 0.9).view(np.uint8), connectivity=4)
    holes = np.ones(count, bool)
    holes[0] = False
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        holes[border] = False
    if holes.any():
        inside = holes[labels]
        holes &= _sums(labels, 1 - result, inside, count) < limit
        holes &= _sums(labels, result < INSIDE, inside, count) > 0
        result[holes[labels]] = 1
    return result


def _sums(labels: NDArray[np.int32], values: NDArray[Any], mask: NDArray[Any], count: int) -> NDArray[Any]:
    """The sum of ``values`` under each of ``count`` labels, where ``mask`` is not 0."""
    places = np.flatnonzero(mask)
    return np.bincount(labels.take(places), values.take(places), count)


def decided(alpha: Floats) -> Floats:
    """``alpha`` (h, w) that is soft only along its 0.5 contour, 0 or 1 elsewhere; the contour does not move.

    What is half-transparent far from every outline is the network's doubt, not hair or motion blur.
    """
    person = alpha > INSIDE
    inside, outside = (
        cv2.distanceTransform(side.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) for side in (person, ~person)
    )
    # Distances run to the next pixel's centre, the contour lies half a pixel before it.
    distance = inside + outside - np.float32(0.5)
    reach = SOFT * float(np.hypot(*alpha.shape))
    band = np.flatnonzero(distance < 1.5 * reach)
    soft = np.clip(3 - distance.take(band) / (reach / 2), 0, 1)
    result = person.astype(np.float32)
    result.put(band, soft * alpha.take(band) + (1 - soft) * result.take(band))
    return result


def parts(alpha: Floats) -> NDArray[np.int32]:
    """A number from 1 on for every person or group that hangs together, 0 elsewhere: int32 (h, w)."""
    count, labels = cv2.connectedComponents((alpha > INSIDE).astype(np.uint8), connectivity=8)
    result = np.zeros(alpha.shape, np.int32)
    waiting = [labels == number for number in range(1, count)]
    found = 0
    while waiting:
        part = waiting.pop(0)
        bodies = _bodies(part)
        if len(bodies) > 1:
            waiting.extend(bodies)
        else:
            found += 1
            result[part] = found
    return result


def _bodies(part: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """``part`` itself, or the bodies it falls into where a narrow link is cut."""
    depth = cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    for radius in range(1, int(depth.max() * NECK) + 1):
        count, cores = cv2.connectedComponents((depth > radius).astype(np.uint8), connectivity=8)
        thick = [n for n in range(1, count) if depth[cores == n].max() * NECK >= radius]
        if len(thick) < 2:
            continue
        kept = np.isin(cores, thick)
        near = nearest(np.where(kept, cores, 0))
        bodies = [part & (near == n) for n in thick]
        if sum(body.sum() >= BODY * part.sum() for body in bodies) >= 2:
            big = [n for n, body in zip(thick, bodies, strict=True) if body.sum() >= BODY * part.sum()]
            near = nearest(np.where(np.isin(cores, big), cores, 0))
            return [part & (near == n) for n in big]
    return [part]


def nearest(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The label of the nearest labelled pixel, for every pixel; at least one label is not 0."""
    _, indices = cv2.distanceTransformWithLabels(
        (labels == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(indices.max()) + 1, np.int32)
    places = labels > 0
    table[indices[places]] = labels[places]
    result: NDArray[np.int32] = table[indices]
    return result


def chosen(alpha: Floats, people: str | tuple[int, ...], size_hw: tuple[int, int]) -> Floats:
    """``alpha`` of the people that are meant, 0 elsewhere.

    Args:
        alpha: float32 (h, w) in [0, 1], small, without letterbox.
        people: "all"; "subjects": without passers-by (``SUBJECT``, ``BEHIND``); "main": the part with the most alpha,
            weighted by nearness to the centre; a point (x, y): the part there or within ``NEAR`` of it; a box (left,
            top, right, bottom): all parts with at least half of their alpha inside, or else the one with most inside.
        size_hw: the photo's size, in whose pixels points and boxes are given.

    Raises:
        OptionError: a point or box outside the photo.
    """
    if people == "all":
        return alpha
    if people == "subjects":
        labels, numbers = _subjects(alpha)
    else:
        labels = parts(alpha)
        numbers = _meant(alpha, labels, people, size_hw)
    count = int(labels.max())
    if not numbers:
        return np.zeros_like(alpha)
    if len(numbers) == count:
        return alpha
    return np.where(np.isin(nearest(labels), list(numbers)), alpha, np.float32(0))


def _subjects(alpha: Floats) -> tuple[NDArray[np.int32], set[int]]:
    """The connected parts (h, w), and the numbers of those that the photo is about."""
    inside = (alpha > INSIDE).view(np.uint8)
    count, labels = cv2.connectedComponents(inside, connectivity=8)
    if count < 3:  # what follows takes three times as long
        return labels, set(range(1, count))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    left, top, width, height, area = stats[1:].T
    largest = area.argmax()
    share = area / area[largest]
    large = share >= SUBJECT
    away = np.isin(labels, np.flatnonzero(large) + 1, invert=True).astype(np.uint8)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_5)
    reach = APART * float(np.hypot(*alpha.shape))
    near = np.bincount(labels[distance <= reach], minlength=count)[1:] > 0
    beside = (left + width <= left[largest]) | (left >= left[largest] + width[largest])
    head, feet = ((y - top[largest]) / height[largest] for y in (top, top + height))
    behind = (share < BEHIND) & beside & (head > HEAD) & (feet < FEET) & (feet - head >= TALL)
    return labels, {int(n) for n in np.flatnonzero(near & ~behind) + 1}


def _meant(alpha: Floats, labels: NDArray[np.int32], people: Any, size_hw: tuple[int, int]) -> set[int]:
    (height, width), (small_height, small_width) = size_hw, alpha.shape
    count = int(labels.max())
    if people == "main":
        if not count:
            return set()
        y, x = np.mgrid[:small_height, :small_width]
        off_centre = np.hypot((y + 0.5) / small_height - 0.5, (x + 0.5) / small_width - 0.5)
        mass = np.bincount(labels.ravel(), (alpha * (1 - off_centre)).ravel(), count + 1)
        return {int(mass[1:].argmax()) + 1}
    x0, y0, *corner = people
    if not (0 <= x0 < width and 0 <= y0 < height):
        raise OptionError(f"people={people}: outside the photo of {width} x {height} pixels")
    if not count:
        return set()
    if not corner:
        y, x = np.mgrid[:small_height, :small_width]
        distance = np.hypot((y + 0.5) * height / small_height - y0, (x + 0.5) * width / small_width - x0)
        distance[labels == 0] = np.inf
        reach = max(NEAR * np.hypot(height, width), height / small_height, width / small_width)
        return {int(labels.flat[distance.argmin()])} if distance.min() <= reach else set()
    rows = slice(y0 * small_height // height, max(1, -(-corner[1] * small_height // height)))
    columns = slice(x0 * small_width // width, max(1, -(-corner[0] * small_width // width)))
    whole = np.bincount(labels.ravel(), alpha.ravel(), count + 1)
    inside = np.bincount(labels[rows, columns].ravel(), alpha[rows, columns].ravel(), count + 1)
    whole[0], inside[0] = np.inf, 0
    numbers = {int(n) for n in np.flatnonzero(inside >= whole / 2)}
    return numbers or ({int(inside.argmax())} if inside.max() > 0 else set())
