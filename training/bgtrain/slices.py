"""Which slices a photo belongs to, by the index, the COCO annotations and the shape of its true matte.

Nobody drew these slices by hand, except ``held things`` (a list of keys, seen by eye); ``docs/evaluation.md``
says how far each can be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from bgtrain.shards import Row, key_list

ARTICLE_COVER = (0.20, 0.70)
"""Share of the photo that people covered in the article's filter of COCO."""
ARTICLE_PEOPLE = 3
"""Most people of a photo in the article's filter."""
LAST_ANIMAL = "n02655020"
"""ImageNet's classes, sorted by WordNet id: the animals end with this one (the puffer)."""
DAVIS_ANIMALS = frozenset({"blackswan", "camel", "cows", "dog", "goat"})
"""Animals among the sequences of DAVIS-2016's validation set."""
HAIR_BAND = 0.0085
"""Width of the half-transparent band along the upper contour, over the figure's height, that makes hair."""

ORDER = (
    "20-70 % people",
    "<= 3 people, 20-70 %",
    "one person",
    "many people",
    "portrait",
    "full body",
    "small people",
    "hair",
    "held things",
    "behind something",
    "no people",
    "animals",
    "no people, no animals",
)


def slices_of(row: Row, matte: NDArray[np.uint8], parts: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Names of the slices, in the order of ``ORDER``.

    matte: uint8 (H, W), the truth. parts: for COCO photos, the most polygons any one person is drawn with.
    """
    if row.label in ("empty", "none"):
        found = {"no people"} if row.label == "empty" else set()
        if row.label == "empty" and (animal := is_animal(row.key)) is not None:
            found.add("animals" if animal else "no people, no animals")
    else:
        found = _shape(matte)
        persons = 1 if row.pool == "ccp" else row.persons  # ccp labels one person, not the passers-by
        if persons is not None:
            found.add("one person" if persons == 1 else "many people")
        if row.label == "pseudo" and hair_band(matte) >= HAIR_BAND:
            found.add("hair")
        if row.key in key_list("held_things.txt"):
            found.add("held things")
        if parts and parts.get(row.key, 1) > 1:
            found.add("behind something")
        if row.pool == "coco_person" and ARTICLE_COVER[0] <= row.person_fraction <= ARTICLE_COVER[1]:
            found.add("20-70 % people")
            if row.persons is not None and row.persons <= ARTICLE_PEOPLE:
                found.add("<= 3 people, 20-70 %")
    return tuple(name for name in ORDER if name in found)


def _shape(matte: NDArray[np.uint8]) -> set[str]:
    """portrait, full body or small people, from the largest connected figure."""
    mask = (matte > 127).astype(np.uint8)
    covered = int(mask.sum())
    height, width = mask.shape
    found = set()
    if covered < 0.10 * mask.size:
        found.add("small people")
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return found
    x, y, w, h, area = stats[1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])]
    if area < 0.9 * covered:  # several figures: neither a portrait nor a full body
        return found
    cut_off_below = y + h >= height - max(2, 0.01 * height)
    # the figure's width where it ends, over its greatest
    lowest = mask[y + h - max(1, h // 50) : y + h, x : x + w].max(axis=0).mean()
    if cut_off_below and lowest >= 0.5 and y > 0 and h < 2.2 * w:
        found.add("portrait")
    clear_of_sides = x > 1 and x + w < width - 1
    if not cut_off_below and clear_of_sides and h >= 1.8 * w and h >= 0.4 * height:
        found.add("full body")
    return found


def hair_band(matte: NDArray[np.uint8]) -> float:
    """Mean width of the half-transparent band along the upper third's contour, over the figure's height."""
    rows = np.flatnonzero((matte > 127).any(axis=1))
    if not len(rows):
        return 0.0
    top, height = int(rows[0]), int(rows[-1] - rows[0] + 1)
    head = matte[max(0, top - height // 20) : top + height // 3]
    soft = int(((head > 25) & (head < 230)).sum())
    solid = (head > 127).astype(np.uint8)
    contour = int((solid - cv2.erode(solid, np.ones((3, 3), np.uint8))).sum())
    return soft / max(1, contour) / height


def is_animal(key: str) -> bool | None:
    """Whether a photo without people shows an animal; ``None`` where the key does not tell (neg_coco)."""
    if wordnet := re.match(r"neg_imagenet_in_(n\d{8})_", key):
        return wordnet[1] <= LAST_ANIMAL
    if davis := re.match(r"neg_davis_(.+)_\d+$", key):
        return davis[1] in DAVIS_ANIMALS
    return None
