"""COCO's photos of people worth cutting out: ``python -m bgtrain coco COCO --set train2017 --out shards/coco``.

Reads the folders as COCO publishes them (``annotations/instances_SET.json``, ``annotations/person_keypoints_SET.json``
where it is there, ``SET/*.jpg``). A table says what each step of the filter leaves over:

    people, no crowds       a crowd is one outline around many
    whole people            not a stray hand or leg: head or torso by keypoints, by the shape where those are silent
    at most N people        3 by default
    people cover 20-70 %    below, the people are no subject; above, there is hardly any background

Stray parts and, by choice, things that a person holds are left out of the loss; photos of animals without people come
along as hard negatives.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from bgimage import codec
from bgimage.arrays import eight_bits
from bgimage.errors import PhotoError
from bgtrain import polygons
from bgtrain.convert import as_sample
from bgtrain.errors import BrokenData, DataError, MissingData, existing
from bgtrain.readers import Example, Skipped, as_matte, turned
from bgtrain.shards import INDEX, Sample, Shards, fraction_of, split_of, write_shards

Mask = NDArray[np.bool_]
Annotation = dict[str, Any]

# fmt: off
HELD = frozenset(
    (
        "backpack", "umbrella", "handbag", "tie", "suitcase",
        "frisbee", "skis", "snowboard", "sports ball", "kite",
        "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket",
        "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl",
        "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
        "cell phone", "remote", "book", "scissors", "teddy bear", "hair drier", "toothbrush",
    )
)
# fmt: on
"""COCO's categories of things that a person holds, carries or stands on."""
HELD_POLICIES = ("keep", "background", "ignore")
SHARES = (0.7, 0.2, 0.1)
"""train, val and test, as the article split its photos."""

NOSE_EYES_EARS = slice(0, 5)
SHOULDERS, HIPS = slice(5, 7), slice(11, 13)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What makes a photo of people worth cutting out."""

    max_people: int = 3
    """Photos with more whole people are left out."""
    cover: tuple[float, float] = (0.20, 0.70)
    """Share of the photo that the people cover together."""
    drop_stray_parts: bool = True
    """Hands and legs without a head or torso do not count as people."""
    held: str = "ignore"
    """Things that touch a person: "keep" them with the person, "background", or "ignore" (left out of the loss)."""
    refine: bool = True
    """Pull the polygons towards the photo's edges (``polygons.refined``)."""
    animals: int = 0
    """Most photos of animals without people to add as hard negatives."""
    seed: int = 0
    """Of the split and of the choice of animals."""

    def __post_init__(self) -> None:
        if self.held not in HELD_POLICIES:
            raise DataError(f"Filter.held={self.held!r}: use one of {', '.join(HELD_POLICIES)}")
        if not 0 <= self.cover[0] < self.cover[1] <= 1:
            raise DataError(f"Filter.cover={self.cover}: two shares, 0 <= low < high <= 1")
        if self.max_people < 1:
            raise DataError(f"Filter.max_people={self.max_people}: at least 1")


@dataclass(frozen=True)
class Step:
    """What one step of the filter left over."""

    name: str
    photos: int
    people: int


@dataclass(eq=False)
class Candidate:
    """One photo on its way through the filter."""

    image: dict[str, Any]
    """COCO's record: ``file_name``, ``height``, ``width``."""
    people: list[Annotation]
    stray: list[Annotation] = field(default_factory=list)
    """People's annotations that are only parts."""

    @property
    def key(self) -> str:
        """The file's name without suffix."""
        return Path(self.image["file_name"]).stem


class Annotations:
    """COCO's instances, checked, with the people's keypoints where a second file has them."""

    def __init__(self, instances: Path, keypoints: Path | None = None) -> None:
        content = read_json(instances, "COCO instances")
        for part in ("images", "annotations", "categories"):
            if not isinstance(content.get(part), list):
                raise BrokenData(f'{instances} has no list "{part}"; is it a COCO instances file?')
        self.categories = {one["id"]: one for one in content["categories"]}
        self.person = next((id for id, one in self.categories.items() if one["name"] == "person"), None)
        if self.person is None:
            raise BrokenData(f'{instances} has no category "person"')
        known = {image["id"] for image in content["images"]}
        for one in content["annotations"]:
            if one["image_id"] not in known:
                raise BrokenData(
                    f"{instances}: annotation {one['id']} is of image {one['image_id']}, which is not listed"
                )
        if keypoints is not None and keypoints.exists():
            points = {one["id"]: one for one in read_json(keypoints, "COCO keypoints")["annotations"]}
            for one in content["annotations"]:
                if one["id"] in points:
                    one["keypoints"] = points[one["id"]]["keypoints"]
        self.coco = COCO()
        self.coco.dataset = content
        with contextlib.redirect_stdout(sys.stderr):  # it chats, and stdout is the product
            self.coco.createIndex()

    def mask(self, annotation: Annotation) -> Mask:
        """bool (H, W) of one annotation, polygon or run lengths."""
        try:
            return np.asarray(self.coco.annToMask(annotation), bool)
        except Exception as error:  # pycocotools raises the bare class
            raise BrokenData(
                f"annotation {annotation.get('id')} has a broken segmentation: {error!r}"
            ) from error

    def union(self, annotations: Iterable[Annotation], size_hw: tuple[int, int]) -> Mask:
        """bool (H, W): all of them together."""
        whole = np.zeros(size_hw, bool)
        for one in annotations:
            whole |= self.mask(one)
        return whole

    def of(self, image: dict[str, Any]) -> list[Annotation]:
        """All annotations of one photo."""
        return list(self.coco.imgToAnns[image["id"]])

    def name(self, annotation: Annotation) -> str:
        """Category's name."""
        return str(self.categories[annotation["category_id"]]["name"])

    def is_animal(self, annotation: Annotation) -> bool:
        """Whether COCO files it under animals."""
        return self.categories[annotation["category_id"]].get("supercategory") == "animal"


def is_stray_part(annotation: Annotation, mask: Mask) -> bool:
    """Whether a person's annotation shows neither head nor torso: a hand, an arm, legs.

    By keypoints: no nose, eye or ear, and not both a shoulder and a hip. Where COCO marked no keypoint at all (it left
    small and crowded people out), by ``looks_stray``.
    """
    seen = np.array(annotation.get("keypoints") or [0] * 51).reshape(17, 3)[:, 2] > 0
    if seen.any():
        torso = seen[SHOULDERS].any() and seen[HIPS].any()
        return not (seen[NOSE_EYES_EARS].any() or torso)
    return looks_stray(mask)


def looks_stray(mask: Mask) -> bool:
    """Whether a person's shape comes in over the photo's border like an arm from the side or legs from above.

    On the training photos whose keypoints decide it, 10 % of them stray, this finds half of the stray parts, and
    seven of ten that it finds are (docs/data.md).
    """
    height, _width = mask.shape
    _x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    if not w or mask.mean() >= 0.35:
        return False
    rim = 3
    top, bottom = mask[:rim].any(axis=0).sum(), mask[-rim:].any(axis=0).sum()
    left, right = mask[:, :rim].any(axis=1).sum(), mask[:, -rim:].any(axis=1).sum()
    if top + bottom + left + right <= 0.10 * 2 * (w + h):
        return False
    from_side = left + right > 0 and w > 0.8 * h
    from_above = top > 0 and y + h < 0.9 * height
    return bool(from_side or from_above)


def filter_photos(annotations: Annotations, settings: Filter) -> tuple[list[Candidate], list[Step]]:
    """The photos worth cutting out, by key, and what each step left over."""
    steps: list[Step] = []

    def note(name: str, left: list[Candidate]) -> list[Candidate]:
        steps.append(Step(name, len(left), sum(len(one.people) for one in left)))
        return left

    photos = []
    for image in annotations.coco.dataset["images"]:
        people = [one for one in annotations.of(image) if one["category_id"] == annotations.person]
        photos.append(Candidate(image, people))
    left = note("photos of the set", sorted(photos, key=lambda one: one.key))
    left = note("with people", [one for one in left if one.people])
    left = note(
        "without crowds", [one for one in left if not any(person.get("iscrowd") for person in one.people)]
    )
    if settings.drop_stray_parts:
        for one in left:
            stray = [is_stray_part(person, annotations.mask(person)) for person in one.people]
            one.stray = list(itertools.compress(one.people, stray))
            one.people = [person for person, part in zip(one.people, stray, strict=True) if not part]
        left = note("with whole people", [one for one in left if one.people])
    left = note(
        f"at most {settings.max_people} people",
        [one for one in left if len(one.people) <= settings.max_people],
    )
    low, high = settings.cover
    left = note(
        f"people cover {low:.0%}-{high:.0%}",
        [one for one in left if low <= annotations.union(one.people, size_of(one.image)).mean() <= high],
    )
    return left, steps


def animal_photos(annotations: Annotations, settings: Filter) -> list[Candidate]:
    """Photos of animals without people: at most ``settings.animals``, chosen by the hash of their names."""
    found = []
    for image in annotations.coco.dataset["images"]:
        there = annotations.of(image)
        if any(map(annotations.is_animal, there)) and all(
            one["category_id"] != annotations.person for one in there
        ):
            found.append(Candidate(image, []))
    chosen = sorted(found, key=lambda one: fraction_of(one.key, settings.seed))[: settings.animals]
    return sorted(chosen, key=lambda one: one.key)


def held_things(annotations: Annotations, photo: Candidate, people: Mask) -> Mask:
    """bool (H, W): things of ``HELD`` that touch or overlap the people and are no larger than they."""
    height, width = people.shape
    reach = max(1, round(0.01 * float(np.hypot(height, width))))
    near = cv2.dilate(people.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).astype(bool)
    held = np.zeros(people.shape, bool)
    for one in annotations.of(photo.image):
        if annotations.name(one) in HELD and not one.get("iscrowd"):
            thing = annotations.mask(one)
            if (thing & near).any() and thing.sum() <= people.sum():
                held |= thing
    return held


class PhotoSource:
    """Bytes of a photo by its file name: from a folder of JPEGs, or from shards that have an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = existing(folder, "folder of COCO photos")
        self._shards = Shards(folder, left_out=()) if (folder / INDEX).exists() else None
        self._keys = {row.key for row in self._shards.rows} if self._shards else set()

    def read(self, file_name: str) -> bytes:
        """``MissingData`` names the photo."""
        if self._shards is None:
            return existing(self.folder / file_name, "photo that the annotations name").read_bytes()
        if Path(file_name).stem not in self._keys:
            raise MissingData(f"no photo {file_name} in the shards of {self.folder}")
        return self._shards.photo(Path(file_name).stem)


class CocoPeople:
    """The filtered photos as ``Example``s; undecodable ones are in ``skipped``, ``steps`` says what was left over."""

    def __init__(self, annotations: Annotations, photos: PhotoSource, settings: Filter | None = None) -> None:
        self.settings = settings or Filter()
        self.annotations, self.photos = annotations, photos
        self.people, self.steps = filter_photos(annotations, self.settings)
        self.animals = animal_photos(annotations, self.settings)
        self.skipped: list[Skipped] = []

    def __len__(self) -> int:
        return len(self.people) + len(self.animals)

    def __iter__(self) -> Iterator[Example]:
        self.skipped = []
        for candidate in (*self.people, *self.animals):
            file_name = candidate.image["file_name"]
            data = self.photos.read(file_name)
            try:
                photo = codec.decode(data)
            except PhotoError as error:
                self.skipped.append(Skipped(file_name, error.message()))
                continue
            pixels = eight_bits(photo.pixels)
            if pixels.shape[:2] != size_of(candidate.image):
                self.skipped.append(
                    Skipped(file_name, f"{pixels.shape[:2]} pixels, annotated {size_of(candidate.image)}")
                )
                continue
            matte, ignore = self.label(candidate, pixels)
            yield Example(
                key=candidate.key,
                photo=pixels,
                matte=matte,
                ignore=ignore,
                persons=len(candidate.people),
                split=split_of(candidate.key, seed=self.settings.seed, shares=SHARES),
                label="polygon" if candidate.people else "empty",
                jpeg=data if photo.format == "jpeg" and not turned(data) else None,
            )

    def label(self, candidate: Candidate, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Mask]:
        """Matte and ignored pixels of one photo."""
        size_hw = size_of(candidate.image)
        people = self.annotations.union(candidate.people, size_hw)
        if self.settings.refine:
            people = polygons.refined(pixels, people)
        ignore = self.annotations.union(candidate.stray, size_hw) & ~people
        held = held_things(self.annotations, candidate, people)
        if self.settings.held == "keep":
            people |= held
        elif self.settings.held == "background":
            people &= ~held
        else:
            ignore |= held
        return as_matte(people), ignore

    def samples(self, *, max_side: int | None = None) -> Iterator[Sample]:
        """For ``shards.write_shards``."""
        for example in self:
            yield as_sample(
                example, pool="coco_animals" if example.label == "empty" else "coco_person", max_side=max_side
            )


def size_of(image: dict[str, Any]) -> tuple[int, int]:
    """Height and width of COCO's record."""
    return int(image["height"]), int(image["width"])


def read_json(path: Path, what: str) -> dict[str, Any]:
    """``MissingData`` or ``BrokenData`` names the file."""
    try:
        content = json.loads(existing(path, what).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BrokenData(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BrokenData(f"{path} holds a {type(content).__name__}, COCO's files hold an object")
    return content


def step_table(steps: Iterable[Step]) -> str:
    """What each step left over, as text."""
    lines = [f"{'step':<28}{'photos':>8}{'people':>8}"]
    return "\n".join(lines + [f"{step.name:<28}{step.photos:>8}{step.people:>8}" for step in steps])


def main(argv: list[str] | None = None) -> int:
    """``python -m bgtrain coco``; 1 where photos had to be skipped."""
    parser = argparse.ArgumentParser(
        prog="python -m bgtrain coco",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, nargs="?", help="COCO as published")
    parser.add_argument("--set", default="train2017", help="train2017, val2017 ...")
    parser.add_argument("--annotations", type=Path, help="instead: an instances file")
    parser.add_argument("--photos", type=Path, help="instead: a folder of photos, or of shards")
    parser.add_argument("--out", type=Path, help="pack the photos into shards here")
    parser.add_argument("--max-side", type=int, help="shrink longer photos to this many pixels")
    parser.add_argument("--max-people", type=int, default=Filter.max_people)
    parser.add_argument("--cover", type=float, nargs=2, default=Filter.cover, metavar=("LOW", "HIGH"))
    parser.add_argument(
        "--held", choices=HELD_POLICIES, default=Filter.held, help="things that a person holds"
    )
    parser.add_argument("--keep-stray-parts", action="store_true")
    parser.add_argument("--no-refine", action="store_true", help="leave the polygons as they are")
    parser.add_argument("--animals", type=int, default=Filter.animals, help="most hard negatives")
    parser.add_argument("--seed", type=int, default=Filter.seed)
    args = parser.parse_args(argv)
    if args.folder is None and (args.annotations is None or (args.out is not None and args.photos is None)):
        parser.error("give COCO's folder, or --annotations and --photos")
    settings = Filter(
        max_people=args.max_people,
        cover=tuple(args.cover),
        drop_stray_parts=not args.keep_stray_parts,
        held=args.held,
        refine=not args.no_refine,
        animals=args.animals,
        seed=args.seed,
    )
    instances, keypoints = args.annotations, None
    if args.folder is not None:
        instances = instances or args.folder / "annotations" / f"instances_{args.set}.json"
        keypoints = args.folder / "annotations" / f"person_keypoints_{args.set}.json"
    annotations = Annotations(instances, keypoints)
    if args.out is None:
        print(step_table(filter_photos(annotations, settings)[1]))
        return 0
    source = CocoPeople(annotations, PhotoSource(args.photos or args.folder / args.set), settings)
    rows = write_shards(source.samples(max_side=args.max_side), args.out, prefix="coco")
    packed = [row for row in rows if row.pool == "coco_person"]
    print(
        step_table(
            [*source.steps, Step("decoded and packed", len(packed), sum(row.persons or 0 for row in packed))]
        )
    )
    print(f"animals without people: {len(rows) - len(packed)}")
    for skipped in source.skipped:
        print(f"skipped {skipped.photo}: {skipped.why}", file=sys.stderr)
    return 1 if source.skipped else 0
