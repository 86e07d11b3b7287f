"""System shared memory with a Triton on this host: tensors stay where they are, only their place is sent.

A region is unlinked as soon as the server has mapped it. From then on nothing in /dev/shm bears its name, and
the kernel frees it when both sides let go, also after a crash of this one. What the server still has mapped
for processes that died is unregistered by the next client on the same host.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import re
import socket
import threading
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from bgclient._pids import runs
from bgclient._wire import Answer, Output, Place, Request
from bgclient.errors import SharedMemoryError

_FOLDER = Path("/dev/shm")
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_NAME = re.compile(rf"bgclient-{_HOST}-(\d+)-\d+")
_SMALLEST = 1 << 20
_numbers = itertools.count()


def of_the_dead(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are regions of processes of this host that no longer run."""
    found = ((name, _NAME.fullmatch(name)) for name in names)
    return [name for name, match in found if match and not runs(int(match[1]))]


def sweep() -> None:
    """Remove what processes left in /dev/shm that died in the instant before unlinking."""
    for name in of_the_dead(path.name for path in _FOLDER.glob("bgclient-*")):
        (_FOLDER / name).unlink(missing_ok=True)


class Region:
    """A piece of shared memory, made here."""

    def __init__(self, byte_size: int) -> None:
        self.name = f"bgclient-{_HOST}-{os.getpid()}-{next(_numbers)}"
        self.key = f"/{self.name}"
        self.byte_size = byte_size
        self._path = _FOLDER / self.name
        try:
            file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError as error:
            raise SharedMemoryError(f"{self._path}: {error.strerror}; use shared_memory=False") from error
        try:
            os.posix_fallocate(file, 0, byte_size)  # a full /dev/shm is an error here, not a SIGBUS later
            self.memory = mmap.mmap(file, byte_size)
        except OSError as error:
            self.unlink()
            raise SharedMemoryError(
                f"/dev/shm has no room for {byte_size} bytes ({error.strerror}); "
                "make it larger or use shared_memory=False"
            ) from error
        finally:
            os.close(file)

    def unlink(self) -> None:
        """Take the name away; the memory lives on while it is mapped."""
        self._path.unlink(missing_ok=True)

    def place(self, request: Request, answers: dict[str, int]) -> Request:
        """Write the inputs' data into the region; the request that says where they are, and where outputs
        go.
        """
        at, inputs, outputs = 0, [], []
        for tensor in request.inputs:
            self.memory[at : at + len(tensor.data)] = tensor.data
            inputs.append(replace(tensor, data=b"", place=Place(self.name, len(tensor.data), at)))
            at += _aligned(len(tensor.data))
        for output in request.outputs:
            size = answers.get(output.name)
            outputs.append(output if size is None else Output(output.name, Place(self.name, size, at)))
            at += _aligned(size or 0)
        return replace(request, inputs=tuple(inputs), outputs=tuple(outputs))

    def read(self, answer: Answer, placed: Request) -> Answer:
        """The answer with the data of its outputs taken out of the region."""
        outputs = dict(answer.outputs)
        for output in placed.outputs:
            if output.place is not None and output.name in outputs:
                begin, size = output.place.offset, output.place.byte_size
                outputs[output.name] = replace(outputs[output.name], data=self.memory[begin : begin + size])
        return Answer(answer.model, outputs)


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def room(request: Request, answers: dict[str, int]) -> int:
    """Bytes of the region that ``request`` needs, a power of two."""
    need = sum(_aligned(len(t.data)) for t in request.inputs) + sum(map(_aligned, answers.values()))
    return max(_SMALLEST, 1 << (need - 1).bit_length())


class Regions:
    """The regions of one endpoint: free ones, and names that the server should forget."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[Region] = []
        self._stale: list[str] = []
        self.swept = False

    def take(self, byte_size: int) -> Region | None:
        """A free region of at least that size."""
        with self._lock:
            fitting = [region for region in self._free if region.byte_size >= byte_size]
            if not fitting:
                return None
            smallest = min(fitting, key=lambda region: region.byte_size)
            self._free.remove(smallest)
            return smallest

    def give(self, region: Region) -> None:
        """Free for the next request."""
        with self._lock:
            self._free.append(region)

    def discard(self, names: Collection[str]) -> None:
        """Never use these again: the server may still be writing there."""
        with self._lock:
            self._stale.extend(names)

    def forget(self) -> None:
        """Drop every free region: the server was restarted."""
        with self._lock:
            self._free.clear()

    def stale(self) -> list[str]:
        """Names to unregister; the caller takes care of them."""
        with self._lock:
            names, self._stale = self._stale, []
            return names

    def all(self) -> list[str]:
        """Names of every free region and every stale one, which are then forgotten here."""
        with self._lock:
            names = [region.name for region in self._free] + self._stale
            self._free, self._stale = [], []
            return names
