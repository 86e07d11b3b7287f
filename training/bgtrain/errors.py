"""What can be wrong with data and networks on disk, as opposed to one photo of many.

    BgError                 (bgimage.errors)
    └── DataError           a data set or a file that describes one
        ├── MissingData     a file or folder is not where it should be
        └── BrokenData      it is there and does not say what it should

A photo that cannot be decoded does not fail the set: it is skipped, counted and listed
(``readers.Skipped``).
"""

from __future__ import annotations

from pathlib import Path

from bgimage.errors import BgError


class DataError(BgError):
    """A data set cannot be used; the message names the file and says what to do."""

    code = "bad_data"


class MissingData(DataError):
    """A file or folder is not where it should be."""

    code = "missing_data"


class BrokenData(DataError):
    """A file is there, and does not say what it should."""

    code = "broken_data"


def existing(path: Path, what: str) -> Path:
    """``path``, or ``MissingData`` that says ``what`` should have been there."""
    if not path.exists():
        raise MissingData(f"no {what} at {path}")
    return path
