"""The server as seen from outside: its processes, their memory, its shared memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil

from bgbench.errors import BenchError
from bgserver import Server


class ChaosFailed(BenchError):
    """A request was lost, or a cut-out wrong, or something was left behind."""

    code = "chaos_failed"


def memory_mb(processes: Iterable[psutil.Process]) -> float:
    """Proportional set size: pages that processes share are counted once."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 2**20


def unused_regions() -> set[Path]:
    """Files in /dev/shm, whatever their name, that no living process maps."""
    mapped: set[str] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # ended meanwhile, or another user's
            mapped.update(part.path for part in process.memory_maps())
    return {path for path in Path("/dev/shm").iterdir() if str(path) not in mapped}


class Watched:
    """The running server, seen from outside."""

    def __init__(self, server: Server) -> None:
        self.server = server
        triton = psutil.Process(self.triton)
        self.folder = Path(triton.cwd()).parent
        self.keeper = triton.ppid()

    @property
    def triton(self) -> int:
        """Process id of tritonserver; another one after a restart."""
        return int(self.server.facts["pid"])

    def family(self) -> list[psutil.Process]:
        """Keeper, tritonserver, models; none where the keeper is gone."""
        try:
            keeper = psutil.Process(self.keeper)
            return [keeper, *keeper.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def model(self, name: str) -> int:
        """Process id of an instance of a model."""
        for process in psutil.Process(self.triton).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                if "stub" in line and f"/{name}/" in line:
                    return process.pid
        raise ChaosFailed(f"no process of model {name} below tritonserver")

    def shared_memory_mb(self) -> float:
        """What the server has in /dev/shm."""
        sizes = []
        for region in Path("/dev/shm").glob(f"{self.folder.name}-*"):
            with contextlib.suppress(OSError):
                sizes.append(region.stat().st_size)
        return sum(sizes) / 1e6
