"""NVIDIA's perf_analyzer: how it is installed without root, called, and read.

The binary is taken from the tritonclient 2.50.0 wheel, the last that runs on glibc below 2.38; the two libraries that
it misses on a plain Debian, libb64 and the CUDA runtime, are those that the nvidia-pytriton wheel carries.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bgbench.errors import ToolFailed, ToolMissing, Unreadable
from bgtrain import wheels

WHEEL = "tritonclient==2.50.0"
MEMBER = "tritonclient-2.50.0.data/data/bin/perf_analyzer"
SHIMS = {"libcudart.so.12": "libcudart-*.so.12*", "libb64.so.0d": "libb64-*.so.0d"}
"""The names that perf_analyzer loads, to those of the wheel's copies."""
STABILITY_PERCENT = 25
"""How far the last three windows may lie apart, for perf_analyzer to call a point stable; the machines are shared."""
UNSTABLE = (2, 3)
"""Exit statuses: no three windows agree; not one request came back within a window."""
TRIALS = 5
"""Windows, until a point counts as unstable."""


def write_photos(path: Path, photos: Sequence[bytes]) -> Path:
    """An ``--input-data`` file of encoded photos, which perf_analyzer sends in turn.

    Inside the base64, a BYTES element starts with its length, 4 bytes.
    """
    framed = [struct.pack("<I", len(photo)) + photo for photo in photos]
    texts = [base64.b64encode(one).decode("ascii") for one in framed]
    path.write_text(
        json.dumps({"data": [{"photo": {"content": {"b64": b64}, "shape": [1]}} for b64 in texts]})
    )
    return path


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Every request of a profile export by itself."""

    latencies_ms: list[float]
    """From send to answer, in the order of sending."""
    warm_up_ms: list[float]
    """The same for requests sent before the window that counts."""
    window_s: float
    """Length of that window."""


def parse_export(content: bytes) -> Requests:
    """The requests of a ``--profile-export-file``. ``Unreadable`` where it is none.

    perf_analyzer writes the tensors' bytes between the times, unescaped, so the file is not JSON: the times are picked
    out by the keys around them.
    """
    sent = [int(one) for one in re.findall(rb'"timestamp":(\d+),"request_inputs"', content)]
    answered = re.findall(rb'"response_timestamps":\[([\d,]+)\]', content)
    boundaries = re.findall(rb'"window_boundaries":\[([\d,]+)\]', content)
    if not boundaries or len(sent) != len(answered):
        raise Unreadable(f"{len(content)} bytes that are not a profile export of perf_analyzer")
    done = [int(one.split(b",")[-1]) for one in answered]
    start, *_, end = map(int, boundaries[-1].split(b","))
    times = sorted(zip(sent, done, strict=True))
    return Requests(
        latencies_ms=[1e-6 * (b - a) for a, b in times if start <= a and b <= end],
        warm_up_ms=[1e-6 * (b - a) for a, b in times if a < start],
        window_s=1e-9 * (end - start),
    )


@dataclass(kw_only=True)
class Measured:
    """What one call of perf_analyzer found."""

    command: list[str]
    requests: Requests | None
    """None: it gave no figures at all."""
    notes: list[str] = field(default_factory=list)


class PerfAnalyzer:
    """A perf_analyzer that starts here."""

    def __init__(self, binary: Path, libraries: Sequence[Path] = ()) -> None:
        self.binary = binary
        self.libraries = list(libraries)

    @classmethod
    def find(cls, cache: Path) -> PerfAnalyzer:
        """The one on PATH (NVIDIA's SDK image), else the one that ``install`` made. ``ToolMissing`` without either."""
        if on_path := shutil.which("perf_analyzer"):
            return cls(Path(on_path))
        folder = cache / "perf_analyzer"
        if not (folder / "perf_analyzer").exists():
            raise ToolMissing("perf_analyzer is not installed; run python -m bgbench install")
        return cls(folder / "perf_analyzer", [folder / "shims", _wheel_libraries()])

    @classmethod
    def install(cls, cache: Path) -> PerfAnalyzer:
        """Take the binary out of its wheel, link what it misses. ``ToolFailed`` where it then does not start."""
        folder = cache / "perf_analyzer"
        shims = folder / "shims"
        shims.mkdir(parents=True, exist_ok=True)
        # never installed: it would replace the newer tritonclient that is in use
        (folder / "perf_analyzer").write_bytes(wheels.member(WHEEL, MEMBER))
        (folder / "perf_analyzer").chmod(0o755)
        for name, pattern in SHIMS.items():
            copy = next(_wheel_libraries().glob(pattern), None)
            if copy is None:
                raise ToolMissing(f"nvidia-pytriton carries no {pattern}; run python -m bgserver install")
            (shims / name).unlink(missing_ok=True)
            (shims / name).symlink_to(copy)
        tool = cls.find(cache)
        tool.version()
        return tool

    def version(self) -> str:
        """What ``--version`` prints."""
        done = self._run(["--version"])
        if done.returncode:
            raise ToolFailed(f"{self.binary} does not start: {(done.stderr or done.stdout)[-500:].strip()}")
        return (done.stdout + done.stderr).strip()

    def _run(self, arguments: list[str], timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        paths = [*map(str, self.libraries), os.environ.get("LD_LIBRARY_PATH", "")]
        environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}
        try:
            return subprocess.run(
                [str(self.binary), *arguments],
                env=environment, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ToolFailed(f"perf_analyzer did not end within {timeout_s:g} s") from error

    def measure(
        self,
        model: str,
        url: str,
        *,
        concurrency: int,
        protocol: str = "grpc",
        data: Path | None = None,
        batch: int = 1,
        window_ms: int = 2000,
        count: int | None = None,
        shared_memory_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Measured:
        """Put one load on one model.

        Args:
            concurrency: requests in flight (closed loop).
            data: an ``--input-data`` file; None: random tensors of the model's shapes.
            window_ms: three windows in a row must agree, within ``TRIALS``.
            count: instead of windows, exactly so many requests, without a judgement on stability.
            shared_memory_bytes: pass tensors through system shared memory, with so much room for an output.
            headers: open the server's counters and its shared memory; not published with the command.

        Raises:
            ToolFailed: no measurement at all, or failed requests.
        """
        with tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "profile.json"
            arguments = ["-m", model, "-u", url.removeprefix("http://"), "-i", protocol, "-b", str(batch)]
            arguments += ["--input-data", str(data) if data else "random"]
            arguments += ["--concurrency-range", str(concurrency), "--profile-export-file", str(profile)]
            if count is not None:
                arguments += ["--request-count", str(count)]
            else:
                arguments += ["-p", str(window_ms), "-r", str(TRIALS), "-s", str(STABILITY_PERCENT)]
            if shared_memory_bytes is not None:
                arguments += ["--shared-memory", "system"]
                arguments += ["--output-shared-memory-size", str(shared_memory_bytes)]
            opened = [word for item in (headers or {}).items() for word in ("-H", ":".join(item))]
            done = self._run([*arguments, *opened])
            measured = Measured(
                command=["perf_analyzer", *(_shown(word, Path(folder)) for word in arguments)],
                requests=parse_export(profile.read_bytes()) if profile.exists() else None,
            )
        if done.returncode in UNSTABLE:
            measured.notes.append(
                f"unstable: perf_analyzer saw no three windows within {STABILITY_PERCENT} %"
            )
        elif done.returncode:
            last = (done.stderr.strip() or done.stdout.strip())[-500:]
            raise ToolFailed(f"perf_analyzer of {model} ended with {done.returncode}: {last}")
        return measured


def _shown(word: str, folder: Path) -> str:
    """A word of the command as it is published: files by name, wherever they lay."""
    return Path(word).name if word.startswith((str(folder), "/")) else word


def _wheel_libraries() -> Path:
    """Folder of the libraries that nvidia-pytriton bundles."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ToolMissing(
            "perf_analyzer needs the libraries of nvidia-pytriton; run python -m bgserver install"
        )
    return Path(next(iter(spec.submodule_search_locations))).parent / "nvidia_pytriton.libs"
