"""Photos and mattes in tar shards (WebDataset naming), with ``index.csv`` beside them: the training format.

A folder holds ``index.csv`` (one row a photo) and tar files with ``KEY.jpg`` and ``KEY.png``: an 8-bit matte
of the photo's size, 0 background, 255 person. Photos without people need no matte. ``KEY.ignore.png`` is optional:
255 where the label says neither.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import itertools
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bgtrain.errors import BrokenData, existing

INDEX = "index.csv"
SPLITS = ("train", "val", "test")
PERSON_LABELS = ("pixel", "polygon", "pseudo")
"""Kinds of label that mark people."""
LABELS = (*PERSON_LABELS, "empty", "none")


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
    """pixel (1-3 px off), polygon (3-8 px), pseudo (made by a network), empty (no people), none (background)."""
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


@cache
def key_list(name: str) -> frozenset[str]:
    """The keys of a text file of this package: one a line, lines of ``#`` are comments."""
    text = resources.files("bgtrain").joinpath(name).read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


class Shards:
    """Random access to the photos of a folder of shards; safe to share between threads and forked workers.

    ``rows`` lists the photos of ``split`` and ``pools`` (all without them), less the keys ``left_out`` (by
    default those of ``left_out.txt``: photos that a later split has too); ``photo`` and ``matte`` read one.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        split: str | None = None,
        pools: Iterable[str] | None = None,
        left_out: Iterable[str] | None = None,
    ) -> None:
        self.folder = data_folder(folder)
        wanted = set(pools) if pools is not None else None
        dropped = key_list("left_out.txt") if left_out is None else frozenset(left_out)
        self.rows = [
            row
            for row in read_index(self.folder)
            if split in (None, row.split)
            and (wanted is None or row.pool in wanted)
            and row.key not in dropped
        ]
        self._where: dict[str, dict[str, tuple[int, int, int]]] = {}  # key -> suffix -> (file, offset, size)
        self._files = []
        shard_of = {row.key: row.shard for row in self.rows}
        for name in sorted(set(shard_of.values())):
            path = existing(self.folder / name, "shard that the index names")
            file = path.open("rb")
            self._files.append(file)
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    members = tar.getmembers()
            except tarfile.TarError as error:
                raise BrokenData(f"{path} is not a readable tar: {error}; convert again") from error
            for member in members:
                key, _, suffix = os.path.basename(member.name).partition(".")
                if shard_of.get(key, name) == name:
                    self._where.setdefault(key, {})[suffix] = (file.fileno(), member.offset_data, member.size)
        lost = [row.key for row in self.rows if "jpg" not in self._where.get(row.key, {})]
        if lost:
            raise BrokenData(f"{self.folder}: {len(lost)} photos are in no shard, the first {lost[0]!r}")

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

    def photo(self, key: str) -> bytes:
        """The photo's JPEG, as it was packed."""
        return self._read(key, "jpg")

    def image(self, key: str) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), RGB, as the JPEG stores it. ``BrokenData`` where it cannot be decoded."""
        return self._decoded(key, "jpg", cv2.IMREAD_COLOR_RGB)

    def matte(self, key: str) -> NDArray[np.uint8] | None:
        """uint8 (H, W), 0 background, 255 person; ``None`` where the photo has no matte."""
        return self._grey(key, "png")

    def ignore(self, key: str) -> NDArray[np.bool_] | None:
        """bool (H, W): where the matte says nothing; ``None`` where it says something everywhere."""
        grey = self._grey(key, "ignore.png")
        return None if grey is None else grey > 127

    def _grey(self, key: str, suffix: str) -> NDArray[np.uint8] | None:
        return self._decoded(key, suffix, cv2.IMREAD_GRAYSCALE) if suffix in self._where[key] else None

    def _decoded(self, key: str, suffix: str, mode: int) -> NDArray[np.uint8]:
        image = cv2.imdecode(np.frombuffer(self._read(key, suffix), np.uint8), mode)
        if image is None:
            raise BrokenData(f"{self.folder}: {key}.{suffix} cannot be decoded")
        return np.asarray(image, np.uint8)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One photo on its way into a shard."""

    key: str
    jpeg: bytes
    """The photo's file; a JPEG is packed as it is."""
    matte: NDArray[np.uint8] | None
    """uint8 (H, W), 0 background, 255 person; ``None`` without people."""
    ignore: NDArray[np.bool_] | None = None
    """bool (H, W): pixels that say neither; packed as ``KEY.ignore.png``."""
    size_hw: tuple[int, int]
    """Height and width, pixels."""
    pool: str
    label: str
    persons: int | None = None
    split: str | None = None
    """``None``: chosen by the hash of the key, 80/10/10."""
    agreement: float | None = None
    """Confidence of a pseudo label, 0..1."""
    source: str = ""
    licence: str = ""


def fraction_of(key: str, seed: int = 0) -> float:
    """0..1, by hash of the key: an order that looks random and depends on nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big") / 2**64


def split_of(key: str, *, seed: int = 0, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> str:
    """train, val or test, by hash of the key: the same on every machine, whatever else is in the set."""
    fraction = fraction_of(key, seed)
    return "train" if fraction < shares[0] else "val" if fraction < shares[0] + shares[1] else "test"


def write_shards(
    samples: Iterable[Sample],
    folder: Path,
    *,
    photos_per_shard: int = 1000,
    prefix: str = "shard",
    seed: int = 0,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    add: bool = False,
    kept: Sequence[Row] = (),
) -> list[Row]:
    """Pack ``samples`` into ``folder/prefix-00000.tar`` ... and ``index.csv``; the rows written.

    ``add`` keeps what an index that is already there says of other shards; ``kept`` are rows of such shards. The
    same samples give the same bytes.
    ``BrokenData`` on a key seen twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = read_index(folder) if add and (folder / INDEX).exists() else []
    kept = [*kept, *(row for row in there if not row.shard.startswith(f"{prefix}-"))]
    rows: list[Row] = []
    seen = {row.key for row in kept}
    for number, batch in enumerate(_batched(samples, photos_per_shard)):
        name = f"{prefix}-{number:05d}.tar"
        with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in batch:
                key = safe_key(sample.key)
                if key in seen:
                    raise BrokenData(f"two photos have the key {key!r}; give each source its own prefix")
                seen.add(key)
                _add(tar, f"{key}.jpg", sample.jpeg)
                if sample.matte is not None:
                    _add(tar, f"{key}.png", png(sample.matte))
                if sample.ignore is not None:
                    _add(tar, f"{key}.ignore.png", png(sample.ignore.astype(np.uint8) * 255))
                rows.append(_row(sample, key, name, sample.split or split_of(key, seed=seed, shares=shares)))
    with (folder / INDEX).open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, [field.name for field in dataclasses.fields(Row)])
        writer.writeheader()
        for row in (*kept, *rows):
            writer.writerow(dataclasses.asdict(row))  # None becomes an empty cell
    return rows


def _batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    rest = iter(samples)
    while batch := list(itertools.islice(rest, size)):  # itertools.batched needs Python 3.12
        yield batch


def _row(sample: Sample, key: str, shard: str, split: str) -> Row:
    height, width = sample.size_hw
    return Row(
        key=key,
        shard=shard,
        pool=sample.pool,
        split=split,
        label=sample.label,
        width=width,
        height=height,
        person_fraction=round(float((sample.matte > 127).mean()), 5) if sample.matte is not None else 0.0,
        persons=sample.persons,
        agreement=sample.agreement,
        source=sample.source,
        licence=sample.licence,
    )


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
