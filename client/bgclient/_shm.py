"""Shared memory with a Triton on this host: tensors stay where they are, only their place is sent.

Two kinds of region, used alike. One in system memory is unlinked as soon as the server has mapped it. From then on
nothing in /dev/shm bears its name, and the kernel frees it when both sides let go, also after a crash of this one.
One in GPU memory has no name but its CUDA IPC handle, and is its process's; CUDA wants it mapped by nobody when it is
freed, so it is freed once the server has forgotten it, or by the process's end. What the server still has mapped
for processes that died is unregistered by the next client on the same host.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import mmap
import os
import re
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from bgclient import _wire
from bgclient._pids import runs
from bgclient._wire import Answer, Output, Place, Query, Request
from bgclient.errors import SharedMemoryError
from bgclient.options import SharedMemory

_FOLDER = Path("/dev/shm")
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_NAME = re.compile(rf"bgclient-{_HOST}-(\d+)-\d+")
_numbers = itertools.count()


def of_the_dead(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are regions of processes of this host that no longer run."""
    found = ((name, _NAME.fullmatch(name)) for name in names)
    return [name for name, match in found if match and not runs(int(match[1]))]


class Region(ABC):
    """A piece of shared memory, made here.

    Raises:
        SharedMemoryError: there is no such memory here, or no room.
    """

    memory: ClassVar[_wire.Memory]
    smallest: ClassVar[int] = 1 << 20

    def __init__(self, byte_size: int) -> None:
        self.name = f"bgclient-{_HOST}-{os.getpid()}-{next(_numbers)}"
        self.byte_size = byte_size

    @staticmethod
    @abstractmethod
    def prepare() -> None:
        """What the first region takes: may keep a disk or a GPU busy."""

    @property
    @abstractmethod
    def registration(self) -> Query:
        """Makes it known to the server."""

    @abstractmethod
    def conceal(self) -> None:
        """The server knows it, or never will: nobody else needs to find it."""

    @abstractmethod
    def free(self) -> None:
        """Give it back; the server has let go of it."""

    @abstractmethod
    def _write(self, at: int, data: bytes) -> None: ...

    @abstractmethod
    def _read(self, at: int, size: int) -> bytes: ...

    @classmethod
    def room(cls, request: Request, answers: dict[str, int]) -> int:
        """Bytes that ``request`` needs, a power of two."""
        need = sum(_aligned(len(t.data)) for t in request.inputs) + sum(map(_aligned, answers.values()))
        return max(cls.smallest, 1 << (need - 1).bit_length())

    def place(self, request: Request, answers: dict[str, int]) -> Request:
        """Write the inputs' data into the region; the request that says where they are, and where outputs
        go.
        """
        at, inputs, outputs = 0, [], []
        for tensor in request.inputs:
            self._write(at, tensor.data)
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
                data = self._read(output.place.offset, output.place.byte_size)
                outputs[output.name] = replace(outputs[output.name], data=data)
        return Answer(answer.model, outputs)


class SystemRegion(Region):
    """In /dev/shm."""

    memory = "System"

    def __init__(self, byte_size: int) -> None:
        super().__init__(byte_size)
        self._path = _FOLDER / self.name
        try:
            file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError as error:
            raise SharedMemoryError(f"{self._path}: {error.strerror}; use shared_memory=False") from error
        try:
            os.posix_fallocate(file, 0, byte_size)  # a full /dev/shm is an error here, not a SIGBUS later
            self._mapped = mmap.mmap(file, byte_size)
        except OSError as error:
            self.conceal()
            raise SharedMemoryError(
                f"/dev/shm has no room for {byte_size} bytes ({error.strerror}); "
                "make it larger or use shared_memory=False"
            ) from error
        finally:
            os.close(file)

    @staticmethod
    def prepare() -> None:
        """Remove what processes left in /dev/shm that died in the instant before unlinking."""
        for name in of_the_dead(path.name for path in _FOLDER.glob("bgclient-*")):
            (_FOLDER / name).unlink(missing_ok=True)

    @property
    def registration(self) -> Query:
        """Makes it known to the server."""
        return _wire.register_system_query(self.name, f"/{self.name}", self.byte_size)

    def conceal(self) -> None:
        """Take the name away; the memory lives on while it is mapped."""
        self._path.unlink(missing_ok=True)

    def free(self) -> None:
        """Unmap it."""
        self._mapped.close()

    def _write(self, at: int, data: bytes) -> None:
        self._mapped[at : at + len(data)] = data

    def _read(self, at: int, size: int) -> bytes:
        return self._mapped[at : at + size]


class CudaRegion(Region):
    """In the memory of this thread's current GPU."""

    memory = "Cuda"
    smallest = 2 << 20
    """A block of CUDA's, which a handle shares as a whole (CUDA C++ Programming Guide, "Interprocess
    Communication").
    """

    def __init__(self, byte_size: int) -> None:
        super().__init__(byte_size)
        self._cuda = _runtime()
        self._device: int = _done(self._cuda.cudaGetDevice)
        self._address: int = _done(self._cuda.cudaMalloc, byte_size)
        try:
            handle = _done(self._cuda.cudaIpcGetMemHandle, self._address)
            self._handle = ctypes.string_at(handle.getPtr(), self._cuda.CUDA_IPC_HANDLE_SIZE)
        except BaseException:
            self.free()
            raise

    @staticmethod
    def prepare() -> None:
        """Load CUDA and open the GPU, which takes up to some seconds."""
        _done(_runtime().cudaFree, 0)

    @property
    def registration(self) -> Query:
        """Makes it known to the server."""
        return _wire.register_cuda_query(self.name, self._handle, self._device, self.byte_size)

    def conceal(self) -> None:
        """Nothing to do: only who is given the handle finds it."""

    def free(self) -> None:
        """Give the GPU its memory back."""
        _done(self._cuda.cudaFree, self._address)

    def _write(self, at: int, data: bytes) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        _done(self._cuda.cudaMemcpy, self._address + at, data, len(data), kind)

    def _read(self, at: int, size: int) -> bytes:
        data = bytearray(size)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _done(self._cuda.cudaMemcpy, data, self._address + at, size, kind)
        return bytes(data)


def _runtime() -> Any:
    """NVIDIA's bindings of the CUDA runtime."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise SharedMemoryError(
            f'shared_memory="cuda" needs cuda-bindings ({error}): pip install "bgclient[cuda]", '
            'or use shared_memory="system"'
        ) from error
    return runtime


def _done(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """The result of a function of the CUDA runtime, which returns its status with it."""
    status, *results = function(*arguments)
    if status:
        _, text = _runtime().cudaGetErrorString(status)
        raise SharedMemoryError(
            f'shared_memory="cuda" needs an NVIDIA GPU with room, its driver, and CUDA IPC; here {function.__name__} '
            f'says {status.name} ({text.decode()}); see what "nvidia-smi" shows, or use shared_memory="system"'
        )
    return results[0] if results else None


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


KINDS: dict[bool | SharedMemory, type[Region] | None] = {
    False: None,
    True: SystemRegion,
    "auto": SystemRegion,
    "system": SystemRegion,
    "cuda": CudaRegion,
}
"""By the client's ``shared_memory``."""


class Regions:
    """The regions of one endpoint: free ones, and names that the server should forget."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[Region] = []
        self._stale: dict[str, Region | None] = {}
        """None: of a process that died."""
        self.swept = False
        self.refused = False
        """True when the server cannot use them, and the client may do without."""

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

    def discard(self, region: Region) -> None:
        """Never use it again: the server may still be writing there."""
        with self._lock:
            self._stale[region.name] = region

    def found(self, names: Iterable[str]) -> None:
        """The server still knows these, of processes that died."""
        with self._lock:
            self._stale.update(dict.fromkeys(names))

    def retire(self) -> None:
        """Make every free region a stale one."""
        with self._lock:
            self._stale.update({region.name: region for region in self._free})
            self._free.clear()

    def stale(self) -> list[str]:
        """Names to unregister; then say which are ``forgotten``."""
        with self._lock:
            return list(self._stale)

    def forgotten(self, names: Collection[str]) -> None:
        """The server no longer has these mapped."""
        with self._lock:
            gone = [self._stale.pop(name, None) for name in names]
        for region in gone:
            if region is not None:
                region.free()

    def lost(self) -> None:
        """The server was restarted: it has none of them."""
        self.retire()
        self.forgotten(self.stale())
