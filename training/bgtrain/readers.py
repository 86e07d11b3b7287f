"""Data sets as they are published, read through one interface: iterate over a ``Reader``, get ``Example``s.

    reader       folder as published                                          person is
    Voc          JPEGImages, SegmentationClass [, SegmentationObject,          class 15; 255 is ignored
                 ImageSets/Segmentation/{train,val}.txt]
    PersonPart   JPEGImages + pascal_person_part_gt, or KEY.jpg beside KEY.png any part (> 0); 255 is ignored
    Ade20k       images/{training,validation}, annotations/{...}               class 13 of the 150 (0: other)
    CamVid       {train,val,test}, {train,val,test}annot (SegNet's 12 classes) class 9; cyclists (10) and 11 ignored
    Folder       photos, mattes (KEY.png, 8-bit alpha)                         the matte

(COCO is read by ``bgtrain.coco``, which filters on the way.) A missing or broken label is an error with the file's
name; a photo that cannot be decoded is skipped, and listed in ``Reader.skipped``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bgimage import codec
from bgimage.arrays import eight_bits
from bgimage.errors import PhotoError
from bgtrain.errors import BrokenData, DataError, MissingData, existing

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VOID = 255
"""Label of undecided pixels, in VOC and its children."""


@dataclass(frozen=True)
class Entry:
    """One photo before it is read."""

    key: str
    photo: Path
    label: Path
    split: str | None
    """train, val or test as published; ``None`` where the set has no splits."""


@dataclass(frozen=True, eq=False)
class Example:
    """One photo and its label."""

    key: str
    photo: NDArray[np.uint8]
    """uint8 (H, W, 3), RGB, upright."""
    matte: NDArray[np.uint8]
    """uint8 (H, W), 0 background, 255 person."""
    ignore: NDArray[np.bool_]
    """bool (H, W): pixels that say neither; the loss leaves them out."""
    persons: int | None
    """How many people, where the set tells."""
    split: str | None
    label: str
    """Kind of label, one of ``shards.LABELS``."""
    agreement: float | None = None
    """Confidence of a pseudo label, 0..1."""
    jpeg: bytes | None = None
    """The photo's own file, where ``photo`` is nothing but its pixels."""


@dataclass(frozen=True)
class Skipped:
    """A photo that could not be used, and why."""

    photo: str
    why: str


class Reader(ABC):
    """Iterates over a published folder; may be iterated again, ``skipped`` then starts anew."""

    name: ClassVar[str]
    """Pool in the shards, and prefix of the keys."""
    label: ClassVar[str] = "pixel"

    def __init__(self, folder: Path | str) -> None:
        self.folder = existing(Path(folder), f"{self.name} folder")
        self.skipped: list[Skipped] = []

    @abstractmethod
    def _entries(self) -> list[Entry]:
        """All photos with a label, by key; ``MissingData`` names a part of the layout that is not there."""

    @abstractmethod
    def _decide(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int | None]:
        """Matte, ignored pixels and number of people of one photo."""

    def __len__(self) -> int:
        return len(self._entries())

    def __iter__(self) -> Iterator[Example]:
        self.skipped = []
        for entry in self._entries():
            data = existing(entry.photo, f"photo for the label {entry.label.name}").read_bytes()
            try:
                photo = codec.decode(data)
            except PhotoError as error:
                self.skipped.append(Skipped(str(entry.photo), error.message()))
                continue
            pixels = eight_bits(photo.pixels)
            matte, ignore, persons = self._decide(entry)
            if matte.shape != pixels.shape[:2]:
                raise BrokenData(
                    f"{entry.label} is {matte.shape[1]}x{matte.shape[0]}, its photo {entry.photo.name} "
                    f"{pixels.shape[1]}x{pixels.shape[0]} pixels; they must be equal"
                )
            yield Example(
                key=f"{self.name}_{entry.key}",
                photo=pixels,
                matte=matte,
                ignore=ignore,
                persons=persons,
                split=entry.split,
                label=self.label,
                jpeg=data if photo.format == "jpeg" and photo.alpha is None and not turned(data) else None,
            )


class Voc(Reader):
    """Pascal VOC 2007-2012 (``VOCdevkit/VOC2012``), and what labelme's converter writes."""

    name = "voc"
    person: ClassVar[int] = 15

    def _entries(self) -> list[Entry]:
        labels = existing(self.folder / "SegmentationClass", "VOC labels")
        photos = existing(self.folder / "JPEGImages", "VOC photos")
        splits = listed_splits(self.folder / "ImageSets" / "Segmentation")
        return [
            Entry(path.stem, photos / f"{path.stem}.jpg", path, splits.get(path.stem))
            for path in sorted(labels.glob("*.png"))
            if not splits or path.stem in splits
        ]

    def _decide(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int | None]:
        classes = read_classes(entry.label)
        objects = self.folder / "SegmentationObject" / entry.label.name
        persons = None
        if objects.exists():
            numbers = read_classes(objects)
            persons = len(set(np.unique(numbers[classes == self.person])) - {0, VOID})
        return as_matte(classes == self.person), classes == VOID, persons


class PersonPart(Reader):
    """Pascal Person-Part (Chen et al. 2014): head, torso, upper and lower arms and legs of VOC's people."""

    name = "person_part"
    parts: ClassVar[int] = 6

    def _entries(self) -> list[Entry]:
        labels = self.folder / "pascal_person_part_gt"
        photos = self.folder / "JPEGImages"
        if not labels.exists():  # a plain sample: both in one folder
            labels = photos = self.folder
        splits = listed_splits(self.folder / "pascal_person_part_trainval_list")
        found = sorted(labels.glob("*.png"))
        if not found:
            raise MissingData(f"no part labels (*.png) in {labels}")
        return [Entry(path.stem, photos / f"{path.stem}.jpg", path, splits.get(path.stem)) for path in found]

    def _decide(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int | None]:
        parts = read_classes(entry.label)
        strange = set(np.unique(parts)) - set(range(self.parts + 1)) - {VOID}
        if strange:
            raise BrokenData(
                f"{entry.label} has part {min(strange)}; Person-Part knows 0..{self.parts} and {VOID}"
            )
        return as_matte((parts > 0) & (parts != VOID)), parts == VOID, None


class Ade20k(Reader):
    """ADE20K as released for scene parsing (``ADEChallengeData2016``)."""

    name = "ade20k"
    person: ClassVar[int] = 13
    splits: ClassVar[dict[str, str]] = {"training": "train", "validation": "val"}

    def _entries(self) -> list[Entry]:
        found = []
        for published, split in self.splits.items():
            labels = existing(self.folder / "annotations" / published, "ADE20K labels")
            photos = existing(self.folder / "images" / published, "ADE20K photos")
            found += [
                Entry(path.stem, photos / f"{path.stem}.jpg", path, split)
                for path in sorted(labels.glob("*.png"))
            ]
        return found

    def _decide(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int | None]:
        classes = read_classes(entry.label)
        return as_matte(classes == self.person), np.zeros(classes.shape, bool), None


class CamVid(Reader):
    """CamVid in SegNet's form: frames of a drive, pedestrians small."""

    name = "camvid"
    person: ClassVar[int] = 9
    unclear: ClassVar[tuple[int, ...]] = (10, 11)
    """Cyclists are labelled with their bicycle; 11 is void."""

    def _entries(self) -> list[Entry]:
        found = []
        for split in ("train", "val", "test"):
            photos = existing(self.folder / split, "CamVid frames")
            labels = existing(self.folder / f"{split}annot", "CamVid labels")
            found += [
                Entry(path.stem, photo_beside(photos, path.stem), path, split)
                for path in sorted(labels.glob("*.png"))
            ]
        return found

    def _decide(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int | None]:
        classes = read_classes(entry.label)
        if classes.max() > max(self.unclear):
            raise BrokenData(
                f"{entry.label} has class {classes.max()}; SegNet's CamVid knows 0..{max(self.unclear)}"
            )
        return as_matte(classes == self.person), np.isin(classes, self.unclear), None


class Folder(Reader):
    """Photos and mattes of one's own: ``photos/KEY.jpg`` and ``mattes/KEY.png``."""

    name = "folder"

    def _entries(self) -> list[Entry]:
        photos = existing(self.folder / "photos", "folder of photos")
        mattes = existing(self.folder / "mattes", "folder of mattes")
        return [
            Entry(path.stem, path, existing(mattes / f"{path.stem}.png", f"matte for {path.name}"), None)
            for path in photos_in(photos)
        ]

    def _decide(self, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int | None]:
        image = open_label(entry.label)
        band = image.getchannel("A") if "A" in image.mode else image.convert("L")
        matte = np.asarray(band, np.uint8)
        return matte, np.zeros(matte.shape, bool), None


READERS: dict[str, Callable[[Path], Reader]] = {
    kind.name: kind for kind in (Voc, PersonPart, Ade20k, CamVid, Folder)
}


def open_label(path: Path) -> Image.Image:
    """The loaded picture; ``MissingData`` or ``BrokenData`` with its name."""
    try:
        with Image.open(existing(path, "label")) as image:
            image.load()
            return image
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise BrokenData(f"the label {path} cannot be decoded: {error}") from error


def read_classes(path: Path) -> NDArray[np.uint8]:
    """uint8 (H, W): class numbers of a palette or grey PNG; a colour picture is ``BrokenData``."""
    image = open_label(path)
    if image.mode not in ("P", "L"):
        raise BrokenData(f"the label {path} is a colour picture ({image.mode}); class numbers are P or L")
    return np.asarray(image, np.uint8)


def photo_beside(folder: Path, stem: str) -> Path:
    """The photo called ``stem`` with any suffix we read; the .png where there is none, for the error's sake."""
    found = (folder / f"{stem}{suffix}" for suffix in PHOTO_SUFFIXES)
    return next((path for path in found if path.exists()), folder / f"{stem}.png")


def photos_in(folder: Path) -> list[Path]:
    """The photos of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)


def listed_splits(folder: Path) -> dict[str, str]:
    """Stem -> split, from ``train.txt``, ``val.txt`` and ``test.txt``; empty without the folder."""
    return {
        stem: split
        for split in ("train", "val", "test")
        if (folder / f"{split}.txt").exists()
        for stem in (folder / f"{split}.txt").read_text(encoding="utf-8").split()
    }


def as_matte(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """uint8 (H, W), 0 or 255."""
    return np.where(mask, np.uint8(255), np.uint8(0))


def turned(jpeg: bytes) -> bool:
    """Whether EXIF tells a viewer to turn the photo: then its bytes are not its upright pixels."""
    import io

    with Image.open(io.BytesIO(jpeg)) as image:
        return image.getexif().get(0x0112, 1) != 1


def reader(kind: str, folder: Path) -> Reader:
    """The reader called ``kind``; ``DataError`` lists the known ones."""
    if kind not in READERS:
        raise DataError(f"no reader {kind!r}; use one of {', '.join(READERS)}")
    return READERS[kind](folder)
