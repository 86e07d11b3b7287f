"""The folder that one server runs from: its backends, its Python path, and the name of its shared memory.

Triton starts its Python models through a shell line and without the environment's PYTHONPATH. So everything
it is told lies under one path without spaces, the working directory (first on the models' ``sys.path``) links
the packages they need, and the environment itself is found through ``PATH``.

The name of the folder is the prefix of the server's regions in /dev/shm. A server holds a lock in it
while it lives. The next server that starts removes what a killed one left behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bgimage import heap
from bgserver.errors import DiskFull, NetworkMissing, SharedMemoryTooSmall, WrongPython
from bgserver.installation import Installation, lay_out_backends

SHARED_MEMORY = Path("/dev/shm")

MIN_SHARED_MEMORY_BYTES = 48 * 1024 * 1024
"""Free in /dev/shm at the start. A Python model takes 1 MiB at rest and grows with the photos of its largest
batch, never to shrink; Docker's default of 64 MiB starts and serves small photos, production wants 1 GiB."""

_PREFIX = "bgserver-"


def _base() -> Path:
    """The first temporary folder whose path a shell line can carry, and the models' Python, which knows ASCII only."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if folder.isascii() and not set(folder) & set(" \t'\"\\$`&;|<>()*?") and os.access(folder, os.W_OK):
            return Path(folder)
    raise DiskFull("no writable temporary folder whose path has ASCII letters and no spaces; set TMPDIR")


def served(repository: Path, models: Sequence[str], variant: str | None) -> list[Path]:
    """Folders of ``models`` and, where one is an ensemble, of those that it calls in this variant.

    Raises:
        NetworkMissing: one of them is not there.
    """
    found: dict[str, Path] = {}
    wanted = list(models)  # grows while it is walked
    for name in wanted:
        folder = repository / name
        if not folder.is_dir():
            raise NetworkMissing(f"model repository {repository} has no model {name}")
        found[name] = folder
        text = _configuration(folder, variant)
        wanted += [step for step in re.findall(r'\bmodel_name\s*:\s*"([^"]+)"', text) if step not in wanted]
    return list(found.values())


def _configuration(folder: Path, variant: str | None) -> str:
    configs = [folder / "configs" / f"{variant}.pbtxt", folder / "config.pbtxt"]
    return next((config.read_text() for config in configs if config.is_file()), "")


def complete(models: Sequence[Path], variant: str | None) -> bool:
    """Whether each of these model folders says its batch size, inputs and outputs itself. Triton then need not start a
    process for each to ask it, which takes a second of a core."""
    parts = (r"max_batch_size\s*:", r"input\s*[:\[{]", r"output\s*[:\[{]")
    texts = [_configuration(folder, variant) for folder in models]
    return all(re.search(rf"^\s*{part}", text, re.MULTILINE) for text in texts for part in parts)


@dataclass
class RunDir:
    """A locked folder with everything a server needs; ``remove`` it in the end."""

    path: Path
    lock: TextIO

    @classmethod
    def create(cls, installation: Installation, models: Sequence[Path]) -> RunDir:
        """Lay the folder out, with these model folders and no others to be served.

        Raises:
            DiskFull: no room for it, or no inode, or none in /tmp.
            SharedMemoryTooSmall: less than ``MIN_SHARED_MEMORY_BYTES`` free in /dev/shm.
            WrongPython: the Python backend cannot load this Python's library.
        """
        sweep()
        if not os.access(SHARED_MEMORY, os.W_OK):
            raise SharedMemoryTooSmall(
                f"{SHARED_MEMORY} cannot be written to; the server's processes pass every photo through it: mount it "
                "writable (--shm-size=1g, or an emptyDir with medium: Memory)"
            )
        free = shutil.disk_usage(SHARED_MEMORY).free
        if free < MIN_SHARED_MEMORY_BYTES:
            raise SharedMemoryTooSmall(
                f"{free >> 20} MiB free in {SHARED_MEMORY}, {MIN_SHARED_MEMORY_BYTES >> 20} MiB needed; "
                "give the container more (--shm-size=1g, or an emptyDir with medium: Memory)"
            )
        _try_environments()
        base = _base()
        try:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            run = cls(path, (path / "new").open("w"))
            try:
                fcntl.flock(run.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (path / "new").rename(path / "lock")  # another server would sweep a folder whose lock is free
                run._lay_out(installation, models)
            except BaseException:
                run.remove()
                raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"no room in {base} for the server's folder (about 2 MB); free some, or set TMPDIR"
                ) from error
            raise
        return run

    def _lay_out(self, installation: Installation, models: Sequence[Path]) -> None:
        work = self.path / "work"
        work.mkdir()
        for package in ("bgimage", "bgserver"):
            spec = importlib.util.find_spec(package)
            assert spec is not None
            assert spec.submodule_search_locations is not None
            (work / package).symlink_to(Path(next(iter(spec.submodule_search_locations))).resolve())
        if installation.numpy:
            for name in ("numpy", "numpy.libs"):
                (work / name).symlink_to(installation.numpy / name)
        (self.path / "models").mkdir()
        (self.path / "measured").mkdir()
        for model in models:
            (self.path / "models" / model.name).symlink_to(model.resolve())
        if installation.wheel and installation.stub:
            lay_out_backends(installation, self.path / "backends")
            (self.path / "caches").symlink_to(installation.wheel / "caches")
            self._try_stub(installation.stub)

    def _try_stub(self, stub: Path) -> None:
        """The stub prints its usage and ends, unless the loader cannot even start it."""
        said = subprocess.run([stub], env=self.environment(), capture_output=True, text=True, check=False)
        if said.returncode == 127:
            raise WrongPython(
                f"{said.stderr.strip().rpartition('loading shared libraries: ')[2]}; the server's models need "
                f"the shared library of Python {sysconfig.get_python_version()}: apt-get install "
                f"libpython{sysconfig.get_python_version()}, or a Python built with --enable-shared"
            )

    def environment(self) -> dict[str, str]:
        """The server's environment: this one, with this Python's programs and library first."""
        environment = {name: text for name, text in os.environ.items() if not _is_secret(name)}
        first = {
            "PATH": str(Path(sys.executable).parent),
            "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or "",
        }
        for name, folder in first.items():
            environment[name] = os.pathsep.join(filter(None, (folder, environment.get(name))))
        # Models are read, never written to: no __pycache__ in the repository.
        ours = {"PYTHONDONTWRITEBYTECODE": "1", "BGSERVER_MEASURED": str(self.path / "measured")}
        return heap.environment() | environment | ours

    @property
    def shared_memory_prefix(self) -> str:
        """First part of the names of the server's regions in /dev/shm."""
        return f"{self.path.name}-"

    def hide_shared_memory(self) -> None:
        """Take the server's regions from the eyes of other users; Triton makes them 0644, whatever the umask says."""
        for region in SHARED_MEMORY.glob(f"{self.shared_memory_prefix}*"):
            with contextlib.suppress(FileNotFoundError):
                region.chmod(0o600)

    def sweep_shared_memory(self) -> None:
        """Remove the regions of a server that has ended."""
        for region in SHARED_MEMORY.glob(f"{self.shared_memory_prefix}*"):
            region.unlink(missing_ok=True)

    def remove(self) -> None:
        """Leave nothing behind."""
        _end_processes_in(self.path.resolve())
        with contextlib.suppress(OSError):
            sweep_environments((self.path / "lock").stat().st_mtime)
        self.sweep_shared_memory()
        shutil.rmtree(self.path, ignore_errors=True)
        self.lock.close()


def _is_secret(name: str) -> bool:
    """True for what no process may know that decodes strangers' photos: it is in the environment of the models."""
    return name.startswith("BGCLIENT_") or name == "BGSERVER_ADMIN_KEY"


def _end_processes_in(folder: Path) -> None:
    """Kill the processes that work in a run folder: tritonserver, also a stopped one, and its models.

    The kernel ends tritonserver when its keeper is killed, but not the models.
    """
    deadline = time.monotonic() + 5.0
    while (pids := list(_working_in(folder))) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _working_in(folder: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # gone, or another user's
                if Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                    yield int(entry.name)


def _try_environments() -> None:
    """``DiskFull`` where Triton's Python backend could not make its folders, which lie in /tmp whatever TMPDIR says."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix="python_env_", dir="/tmp"))
    except OSError as error:
        raise DiskFull(
            f"/tmp takes no folder ({os.strerror(error.errno or 0).lower()}), and Triton's Python backend makes "
            "its own there, whatever TMPDIR says; free some room, or let it be written to"
        ) from error


def sweep_environments(since: float) -> None:
    """Remove the empty folders that Triton's Python backend made in /tmp since then, and left when it was killed."""
    for path in Path("/tmp").glob("python_env_*"):
        with contextlib.suppress(OSError):  # in use: not empty
            found = path.stat()
            if found.st_uid == os.getuid() and found.st_ctime >= since:
                path.rmdir()


def sweep() -> None:
    """Remove what this user's servers left whose keeper was killed: their locks are free."""
    for path in _base().glob(f"{_PREFIX}*"):
        try:
            if path.stat().st_uid != os.getuid():
                continue
            with (path / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                RunDir(path, lock).remove()
        except OSError:
            continue  # in use, or another sweeper was faster
