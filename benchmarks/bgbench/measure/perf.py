"""NVIDIA's perf_analyzer: how it is installed without root, called, and read.

The binary is taken from the tritonclient 2.50.0 wheel, the last that runs on glibc below 2.38; the two libraries that
it misses on a plain Debian, libb64 and the CUDA runtime, are those that the nvidia-pytriton wheel carries.
"""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bgbench.errors import ToolFailed, ToolMissing, Unreadable

WHEEL = "tritonclient==2.50.0"
MEMBER = "tritonclient-2.50.0.data/data/bin/perf_analyzer"
SHIMS = {"libcudart.so.12": "libcudart-*.so.12*", "libb64.so.0d": "libb64-*.so.0d"}
"""The names that perf_analyzer loads, to those of the wheel's copies."""
STABILITY_PERCENT = 25
"""How far the last three windows may lie apart, for perf_analyzer to call a point stable; the machines are shared."""
UNSTABLE = (2, 3)
"""Exit statuses: no three windows agree; not one request came back within a window."""
US_MS = 1e-3


def photo_entry(name: str, photo: bytes) -> dict[str, object]:
    """One request's tensor for ``--input-data``; inside the base64, a BYTES element starts with its length, 4 bytes."""
    framed = struct.pack("<I", len(photo)) + photo
    return {name: {"content": {"b64": base64.b64encode(framed).decode("ascii")}, "shape": [1]}}


def write_photos(path: Path, photos: Sequence[bytes], name: str = "photo") -> Path:
    """An ``--input-data`` file of encoded photos, which perf_analyzer sends in turn."""
    path.write_text(json.dumps({"data": [photo_entry(name, photo) for photo in photos]}))
    return path


@dataclass(frozen=True, kw_only=True)
class Point:
    """One load level of perf_analyzer's CSV, milliseconds throughout."""

    level: float
    """Requests in flight, or requests a second."""
    throughput: float
    """Inferences a second: photos, also where a request holds several."""
    latency_ms: dict[str, float]
    """p50, p90, p95, p99, and avg where it is written."""
    server_ms: dict[str, float]
    """Means a request: client send, network, server queue, server compute input / infer / output, client receive."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """One load level of perf_analyzer's profile export: every request by itself."""

    mode: str
    """"concurrency" or "request_rate"."""
    level: float
    latencies_ms: list[float]
    """From send to answer, in the order of sending."""
    warm_up_ms: list[float]
    """The same for requests sent before the window that counts."""


def parse_csv(text: str) -> list[Point]:
    """The rows of ``-f FILE``. ``Unreadable`` where a column that is needed is missing."""
    points = []
    for row in csv.DictReader(io.StringIO(text)):
        level = row.get("Concurrency") or row.get("Request Rate")
        try:
            # the unit is in the header only in newer versions; it is microseconds in all
            latency = {
                key.split()[0]: float(row[key]) * US_MS for key in row if re.match(r"(p\d+|Avg) latency", key)
            }
            points.append(
                Point(
                    level=float(level or "nan"),
                    throughput=float(row["Inferences/Second"]),
                    latency_ms={name.lower(): value for name, value in latency.items()},
                    server_ms={
                        name: float(row[column]) * US_MS
                        for name, column in _COLUMNS.items()
                        if row.get(column)
                    },
                )
            )
        except (KeyError, ValueError) as error:
            raise Unreadable(
                f"perf_analyzer's CSV has no usable {error}; its header is {list(row)}"
            ) from error
        if not points[-1].latency_ms or level is None:
            raise Unreadable(
                f"perf_analyzer's CSV has no load level or no latencies; its header is {list(row)}"
            )
    return points


_COLUMNS = {
    "client send": "Client Send",
    "network": "Network+Server Send/Recv",
    "server queue": "Server Queue",
    "server compute input": "Server Compute Input",
    "server compute infer": "Server Compute Infer",
    "server compute output": "Server Compute Output",
    "client receive": "Client Recv",
}


def parse_export(content: bytes) -> list[Requests]:
    """The experiments of ``--profile-export-file``. ``Unreadable`` where it is none.

    perf_analyzer writes the tensors' bytes between the times, unescaped, so the file is not JSON: the times are picked
    out by the keys around them.
    """
    found: list[Requests] = []
    sent: list[int] = []
    done: list[int] = []
    level: tuple[str, float] | None = None
    for match in _EXPORTED.finditer(content):
        mode, value, timestamp, responses, boundaries = match.groups()
        if mode is not None:
            level, sent, done = (mode.decode(), float(value)), [], []
        elif timestamp is not None:
            sent.append(int(timestamp))
        elif responses is not None:
            done.append(int(responses.split(b",")[-1]))
        elif boundaries and level is not None and len(sent) == len(done):
            start, *_, end = map(int, boundaries.split(b","))
            times = sorted(zip(sent, done, strict=True))
            found.append(
                Requests(
                    mode=level[0],
                    level=level[1],
                    latencies_ms=[1e-6 * (b - a) for a, b in times if start <= a and b <= end],
                    warm_up_ms=[1e-6 * (b - a) for a, b in times if a < start],
                )
            )
    if not found:
        raise Unreadable(f"{len(content)} bytes that are not a profile export of perf_analyzer")
    return found


_EXPORTED = re.compile(
    rb'"experiment":\{"mode":"(\w+)","value":([\d.]+)\}'
    rb'|"timestamp":(\d+),"request_inputs"'
    rb'|"response_timestamps":\[([\d,]+)\]'
    rb'|"window_boundaries":\[([\d,]+)\]'
)


@dataclass(kw_only=True)
class Measured:
    """What one call of perf_analyzer found."""

    command: list[str]
    points: list[Point]
    requests: list[Requests]
    notes: list[str] = field(default_factory=list)
    output: str = ""
    """Its standard output, for the log."""


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
        """Fetch the wheel, take the binary out, link what it misses. ``ToolFailed`` where it then does not start."""
        folder = cache / "perf_analyzer"
        shims = folder / "shims"
        shims.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as wheels:
            # downloaded and opened, never installed: it would replace the newer tritonclient that is in use
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            done = subprocess.run(
                [*command, "-d", wheels, WHEEL], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise ToolFailed(f"pip could not fetch {WHEEL}: {done.stderr[-500:].strip()}")
            (wheel,) = Path(wheels).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (folder / "perf_analyzer").write_bytes(archive.read(MEMBER))
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
        protocol: str = "grpc",
        data: Path | None = None,
        batch: int = 1,
        concurrency: int | None = None,
        rate: float | None = None,
        window_ms: int = 2000,
        trials: int = 5,
        count: int | None = None,
        shared_memory_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
        export: bool = True,
    ) -> Measured:
        """Put one load on one model.

        Args:
            data: an ``--input-data`` file; None: random tensors of the model's shapes.
            concurrency: requests in flight (closed loop), or
            rate: requests a second in Poisson intervals.
            window_ms, trials: three windows in a row must agree, within so many.
            count: instead of windows, exactly so many requests, without a judgement on stability.
            shared_memory_bytes: pass tensors through system shared memory, with so much room for an output.
            headers: open the server's counters and its shared memory; not published with the command.
            export: also take every single request's latency; not for large photos, whose bytes are written too.

        Raises:
            ToolFailed: no measurement at all, or failed requests.
        """
        if (concurrency is None) == (rate is None):
            raise ValueError("give either concurrency or rate")
        with tempfile.TemporaryDirectory() as folder:
            table, profile = Path(folder) / "points.csv", Path(folder) / "profile.json"
            arguments = ["-m", model, "-u", url.removeprefix("http://"), "-i", protocol, "-b", str(batch)]
            arguments += ["--input-data", str(data) if data else "random", "-f", str(table), "--verbose-csv"]
            if concurrency is not None:
                arguments += ["--concurrency-range", str(concurrency)]
            else:
                arguments += ["--request-rate-range", f"{rate:g}", "--request-distribution", "poisson"]
            if count is not None:
                arguments += ["--request-count", str(count)]
            else:
                arguments += ["-p", str(window_ms), "-r", str(trials), "-s", str(STABILITY_PERCENT)]
            if shared_memory_bytes is not None:
                arguments += [
                    "--shared-memory",
                    "system",
                    "--output-shared-memory-size",
                    str(shared_memory_bytes),
                ]
            if export:
                arguments += ["--profile-export-file", str(profile)]
            opened = [word for item in (headers or {}).items() for word in ("-H", ":".join(item))]
            done = self._run([*arguments, *opened])
            measured = Measured(
                command=["perf_analyzer", *(_shown(word, Path(folder)) for word in arguments)],
                points=parse_csv(table.read_text()) if table.exists() else [],
                requests=parse_export(profile.read_bytes()) if export and profile.exists() else [],
                output=done.stdout,
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
