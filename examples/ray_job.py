"""Cut every photo of a folder or an object store with Ray, to Parquet or PNGs; run it again to resume.

    python examples/ray_job.py photos/ cutouts/ --url localhost:8001
    python examples/ray_job.py s3://bucket/photos s3://bucket/cutouts --format png --url triton:8001 --workers 16

Needs the extra ``ray``. Photos that failed are listed on stderr, and tried again by the next run; exit status 1 then.
"""

from __future__ import annotations

import argparse
import posixpath
import sys
from collections.abc import Iterator

import pyarrow.dataset
import ray
from pyarrow import fs

from bgclient.ray import Cutter

PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".tif", ".tiff", ".bmp", ".gif")


def listed(files: fs.FileSystem, folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Paths below ``folder`` with one of the suffixes."""
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    for entry in files.get_file_info(selector):
        if entry.type == fs.FileType.File and entry.path.lower().endswith(suffixes):
            yield entry.path


def finished(files: fs.FileSystem, folder: str, format: str, source: str) -> set[str]:
    """Paths of photos, below ``source``, that earlier runs have cut."""
    if format == "png":
        return {
            posixpath.relpath(path, folder).removesuffix(".png") for path in listed(files, folder, (".png",))
        }
    parts = list(listed(files, folder, (".parquet",)))
    if not parts:
        return set()
    rows = pyarrow.dataset.dataset(parts, filesystem=files).to_table(["path", "error"]).to_pylist()
    return {posixpath.relpath(row["path"], source) for row in rows if not row["error"]}


class PngWriter:
    """Writes each row's cut-out below ``folder``, where its photo lies below ``source``; passes on path and error."""

    def __init__(self, folder_uri: str, source: str) -> None:
        self._files, self._folder = fs.FileSystem.from_uri(folder_uri)
        self._source = source

    def __call__(self, row: dict) -> dict:
        """One row. A file appears whole or not at all: it is written beside its place and moved."""
        if not row["error"]:
            target = posixpath.join(self._folder, posixpath.relpath(row["path"], self._source) + ".png")
            self._files.create_dir(posixpath.dirname(target), recursive=True)
            with self._files.open_output_stream(f"{target}.part") as out:
                out.write(row["cutout"])
            self._files.move(f"{target}.part", target)
        return {"path": row["path"], "error": row["error"]}


def main(arguments: list[str] | None = None) -> int:
    """0 when every photo is cut, 1 when some failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder or URI of the photos")
    parser.add_argument("out", help="folder or URI of the results")
    parser.add_argument("--format", choices=("parquet", "png"), default="parquet")
    parser.add_argument("--url", help="Triton's address; default BGCLIENT_URL")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="photos handed to a worker at a time")
    given = parser.parse_args(arguments)

    from_files, source = fs.FileSystem.from_uri(absolute(given.source))
    to_files, out = fs.FileSystem.from_uri(absolute(given.out))
    done = finished(to_files, out, given.format, source)
    left = [
        path for path in listed(from_files, source, PHOTOS) if posixpath.relpath(path, source) not in done
    ]
    print(f"{len(left)} photos to cut, {len(done)} are cut already", file=sys.stderr)
    if not left:
        return 0

    photos = ray.data.read_binary_files(left, filesystem=from_files, include_paths=True)
    cutouts = photos.map_batches(
        Cutter,
        fn_constructor_kwargs={"url": given.url, **cutter_options()},
        batch_size=given.batch,
        compute=ray.data.ActorPoolStrategy(size=given.workers),
        num_cpus=0.5,  # it waits for the server half of the time, and somebody must read the photos meanwhile
    )
    if given.format == "png":
        writer = {"folder_uri": absolute(given.out), "source": source}
        compute = ray.data.ActorPoolStrategy(size=1)
        rows = cutouts.map(PngWriter, fn_constructor_kwargs=writer, compute=compute, num_cpus=0).take_all()
    else:
        earlier = set(listed(to_files, out, (".parquet",)))
        cutouts.write_parquet(out, filesystem=to_files, mode="append")
        parts = sorted(set(listed(to_files, out, (".parquet",))) - earlier)
        rows = pyarrow.dataset.dataset(parts, filesystem=to_files).to_table(["path", "error"]).to_pylist()
    failures = sorted((row["path"], row["error"]) for row in rows if row["error"])
    for path, error in failures:
        print(f"{path}: {error}", file=sys.stderr)
    return 1 if failures else 0


def cutter_options() -> dict:
    """More arguments for ``Cutter``; change it to cut otherwise, such as ``{"background": "white"}``."""
    return {}


def absolute(place: str) -> str:
    """A URI as it is, a path made absolute."""
    from pathlib import Path

    return place if "://" in place else str(Path(place).resolve())


if __name__ == "__main__":
    sys.exit(main())
