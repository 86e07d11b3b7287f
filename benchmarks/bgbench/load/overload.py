"""What happens beyond the peak: the REST front before a real server, asked for up to four times what it can do.

    peak      a closed loop of twice as many users as the front cuts for at a time: photos a second at most
    levels    Poisson arrivals at 0.5, 1, 2 and 4 times the peak, whether or not answers come

Beyond the peak some requests must be refused. The front is required to keep a throughput of at least 80 % of the peak,
to answer accepted requests within a known time, and to refuse the others with 429 or 503 and a Retry-After header.

    python -m bgbench overload                 under three minutes
    python -m bgbench report                 draws it into benchmarks/CHAOS.md
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bgbench import command
from bgbench.errors import BenchError, ToolFailed
from bgbench.load.arrivals import closed_loop, open_loop, poisson_arrivals
from bgbench.photos import jpegs
from bgbench.results import Case, Result, Series
from bgbench.serving import serving
from bgclient.web import Settings

LEVELS = (0.5, 1.0, 2.0, 4.0)
"""Offered load, in peaks."""
MEGAPIXELS = 1
SETTINGS = Settings(requests_per_minute=0)
"""The front's own, but for the rate of one caller."""
CALLERS = 64
"""Addresses of this machine from which requests come in turn; one caller may not use all of the front's slots."""
USERS = 2 * SETTINGS.concurrency
KEPT = 0.8
"""Of the peak, under any overload."""
START_S = 120.0
DRAIN_S = 30.0
"""For the last answers of a level."""


class Crowd(httpx.AsyncBaseTransport):
    """Sends requests from ``CALLERS`` loopback addresses in turn."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=4)
        self._all = [
            httpx.AsyncHTTPTransport(limits=limits, local_address=f"127.0.0.{number + 1}")
            for number in range(CALLERS)
        ]
        self._turns = itertools.cycle(self._all)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` from the next address."""
        return await next(self._turns).handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        for one in self._all:
            await one.aclose()


class Refused(Exception):
    """The front refused the request."""


class Front:
    """``bgclient web`` in a process of its own, and what it answered."""

    def __init__(self, address: str, client: httpx.AsyncClient) -> None:
        self._url = f"{address}/v1.0/removebg"
        self._client = client
        self.answers: Counter[str] = Counter()
        """"200", "503 with Retry-After", "500", "ReadTimeout", ..."""
        self.refused_ms: list[float] = []
        """Milliseconds until a refusal."""

    async def cut(self, photo: bytes) -> None:
        """Cut one photo. ``Refused`` without a picture."""
        began = time.perf_counter()
        try:
            answer = await self._client.post(
                self._url, files={"image_file": photo}, data={"size": "full", "format": "png"}
            )
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
            raise
        kind = str(answer.status_code)
        if answer.status_code != 200:
            kind += " with Retry-After" if int(answer.headers.get("retry-after", 0)) > 0 else ""
            self.refused_ms.append(1e3 * (time.perf_counter() - began))
        self.answers[kind] += 1
        if answer.status_code != 200:
            raise Refused(kind)


@contextmanager
def front(url: str, log: Path) -> Iterator[str]:
    """Address of a front before the server at ``url``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "bgclient", "web", "--port", str(port), "--url", url],
            env={**os.environ, **SETTINGS.to_environment()},
            stdout=said,
            stderr=said,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ToolFailed(f"bgclient web did not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/livez", timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


async def measure(address: str, seconds: float, photos: list[bytes]) -> list[Case]:
    """Peak and levels; ``seconds`` are shared by them."""
    each_s = seconds / (1 + len(LEVELS))
    cases = []
    async with httpx.AsyncClient(transport=Crowd(), timeout=60.0) as client:
        warm = Front(address, client)
        for photo in photos:
            await warm.cut(photo)
        front = Front(address, client)
        run = await closed_loop(front.cut, photos, users=USERS, duration_s=each_s)
        peak = _throughput(run.done_s, each_s)
        if not peak:
            raise BenchError(f"no cut-out in {each_s:.0f} s: {dict(front.answers)}")
        cases.append(_case("peak", {"users": USERS}, front, run.latencies_ms, peak, "closed loop"))
        for number, level in enumerate(LEVELS):
            front = Front(address, client)
            arrivals = poisson_arrivals(level * peak, each_s, seed=number)
            run = await open_loop(front.cut, photos, arrivals, max_waiting=100_000, patience_s=DRAIN_S)
            setting = {"load": level, "offered": round(level * peak, 2), "requests": len(arrivals)}
            throughput = _throughput(run.done_s, each_s)
            case = _case("overload", setting, front, run.latencies_ms, throughput, "open loop")
            case.notes.extend(note for note in run.notes if note.startswith("unstable"))
            cases.append(case)
    return cases


def _throughput(done_s: list[float | None], seconds: float) -> float:
    """Answers a second while load was offered; those that came afterwards are not counted."""
    return sum(done is not None and done <= seconds for done in done_s) / seconds


def _case(
    scenario: str,
    setting: dict[str, Any],
    front: Front,
    latencies_ms: list[float],
    throughput: float,
    tool: str,
) -> Case:
    return Case(
        scenario=scenario,
        setting={**setting, "answers": dict(sorted(front.answers.items()))},
        tool=tool,
        series={
            "throughput": Series(unit="photos/s", values=[round(throughput, 3)]),
            "latency": Series(unit="ms", values=[round(one, 1) for one in latencies_ms]),
            "latency of refusals": Series(unit="ms", values=[round(one, 1) for one in front.refused_ms]),
        },
    )


def peak_of(result: Result) -> float:
    """Photos a second at most, whatever the load."""
    return max(case.value("throughput") for case in result.cases)


def limit_ms(result: Result) -> float:
    """Limit for accepted requests: the wait for a turn, and three times the slowest answer at the peak."""
    slowest = max(next(result.of("peak")).series["latency"].values)
    return float(1e3 * result.environment["front"]["wait_s"] + 3 * slowest)


def verdicts(result: Result) -> list[str]:
    """What the run must not contain; empty for a good one."""
    wrong = []
    for case in result.of("overload"):
        name = f"{case.setting['load']:g} x the peak"
        kept = case.value("throughput") / peak_of(result)
        if case.setting["load"] > 1 and kept < KEPT:
            wrong.append(f"{name}: {kept:.0%} of the peak were cut, not {KEPT:.0%}")
        slowest = max(case.series["latency"].values, default=0.0)
        if slowest > limit_ms(result):
            wrong.append(f"{name}: an answer took {slowest:.0f} ms, above {limit_ms(result):.0f} ms")
        fine = {"200", "429 with Retry-After", "503 with Retry-After"}
        wrong += [f"{name}: {n} x {kind}" for kind, n in case.setting["answers"].items() if kind not in fine]
    return wrong


def run(seconds: float, *, cache: Path, tell: Callable[[str], object]) -> Result:
    """The whole bench against a server and a front of its own, on loopback."""
    began = time.monotonic()
    result = command.begun("overload", command.served_network())
    result.environment["front"] = {
        "concurrency": SETTINGS.concurrency,
        "uploads": SETTINGS.uploads,
        "wait_s": SETTINGS.wait_s,
        "megapixels": MEGAPIXELS,
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        serving() as served,
        front(served.url, Path(folder) / "log") as address,
    ):
        result.environment["server"] = served.describe()
        result.cases += asyncio.run(measure(address, seconds, jpegs(MEGAPIXELS, 4, cache)))
    for case in result.cases:
        latency = case.series["latency"].values
        p99 = f"p99 {np.percentile(latency, 99):.0f} ms" if latency else "no answer"
        tell(f"{case.scenario} {case.setting}: {case.value('throughput'):.2f} photos/s, {p99}")
    result.seconds = round(time.monotonic() - began, 1)
    return result
