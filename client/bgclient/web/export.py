"""The page as static files, for hosts that run no program: photos are cut in the visitor's browser, and only there."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

from bgclient._files import write_atomically
from bgclient.errors import TargetError
from bgclient.web import page
from bgclient.web.errors import AssetsMissing, FolderTaken
from bgclient.web.frame import PAGE_POLICY

_MARK = '<html lang="en" data-only="device">'
"""Tells the page that no server is behind it, and an export from other people's files."""

_BY_SERVER = ("index.html", "docs.html", "js/docs.js")
"""Of the static files, those that lie elsewhere or describe the server."""


def export(folder: Path) -> list[Path]:
    """Write ``index.html`` and ``static/`` into ``folder``, which is made where it is missing.

    Addresses are relative: the folder may be published under any path. An earlier export is written over.

    Returns:
        The files, ``index.html`` first.

    Raises:
        AssetsMissing: the network or ONNX Runtime is not there.
        FolderTaken: ``folder`` holds files that are not of an export; nothing was written.
        TargetError: a file cannot be written.
    """
    missing = page.missing_assets()
    if missing:
        raise AssetsMissing(
            f"a page without a server needs {', '.join(missing)} in {page.STATIC}; run make web-assets in a checkout"
        )
    sources = dict(_sources())
    _check_free(folder, {"index.html", *sources})
    index = folder / "index.html"
    _write(index, _index().encode())
    for name, source in sources.items():
        data = source.read_bytes()
        _write(folder / name, gzip.decompress(data) if source.suffix == ".gz" else data)
    return [index, *(folder / name for name in sources)]


def _sources() -> Iterator[tuple[str, Path]]:
    """Names under the exported folder, and what lies there. Static hosts send a ``.gz`` as it is: it is unpacked."""
    for path in sorted(page.STATIC.rglob("*")):
        name = path.relative_to(page.STATIC).as_posix()
        if path.is_file() and name not in _BY_SERVER:
            yield f"static/{name.removesuffix('.gz')}", path


def _index() -> str:
    text = (page.STATIC / "index.html").read_text(encoding="utf-8")
    charset = '<meta charset="utf-8">'
    policy = f'<meta http-equiv="Content-Security-Policy" content="{PAGE_POLICY}">'
    return text.replace('<html lang="en">', _MARK, 1).replace(charset, f"{charset}\n  {policy}", 1)


def _check_free(folder: Path, ours: set[str]) -> None:
    index = folder / "index.html"
    try:
        # an export begins with its index: one that was stopped is known, too
        earlier = index.is_file() and _MARK.encode() in index.read_bytes()
        for path in sorted(folder.rglob("*")):
            link = path.is_symlink()
            name = path.relative_to(folder).as_posix()
            if link or not (path.is_dir() or (earlier and name in ours)):
                raise FolderTaken(
                    f"{folder}: holds other files, such as {name}; name a new or an empty folder"
                )
    except OSError as error:
        raise TargetError.of(folder, error) from error


def _write(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError.of(target.parent, error) from error
    write_atomically(target, data, overwrite=True)
