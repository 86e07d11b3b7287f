"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bgclient._pids import runs

_PART = re.compile(r"\.bgclient-(\d+)-.*\.part")


def write_atomically(target: Path, data: bytes, *, overwrite: bool) -> None:
    """Write ``data`` to a temporary file beside ``target``, then give it its name.

    Raises:
        FileExistsError: ``target`` exists and ``overwrite`` is false; nobody's file is lost, also in a race.
        OSError: the folder cannot be written.
    """
    part = target.with_name(f".bgclient-{os.getpid()}-{target.name}.part")
    try:
        part.write_bytes(data)
        if overwrite:
            part.replace(target)
        else:
            _name_once(part, target)
    finally:
        part.unlink(missing_ok=True)


def _name_once(part: Path, target: Path) -> None:
    try:
        os.link(part, target)  # fails if the name is taken, unlike a rename
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(f"{target} exists") from None
        part.replace(target)


def remove_parts(folder: Path) -> None:
    """Remove temporary files in ``folder`` whose process no longer runs."""
    for path in folder.glob(".bgclient-*.part"):
        match = _PART.fullmatch(path.name)
        if match and not runs(int(match[1])):
            path.unlink(missing_ok=True)
