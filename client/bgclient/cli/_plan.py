"""Which photos a command line means, and where each cut-out goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bgclient.cli._console import CommandError, Status

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp"),
        *(".png", ".apng", ".webp", ".avif", ".avifs", ".bmp", ".dib", ".gif"),
        *(".heic", ".heics", ".heif", ".heifs", ".hif", ".tif", ".tiff"),
    )
)
"""Files of a folder that are taken for photos; a file that is named is always taken."""

SUFFIX_OF = {"png": ".png", "webp": ".webp", "avif": ".avif", "jpeg": ".jpg", "tiff": ".tif"}


@dataclass(frozen=True)
class Job:
    """One photo to cut."""

    source: str
    """Path, "-" for stdin, or a URL."""
    target: Path | None
    """None: stdout."""


@dataclass
class Plan:
    """What a command line asks for."""

    jobs: list[Job]
    many: bool
    """True where a folder or several photos were named: existing targets are then skipped, not refused."""
    folder: Path | None
    """The folder that is read, where there is exactly one."""
    target: Path | None
    """The folder that is written, where there is one."""
    unreadable: list[OSError] = field(default_factory=list)
    """Folders that could not be looked into."""
    left_out: int = 0
    """Cut-outs in the folder of their photos; they are not cut again."""


def is_url(text: str) -> bool:
    """True for http:// and https://."""
    return text.lower().startswith(("http://", "https://"))


def plan(paths: list[str], format: str | None) -> Plan:
    """Sort out ``SOURCE``, ``SOURCE TARGET`` and ``SOURCE... FOLDER``.

    Raises:
        CommandError: a source that does not exist, or a combination that means nothing.
    """
    suffix = SUFFIX_OF[format or "png"]
    sources, target = (paths, None) if len(paths) == 1 else (paths[:-1], paths[-1])
    if len(sources) > 1 and target is not None and not _is_folder(target):
        raise CommandError(
            Status.USAGE,
            f"{target} is not a folder; several photos go into one: name it last, with a / at its end",
        )
    if len(sources) > 1 and "-" in sources:
        raise CommandError(Status.USAGE, "'-' (stdin) cannot be mixed with other photos")
    for source in sources:
        if source != "-" and not is_url(source) and not os.path.exists(source):
            raise CommandError(Status.USAGE, f"{source}: no such file or folder")
    source = sources[0]
    if len(sources) == 1 and source != "-" and not is_url(source) and os.path.isdir(source):
        return _folder_plan(Path(source), target, suffix)
    if len(sources) > 1 or (target is not None and target != "-" and _is_folder(target)):
        assert target is not None
        return _into(sources, Path(target), suffix)
    return Plan([Job(source, _single_target(source, target, suffix))], many=False, folder=None, target=None)


def _is_folder(path: str) -> bool:
    return path.endswith(("/", os.sep)) or os.path.isdir(path)


def _single_target(source: str, target: str | None, suffix: str) -> Path | None:
    if target == "-" or (target is None and source == "-"):
        return None
    if target is not None:
        return Path(target)
    name = source.rsplit("/", 1)[-1].partition("?")[0] if is_url(source) else source
    return Path(name).with_name(f"{Path(name).stem or 'photo'}-cut{suffix}")


def _folder_plan(folder: Path, target: str | None, suffix: str) -> Plan:
    if target == "-":
        raise CommandError(Status.USAGE, "a folder of cut-outs does not fit into stdout; name a folder")
    if target is not None and os.path.isfile(target):
        raise CommandError(Status.USAGE, f"{target} is a file; the cut-outs of a folder go into a folder")
    into = Path(target) if target is not None else folder.with_name(f"{_real(folder).name}-cut")
    if _real(into) == _real(folder):
        raise CommandError(Status.USAGE, f"{into} is the folder of the photos; cut-outs go into another one")
    planned = Plan([], many=True, folder=folder, target=into)
    planned.jobs += folder_jobs(folder, into, suffix, planned)
    return planned


def folder_jobs(folder: Path, into: Path, suffix: str, planned: Plan | None = None) -> list[Job]:
    """A job for every photo under ``folder``, its place in the tree kept; sorted.

    Args:
        folder: of the photos.
        into: of the cut-outs.
        suffix: of the cut-outs.
        planned: gets the folders that cannot be read, and the number of cut-outs that were left out.
    """
    photos = [path.relative_to(folder) for path in _photos(folder, into, planned)]
    return [
        Job(str(folder / path), into / name)
        for path, name in zip(photos, _names(photos, suffix), strict=True)
    ]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a link that leads to itself


def _into(sources: list[str], into: Path, suffix: str) -> Plan:
    planned = Plan([], many=True, folder=None, target=into)
    jobs = planned.jobs
    for source in sources:
        if not is_url(source) and os.path.isdir(source):
            jobs += folder_jobs(Path(source), into / _real(Path(source)).name, suffix, planned)
    singles = [
        Path(s.partition("?")[0]) if is_url(s) else Path(s)
        for s in sources
        if is_url(s) or not os.path.isdir(s)
    ]
    named = [s for s in sources if is_url(s) or not os.path.isdir(s)]
    names = _names([Path(path.name) for path in singles], suffix)
    jobs += [Job(source, into / name) for source, name in zip(named, names, strict=True)]
    twice = [str(target) for target, count in Counter(job.target for job in jobs).items() if count > 1]
    if twice:
        raise CommandError(
            Status.USAGE, f"two photos would become {twice[0]}; cut them into different folders"
        )
    return planned


def _photos(folder: Path, without: Path, planned: Plan | None) -> Iterator[Path]:
    """Photos under ``folder``, sorted; hidden files and folders, links to folders and ``without`` are left out, and
    cut-outs in the folder of their photos (me-cut.png next to me.jpg, trip-cut/ next to trip/).
    """
    skipped = _real(without)
    unreadable = planned.unreadable.append if planned else None
    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(
            name
            for name in folders
            if not (
                name.startswith(".")
                or (name.endswith("-cut") and name.removesuffix("-cut") in folders)
                or _real(Path(place, name)) == skipped
            )
        )
        photos = [name for name in sorted(files) if not name.startswith(".") and _is_photo(name)]
        stems = {Path(name).stem for name in photos}
        for name in photos:
            stem, suffix = os.path.splitext(name)
            if suffix in SUFFIX_OF.values() and stem.endswith("-cut") and stem.removesuffix("-cut") in stems:
                if planned:
                    planned.left_out += 1
                continue
            yield Path(place, name)


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _names(photos: list[Path], suffix: str) -> list[Path]:
    """Each photo's name with the new suffix; a.jpg and a.png become a.jpg.png and a.png.png."""
    names = [path.with_suffix(suffix) for path in photos]
    while True:  # a longer name may be the short one of another photo: a.jpg.png of a.jpg, and of a.jpg.png
        taken = Counter(str(name).casefold() for name in names)
        longer = [path.with_name(path.name + suffix) for path in photos]
        new = [
            name if taken[str(name).casefold()] == 1 else long
            for name, long in zip(names, longer, strict=True)
        ]
        if new == names:
            return names
        names = new
