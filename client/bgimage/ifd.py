"""Directories of TIFF files and EXIF blocks (TIFF 6.0, section 2; BigTIFF), read and written value by value.

Values stay the bytes that they were until somebody asks for the numbers: a directory of millions of values costs as
little to read as one of ten.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_CODES |= {13: "I", 16: "Q", 17: "q", 18: "Q"}
SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 3, 4, 5, 7, 16
MAX_VALUES = 1 << 18
"""Values of a tag that are read: a table of strips or tiles has the most."""
MAX_ENTRIES = 4_096
"""Entries of a directory; those that follow are left out."""


@dataclass(frozen=True)
class Value:
    """What one tag says: its type (TIFF 6.0, section 2) and its bytes, in byte order ``order`` ("<" or ">")."""

    kind: int
    data: bytes | memoryview
    order: str

    def first(self, most: int) -> tuple[float, ...]:
        """At most so many of the values as numbers; a ratio by 0 is infinite."""
        codes = _CODES[self.kind]
        one = struct.calcsize("=" + codes)
        count = min(len(self.data) // one, most)
        flat = struct.unpack_from(f"{self.order}{count * len(codes)}{codes[0]}", self.data)
        if len(codes) == 1:
            return flat
        return tuple(a / b if b else float("inf") for a, b in zip(flat[::2], flat[1::2], strict=True))


class Directory(dict[int, Value]):
    """Values by tag. ``next``: where the following directory begins, 0 for none."""

    next = 0

    def number(self, tag: int, default: int = 0) -> int:
        """The first number of a tag, ``default`` without one."""
        values = self[tag].first(1) if tag in self else ()
        return int(values[0]) if values and math.isfinite(values[0]) else default

    def numbers(self, tag: int, most: int = MAX_VALUES) -> tuple[float, ...]:
        """The numbers of a tag, at most so many; none without it."""
        return self[tag].first(most) if tag in self else ()


class Tiff:
    """The directories in ``data``, which begins with a TIFF header (an EXIF block: after its "Exif\\0\\0").

    Raises:
        ValueError: no TIFF header, or a directory outside the data.
    """

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
        magic = struct.unpack_from(self.order + "H", data, 2)[0] if self.order and len(data) >= 8 else 0
        if magic not in (42, 43):
            raise ValueError("no TIFF header")
        self.big = magic == 43
        self.first = int(self._unpack("Q", 8) if self.big else self._unpack("I", 4))

    def _unpack(self, code: str, at: int) -> int:
        try:
            number: int = struct.unpack_from(self.order + code, self.data, at)[0]
        except (struct.error, OverflowError) as error:  # the latter for an offset of 64 bits
            raise ValueError(f"nothing at {at}") from error
        return number

    def directory(self, at: int) -> Directory:
        """The directory at offset ``at``; entries whose type is unknown or that point outside the data are left out."""
        word, entry, inline = ("Q", 20, 8) if self.big else ("I", 12, 4)
        count = self._unpack("Q" if self.big else "H", at)
        at += 8 if self.big else 2
        found = Directory()
        for here in range(at, at + min(count, MAX_ENTRIES) * entry, entry):
            if here + entry > len(self.data):
                break
            tag, kind = self._unpack("H", here), self._unpack("H", here + 2)
            size = self._unpack(word, here + 4) * struct.calcsize("=" + _CODES.get(kind, ""))
            start = here + entry - inline
            if size > inline:
                start = self._unpack(word, start)
            if kind in _CODES and 0 < size <= len(self.data) - start and tag not in found:
                found[tag] = Value(kind, self.data[start : start + size], self.order)
        after = at + count * entry
        if after + inline <= len(self.data):
            found.next = self._unpack(word, after)
        return found


def value(order: str, kind: int, *numbers: int) -> Value:
    """A value of whole numbers."""
    return Value(kind, struct.pack(f"{order}{len(numbers)}{_CODES[kind][0]}", *numbers), order)


def written(order: str, directories: Mapping[int | None, Mapping[int, Value]], at: int) -> bytes:
    """A directory and those it points to, one after the other, as they stand from offset ``at`` on (classic TIFF).

    Args:
        order: "<" or ">", that of every value.
        directories: the first one under None, the others under the tag of the first that points to them.
        at: an even offset.
    """
    main = dict(directories[None])
    others = {tag: entries for tag, entries in directories.items() if tag is not None and entries}
    main |= {tag: value(order, LONG, 0) for tag in others}
    place = at + _size(main)
    for tag, entries in others.items():
        main[tag] = value(order, LONG, place)
        place += _size(entries)
    parts, place = [], at
    for entries in (main, *others.values()):
        parts.append(_one(order, entries, place))
        place += _size(entries)
    return b"".join(parts)


def _size(entries: Mapping[int, Value]) -> int:
    outside = (len(one.data) for one in entries.values() if len(one.data) > 4)
    return 2 + 12 * len(entries) + 4 + sum(size + size % 2 for size in outside)


def _one(order: str, entries: Mapping[int, Value], at: int) -> bytes:
    table, heap = [struct.pack(order + "H", len(entries))], []
    place = at + 2 + 12 * len(entries) + 4
    for tag, one in sorted(entries.items()):
        data = bytes(one.data)
        count = len(data) // struct.calcsize("=" + _CODES[one.kind])
        if len(data) <= 4:
            table.append(struct.pack(order + "HHI4s", tag, one.kind, count, data))
        else:
            table.append(struct.pack(order + "HHII", tag, one.kind, count, place))
            heap.append(data + b"\0" * (len(data) % 2))
            place += len(heap[-1])
    return b"".join((*table, struct.pack(order + "I", 0), *heap))
