"""Photos and mattes in tar shards (WebDataset naming), with ``index.csv`` beside them: the training format.

A folder holds ``index.csv`` (one row a photo) and tar files with ``KEY.jpg`` (or ``.png``, ``.webp``) and
``KEY.matte.png``, or ``KEY.png`` where the photo is a JPEG: an 8-bit matte of the photo's size, 0 background,
255 person. Photos without people need no matte.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bgtrain.errors import BrokenData, existing

INDEX = "index.csv"
SPLITS = ("train", "val", "test")
LABELS = ("pixel", "polygon", "pseudo", "empty", "none")
PHOTO_SUFFIXES = ("jpg", "jpeg", "webp", "png")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One photo of the index."""

    key: str
    """Name inside the shard, without suffix; unique in the folder."""
    shard: str
    """File name of the tar."""
    pool: str
    """Where the photo comes from; scores are reported by pool."""
    split: str
    """train, val or test."""
    label: str
    """pixel (drawn, 1-3 px), polygon (3-8 px off), pseudo (made by a network), empty (nobody), none (background)."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    person_fraction: float
    """Share of the photo that people cover, 0..1."""
    persons: int | None = None
    """How many people, where they were counted."""
    source: str = ""
    """Who published it."""
    licence: str = ""
    """Under which terms."""
    agreement: float | None = None
    """Confidence of a pseudo label, 0..1."""

    def __post_init__(self) -> None:
        """Refuse a row that nothing could use."""
        for field, known in (("split", SPLITS), ("label", LABELS)):
            if getattr(self, field) not in known:
                raise ValueError(f"Row.{field}={getattr(self, field)!r}: unknown; use one of {known}")


def data_folder(folder: str | Path | None = None) -> Path:
    """``folder``, else ``$BGCLIENT_DATA``, else ``../shared/data`` beside the checkout."""
    chosen = folder or os.environ.get("BGCLIENT_DATA") or Path(__file__).parents[2].parent / "shared" / "data"
    return existing(Path(chosen), "training photos")


def read_index(folder: Path) -> list[Row]:
    """The rows of ``folder/index.csv``. ``MissingData`` without it, ``BrokenData`` names line and field."""
    path = existing(folder / INDEX, "index of the shards")
    numbers = {"width": int, "height": int, "person_fraction": float, "persons": int, "agreement": float}
    fields = {field.name for field in dataclasses.fields(Row)}
    rows = []
    with path.open(newline="", encoding="utf-8") as lines:
        for record in csv.DictReader(lines):
            given = {name: text for name, text in record.items() if name in fields and text}
            try:
                rows.append(Row(**{name: numbers.get(name, str)(text) for name, text in given.items()}))
            except (TypeError, ValueError) as error:
                raise BrokenData(f"{path}, photo {record.get('key')!r}: {error}") from error
    return rows


class Shards:
    """Random access to the photos of a folder of shards; safe to share between threads and forked workers.

    ``rows`` lists the photos of ``split`` and ``pools`` (all without them); ``photo`` and ``matte`` read one by key.
    """

    def __init__(
        self, folder: str | Path | None = None, *, split: str | None = None, pools: Iterable[str] | None = None
    ) -> None:
        self.folder = data_folder(folder)
        wanted = set(pools) if pools is not None else None
        self.rows = [
            row
            for row in read_index(self.folder)
            if split in (None, row.split) and (wanted is None or row.pool in wanted)
        ]
        self._where: dict[str, dict[str, tuple[int, int, int]]] = {}  # key -> suffix -> (file, offset, size)
        self._files = []
        for name in sorted({row.shard for row in self.rows}):
            path = existing(self.folder / name, "shard that the index names")
            file = path.open("rb")
            self._files.append(file)
            try:
                members = list(tarfile.open(fileobj=file, mode="r:"))
            except tarfile.TarError as error:
                raise BrokenData(f"{path} is no readable tar: {error}; convert again") from error
            for member in members:
                key, _, suffix = os.path.basename(member.name).partition(".")
                self._where.setdefault(key, {})[suffix] = (file.fileno(), member.offset_data, member.size)
        lost = [row.key for row in self.rows if row.key not in self._where]
        if lost:
            raise BrokenData(f"{self.folder}: {len(lost)} photos of the index are in no shard, the first {lost[0]!r}")

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the tar files."""
        for file in self._files:
            file.close()

    def _read(self, key: str, suffix: str) -> bytes:
        file, offset, size = self._where[key][suffix]
        return os.pread(file, size, offset)  # no shared position, hence safe across threads and forks

    def _suffixes(self, key: str) -> tuple[str, str | None]:
        """Suffix of the photo and of its matte."""
        there = self._where[key]
        photo = next((suffix for suffix in PHOTO_SUFFIXES if suffix in there), None)
        if photo is None:
            raise BrokenData(f"{self.folder}: {key!r} has no photo, only {sorted(there)}")
        matte = "matte.png" if "matte.png" in there else "png" if "png" in there and photo != "png" else None
        return photo, matte

    def photo(self, key: str) -> bytes:
        """The photo's file, as it was packed."""
        return self._read(key, self._suffixes(key)[0])

    def matte(self, key: str) -> NDArray[np.uint8] | None:
        """uint8 (H, W), 0 background, 255 person; ``None`` where the photo has no matte."""
        _, suffix = self._suffixes(key)
        if suffix is None:
            return None
        matte = cv2.imdecode(np.frombuffer(self._read(key, suffix), np.uint8), cv2.IMREAD_GRAYSCALE)
        if matte is None:
            raise BrokenData(f"{self.folder}: the matte {key}.{suffix} cannot be decoded")
        return np.asarray(matte, np.uint8)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One photo on its way into a shard."""

    key: str
    photo: bytes
    """The file as it is; ``suffix`` names its format."""
    suffix: str
    matte: NDArray[np.uint8] | None
    """uint8 (H, W), 0 background, 255 person; ``None`` where there is nobody."""
    size_hw: tuple[int, int]
    pool: str
    label: str
    persons: int | None = None
    split: str | None = None
    """``None``: chosen by the hash of the key, 80/10/10."""
    source: str = ""
    licence: str = ""


def split_of(key: str, *, seed: int = 0, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> str:
    """train, val or test: by hash of the key, hence the same on every machine and whatever else is in the set."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if place < shares[0] else "val" if place < shares[0] + shares[1] else "test"


def write_shards(
    samples: Iterable[Sample],
    folder: Path,
    *,
    photos_per_shard: int = 1000,
    prefix: str = "shard",
    seed: int = 0,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> list[Row]:
    """Pack ``samples`` into ``folder/prefix-00000.tar`` ... and ``index.csv``; the rows written.

    The same samples give the same bytes. ``BrokenData`` on a key seen twice: a loader would mix the two photos up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    seen: set[str] = set()
    tar: tarfile.TarFile | None = None
    try:
        for number, sample in enumerate(samples):
            key = safe_key(sample.key)
            if key in seen:
                raise BrokenData(f"two photos have the key {key!r}; give each source its own prefix")
            seen.add(key)
            if number % photos_per_shard == 0:
                if tar is not None:
                    tar.close()
                name = f"{prefix}-{number // photos_per_shard:05d}.tar"
                tar = tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT)
            assert tar is not None
            _add(tar, f"{key}.{sample.suffix}", sample.photo)
            if sample.matte is not None:
                _add(tar, f"{key}.matte.png", png(sample.matte))
            height, width = sample.size_hw
            rows.append(
                Row(
                    key=key,
                    shard=name,
                    pool=sample.pool,
                    split=sample.split or split_of(key, seed=seed, shares=shares),
                    label=sample.label,
                    width=width,
                    height=height,
                    person_fraction=0.0 if sample.matte is None else round(float((sample.matte > 127).mean()), 5),
                    persons=sample.persons,
                    source=sample.source,
                    licence=sample.licence,
                )
            )
    finally:
        if tar is not None:
            tar.close()
    with (folder / INDEX).open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, [field.name for field in dataclasses.fields(Row)])
        writer.writeheader()
        for row in rows:
            writer.writerow({name: "" if value is None else value for name, value in dataclasses.asdict(row).items()})
    return rows


def safe_key(name: str) -> str:
    """``name`` without what would end a key in WebDataset (dots) or leave the folder (slashes)."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)


def png(matte: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W) as PNG bytes."""
    return bytes(cv2.imencode(".png", matte)[1])


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # time 0, no owner: equal input, equal bytes
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


