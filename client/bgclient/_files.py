"""Files that appear whole or not at all."""

from __future__ import annotations

import functools
import os
import platform
import re
import secrets
import select
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bgclient.errors import TargetError

_STALE_S = 3600.0  # no write takes as long
_PART = re.compile(r"\.bgclient-([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.part")
_WRITE_ONCE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


def write_atomically(target: Path, data: bytes, *, overwrite: bool) -> None:
    """Write ``data`` to a temporary file beside ``target``, then give it its name.

    A link stays a link: the file that it leads to is written. Devices and pipes are written to as they are.

    Raises:
        FileExistsError: ``target`` exists and ``overwrite`` is false; no file is lost, also in a race.
        TargetError: it cannot be written; says why, and names ``target``.
    """
    with _named(target):
        found = _stat(target)
        if found is not None and not overwrite:
            raise FileExistsError(f"{target} exists")
        if found is not None and not stat.S_ISREG(found.st_mode):
            with open(target, "wb", buffering=0) as file:
                write_whole(file, data)
            return
        real = Path(os.path.realpath(target))
        part = real.with_name(f".bgclient-{_here()}-{os.getpid()}-{secrets.token_hex(8)}.part")
        with os.fdopen(os.open(part, _WRITE_ONCE, 0o666), "wb", buffering=0) as file:
            try:
                write_whole(file, data)
                if found is not None and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))
                if os.name == "nt":  # there, an open file cannot be renamed
                    file.close()
                if overwrite:
                    part.replace(real)
                else:
                    _name_once(part, real)
            finally:
                part.unlink(missing_ok=True)


def write_whole(file: IO[bytes], data: bytes) -> None:
    """All of ``data``, also where ``file`` has no buffer and takes a part at a time."""
    left = memoryview(data)
    while left:
        written: int | None = file.write(left)
        if written is None:  # a pipe that does not block, and is full
            select.select([], [file], [])
        left = left[written or 0 :]
    file.flush()


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Errors of the operating system as ``TargetError`` that names ``target`` and never the temporary file."""
    try:
        yield
    except (FileExistsError, BrokenPipeError):
        raise
    except OSError as error:
        raise TargetError.of(target, error) from error


def _stat(target: Path) -> os.stat_result | None:
    try:
        return target.stat()
    except FileNotFoundError:
        return None


def _name_once(part: Path, target: Path) -> None:
    try:
        os.link(part, target)  # fails if the name is taken, unlike a rename
    except FileExistsError:
        raise FileExistsError(f"{target} exists") from None
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(f"{target} exists") from None
        part.replace(target)


def remove_parts(folder: Path) -> None:
    """Remove temporary files in ``folder`` that no process can be writing any more: those of dead processes of this
    machine or container, and, whoever wrote them, old ones.
    """
    for path in folder.glob(".bgclient-*.part"):
        match = _PART.fullmatch(path.name)
        dead = match is not None and match[1] == _here() and not _runs(int(match[2]))
        try:
            if dead or time.time() - path.lstat().st_mtime > _STALE_S:
                path.unlink()
        except OSError:
            continue


@functools.cache
def _here() -> str:
    """What this machine's or container's process numbers are numbers of, 8 hexadecimal digits."""
    try:
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        space = ""
    return f"{zlib.crc32(f'{platform.node()} {space}'.encode()):08x}"


def _runs(pid: int) -> bool:
    """True while a process of that number exists on this machine; also where that is unknown."""
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
