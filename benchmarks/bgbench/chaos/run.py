"""Soak and chaos: does the server stay up, answer everything, and answer it right, whatever is done to it?

    quiet     every photo alone, twice: what each cut-out must look like
    faults    one after the other, under load: what clients saw, how long until all was well
    soak      mixed sizes and ways in, bad photos among them, callers that cancel: after all that, memory must stay flat
    stop      SIGTERM with requests in flight: each gets an answer or an error, and nothing is left on the machine

    python -m bgbench chaos                      two minutes
    python -m bgbench chaos --seconds 1800       half an hour, every fault several times
    python -m bgbench report                     benchmarks/CHAOS.md and its plots, from the result files

A request is lost when its caller gets neither a cut-out nor an error of ours before the deadline; it is wrong when the
cut-out is not that of the quiet run. Either fails the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import random
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bgbench import command
from bgbench.chaos.photos import Expected, PhotoRequest, jobs, pixels_of
from bgbench.chaos.proxy import Proxy
from bgbench.chaos.watched import ChaosFailed, Watched, memory_mb, unused_regions
from bgbench.results import Case, Result, Series
from bgclient import AsyncClient
from bgclient.errors import BgError
from bgserver import Server, Settings, canary

SHARES = {"good": 0.8, "bad": 0.1, "cancelled": 0.1}
"""Of the requests."""
USERS = 4
"""Requests in flight."""
TIMEOUT_S = 120.0
"""Of one request, tries included: longer than a restart on a busy machine."""
GRACE_S = 10.0
"""After ``TIMEOUT_S`` without an answer a request is lost."""
ANSWERS = (
    *("cut-out", "close", "refused", "cancelled"),
    *("error:server_unavailable", "error:server_busy", "error:deadline_exceeded"),
)
"""What may become of a request; anything else fails the run."""
PROBE_S = 0.5
SAMPLE_S = 2.0
SOAK_SHARE = 0.5
"""Of the whole run; the faults come first, so that what one of them leaves behind is in the soak's memory."""
WARM_UP = 0.4
"""Of the soak: the server is a new one after the last fault, and its memory pools grow to the largest photos' size."""
FLAT = 0.05
"""By which memory may have grown between the first and the last third after warm-up."""
JUDGED_SOAK_S = 240.0
"""Of a shorter soak, whose thirds hold a few photos each, memory is written down and not judged."""
RESTART_GAP_S = 22.0
"""Between faults that cost a restart: the watchdog gives up at four within a minute, as it should."""
GAP_S = 6.0
RECOVERY_LIMIT_S = 180.0
CANARY_TIMEOUT_S = 15.0
"""Three times the default: under this load a healthy test photo may wait for longer than that."""
LONG_S = 300.0
"""Longer runs go through all faults, again and again."""


# --- faults ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that happens to a server."""

    name: str
    act: Callable[[ChaosRun], Awaitable[object]]
    restarts: bool
    """The watchdog has to restart the server."""
    short: bool
    """Part of the two-minute run."""


def _kill(model: str) -> Callable[[ChaosRun], Awaitable[object]]:
    async def act(bench: ChaosRun) -> None:
        os.kill(bench.watched.model(model), signal.SIGKILL)

    return act


async def _stop_model(bench: ChaosRun) -> None:
    os.kill(bench.watched.model("bgclient_postprocess"), signal.SIGSTOP)


async def _kill_triton(bench: ChaosRun) -> None:
    os.kill(bench.watched.triton, signal.SIGKILL)


async def _cut_connections(bench: ChaosRun) -> None:
    for _ in range(3):
        bench.proxy.cut()
        await asyncio.sleep(0.5)


async def _half_requests(bench: ChaosRun) -> None:
    """Callers that send half a request and go silent, and others that vanish in the middle of theirs."""
    address = ("127.0.0.1", int(bench.watched.server.facts["http"]))
    head = b"POST /v2/models/cutout/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + bytes(
        1000
    )
    for number in range(40):
        caller = socket.create_connection(address)
        caller.sendall(head)
        if number % 2:
            caller.close()
        else:
            bench.silent.append(caller)


FAULTS = (
    Fault("the preprocess model is killed", _kill("bgclient_preprocess"), True, True),
    Fault("connections are reset, three times", _cut_connections, False, True),
    Fault("a postprocess model is killed", _kill("bgclient_postprocess"), True, True),
    Fault("20 callers send half a request and stay, 20 vanish", _half_requests, False, True),
    Fault("the network's process is killed", _kill("tiramisu_onnx"), True, True),
    Fault("tritonserver is killed", _kill_triton, True, False),
    Fault("a postprocess model is stopped (SIGSTOP)", _stop_model, True, False),
)


# --- the run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RequestResult:
    """What became of one request."""

    began_s: float
    ms: float
    kind: str
    """cut-out, close, refused, cancelled, error:CODE, crash:CLASS, wrong, lost."""
    tries: int
    said: str = ""
    """The error's sentence."""


class ChaosRun:
    """A server, its clients, and everything that is written down."""

    def __init__(
        self, server: Server, proxy: Proxy, clients: list[AsyncClient], seed: int, regions: set[Path]
    ) -> None:
        """Args:
        regions: what lay unused in /dev/shm before the server came.
        """
        self.watched = Watched(server)
        self.proxy = proxy
        self.clients = clients
        self.random = random.Random(seed)
        self.jobs = jobs()
        self.expected: dict[tuple[str, str], Expected] = {}
        self.outcomes: list[RequestResult] = []
        self.probes: list[tuple[float, float, bool]] = []
        self.memory: list[tuple[float, float, float, float]] = []
        self.silent: list[socket.socket] = []
        self.regions = regions
        self._zero = time.monotonic()

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._zero

    async def quiet(self) -> Case:
        """Every good photo alone, twice; the second time must give the same bytes."""
        ms, same = [], 0
        good = [job for job in self.jobs if job.refusal is None]
        for turn, job in itertools.product((0, 1), good):
            began = time.perf_counter()
            encoded = await self._cut(self.clients[0], job)
            ms.append(1e3 * (time.perf_counter() - began))
            if turn == 0:
                self.expected[job.name, job.where] = Expected(
                    hashlib.sha256(encoded).hexdigest(), pixels_of(encoded)
                )
            else:
                same += self.expected[job.name, job.where].verdict(encoded) == "same"
        return Case(
            scenario="quiet",
            setting={"photos": len(good), "same bytes the second time": same},
            tool="closed loop",
            series={"latency": Series(unit="ms", values=ms[len(good) :], warm_up=ms[: len(good)])},
        )

    @staticmethod
    async def _cut(client: AsyncClient, job: PhotoRequest) -> bytes:
        cutout = await client.cut(job.data, where=job.where, timeout_s=TIMEOUT_S)
        return await asyncio.to_thread(cutout.encode)

    async def user(self, until: asyncio.Event) -> None:
        """Sends one request after the other."""
        while not until.is_set():
            kind = self.random.choices(list(SHARES), list(SHARES.values()))[0]
            of_kind = [job for job in self.jobs if (job.refusal is not None) == (kind == "bad")]
            await self.request(self.random.choice(of_kind), cancelled=kind == "cancelled")

    async def request(self, job: PhotoRequest, *, cancelled: bool = False) -> None:
        """One request, and what became of it."""
        client = self.random.choice(self.clients)
        began_s, began = self.now_s(), time.perf_counter()
        tries, said = 1, ""
        call = asyncio.create_task(client.cut(job.data, where=job.where, timeout_s=TIMEOUT_S))
        if cancelled:
            await asyncio.sleep(self.random.uniform(0, 0.3))
            call.cancel()
        cutout = None
        try:
            cutout = await asyncio.wait_for(call, TIMEOUT_S + GRACE_S)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise  # the run itself is over
            kind = "cancelled"
        except TimeoutError:
            kind = "lost"
        except BgError as error:
            kind, said = "refused" if error.code == job.refusal else f"error:{error.code}", str(error)
        except Exception as error:  # an error without a type of ours: clients promise typed ones
            kind, said = f"crash:{type(error).__name__}", str(error)
        ms = 1e3 * (time.perf_counter() - began)
        if cutout is not None:
            tries, kind = cutout.timings.tries, await asyncio.to_thread(self._verdict, job, cutout)
        self.outcomes.append(RequestResult(began_s, ms, kind, tries, said if kind != "refused" else ""))

    def _verdict(self, job: PhotoRequest, cutout: Any) -> str:
        if job.refusal is not None:
            return "wrong"
        verdict = self.expected[job.name, job.where].verdict(cutout.encode())
        return {"same": "cut-out"}.get(verdict, verdict)

    async def probing(self) -> None:
        """A small photo every half second, without a second try: is the server well?"""
        while True:
            began, well = self.now_s(), True
            try:
                url = self.watched.server.http_url
                await asyncio.to_thread(canary.infer, url, "matte", canary.photo(), "alpha", timeout_s=15.0)
            except BgError:
                well = False
            self.probes.append((began, self.now_s(), well))
            await asyncio.sleep(PROBE_S)

    async def sampling(self) -> None:
        """Memory of server and client, and the server's part of /dev/shm."""
        while True:
            self.memory.append(await asyncio.to_thread(self._sample))
            await asyncio.sleep(SAMPLE_S)

    def _sample(self) -> tuple[float, float, float, float]:
        watched = self.watched
        return (
            self.now_s(),
            memory_mb(watched.family()),
            memory_mb([psutil.Process()]),
            watched.shared_memory_mb(),
        )

    def between(self, start_s: float, end_s: float) -> list[RequestResult]:
        """Requests that were under way in this time."""
        return [o for o in self.outcomes if o.began_s < end_s and o.began_s + o.ms / 1e3 > start_s]

    async def soak(self, seconds: float) -> Callable[[], Case]:
        """Load without faults. The case is made later, when the last of its requests has ended."""
        start = self.now_s()
        await asyncio.sleep(seconds)
        end = self.now_s()
        columns = list(zip(*(sample for sample in self.memory if start <= sample[0] <= end), strict=True))
        warm = int(WARM_UP * len(columns[0]))
        names = {"server memory": 1, "client memory": 2, "shared memory": 3}
        series = {
            name: Series(unit="MB", values=list(columns[at][warm:]), warm_up=list(columns[at][:warm]))
            for name, at in names.items()
        }
        series["time"] = Series(unit="s", values=list(columns[0][warm:]), warm_up=list(columns[0][:warm]))
        grown = {name: growth(series[name].values) for name in names}
        return lambda: Case(
            scenario="soak",
            setting={
                "seconds": round(end - start),
                "users": USERS,
                "outcomes": _counts(self.between(start, end)),
            },
            tool="closed loop",
            series=series | _latencies(self.between(start, end)),
            notes=[
                f"{name} grew by {by:.1%}"
                for name, by in grown.items()
                if by > FLAT and end - start >= JUDGED_SOAK_S
            ],
        )

    async def fault(self, fault: Fault) -> Callable[[], Case]:
        """One fault under load, until all is well again. The case is made later, as for ``soak``."""
        start, restarts = self.now_s(), self.watched.server.restarts
        await fault.act(self)
        gap_s = RESTART_GAP_S if fault.restarts else GAP_S
        while (recovery := self._recovery_s(start, gap_s, fault, restarts)) is None:
            if self.now_s() - start > RECOVERY_LIMIT_S:
                raise ChaosFailed(f"{fault.name}: not well after {RECOVERY_LIMIT_S:g} s")
            if self.watched.server.state == "failed":
                self.watched.server.wait(0)  # raises what it failed with
            await asyncio.sleep(0.2)
        for caller in self.silent:
            caller.close()
        self.silent.clear()
        restarted = self.watched.server.restarts - restarts
        return lambda: self._fault_case(fault, start, recovery, restarted)

    def _fault_case(self, fault: Fault, start: float, recovery: float, restarted: int) -> Case:
        seen = self.between(start, start + recovery + 1)
        return Case(
            scenario="fault",
            setting={
                "fault": fault.name,
                "at_s": round(start, 1),
                "restarts": restarted,
                "outcomes": _counts(seen),
                "tried again": sum(o.tries > 1 for o in seen),
                "said": _sentences(seen),
            },
            tool="closed loop",
            series={"recovery": Series(unit="s", values=[round(recovery, 2)])} | _latencies(seen),
        )

    def _recovery_s(self, start: float, gap_s: float, fault: Fault, restarts: int) -> float | None:
        """Seconds from the fault to the end of the first probe that went well after the last that did not.

        None while it is too early to say: the gap is not over, the restart has not come, the server is not well.
        """
        if fault.restarts and self.watched.server.restarts == restarts:
            return None
        after = [probe for probe in self.probes if probe[1] > start]
        last_bad = max((end for _, end, well in after if not well), default=None)
        well_since = [
            end for began, end, well in after if well and began >= (start if last_bad is None else last_bad)
        ]
        if self.now_s() - start < gap_s or not well_since or self.watched.server.state != "ready":
            return None
        return 0.0 if last_bad is None else min(well_since) - start

    async def stop(self) -> Case:
        """The server is stopped while it is at work; nothing of it may stay."""
        family, folder = set(self.watched.family()), self.watched.folder
        impatient = AsyncClient(self.watched.server.grpc_url, retry=False)
        self.clients = [impatient]
        start = self.now_s()
        good = [job for job in self.jobs if job.refusal is None and job.where == "server"]
        requests = [asyncio.create_task(self.request(job)) for job in good]
        await asyncio.sleep(0.3)
        began = time.perf_counter()
        await asyncio.to_thread(self.watched.server.stop)
        stopped_s = time.perf_counter() - began
        await asyncio.gather(*requests)
        await impatient.close()
        left = [
            f"process {one.pid}"
            for one in family
            if one.is_running() and one.status() != psutil.STATUS_ZOMBIE
        ]
        left += [str(path) for path in [folder, *sorted(unused_regions() - self.regions)] if path.exists()]
        return Case(
            scenario="stop",
            setting={
                "outcomes": _counts(seen := self.between(start, self.now_s())),
                "left behind": left,
                "said": _sentences(seen),
            },
            tool="timer",
            series={"stop": Series(unit="s", values=[round(stopped_s, 2)])},
            notes=[f"left behind: {what}" for what in left],
        )


def _counts(outcomes: list[RequestResult]) -> dict[str, int]:
    return dict(sorted(Counter(outcome.kind for outcome in outcomes).items()))


def _sentences(outcomes: list[RequestResult]) -> list[str]:
    """A few of the errors in their own words."""
    return sorted({outcome.said[:200] for outcome in outcomes if outcome.said})[:3]


def _latencies(outcomes: list[RequestResult]) -> dict[str, Series]:
    good = [o for o in sorted(outcomes, key=lambda o: o.began_s) if o.kind in ("cut-out", "close")]
    return {
        "latency": Series(unit="ms", values=[round(o.ms, 1) for o in good]),
        "sent at": Series(unit="s", values=[round(o.began_s, 2) for o in good]),
    }


def growth(values: list[float]) -> float:
    """Median of the last third over that of the first, less one; 0 for fewer than six values."""
    third = len(values) // 3
    return float(np.median(values[-third:]) / np.median(values[:third]) - 1) if third >= 2 else 0.0


def verdicts(result: Result) -> list[str]:
    """What the run must not contain; empty for a good one.

    An error that tells the caller to come back is an answer: a restart may take longer than a caller will wait.
    """
    wrong = []
    for case in result.cases:
        name = case.setting.get("fault", case.scenario)
        outcomes = case.setting.get("outcomes", {})
        wrong += [f"{name}: {n} {kind}" for kind, n in outcomes.items() if kind not in ANSWERS]
        wrong += [f"{name}: {note}" for note in case.notes]
    return wrong


async def run(seconds: float, *, seed: int, tell: Callable[[str], object]) -> Result:
    """The whole run against a server of its own, on loopback."""
    began = time.monotonic()
    result = command.begun("chaos", command.served_network())
    regions = unused_regions()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        settings = Settings(
            variant="cpu", cache_mb=0, canary_timeout_s=CANARY_TIMEOUT_S, start_timeout_s=300.0
        )
        with Server(settings, log=log) as server:
            proxy = Proxy(server.grpc_url)
            async with contextlib.AsyncExitStack() as stack:
                relayed = await stack.enter_async_context(proxy.listening())
                clients = [
                    await stack.enter_async_context(AsyncClient(url, timeout_s=TIMEOUT_S))
                    for url in (server.grpc_url, server.http_url, relayed)
                ]
                bench = ChaosRun(server, proxy, clients, seed, regions)

                def add(case: Case) -> None:
                    result.cases.append(case)
                    shown = {
                        name: round(one.summary.p50, 1) for name, one in case.series.items() if one.values
                    }
                    tell(f"{bench.now_s():6.0f} s  {case.scenario}: {case.setting} {shown}")

                add(await bench.quiet())
                over = asyncio.Event()
                users = [asyncio.create_task(bench.user(over)) for _ in range(USERS)]
                watchers = [asyncio.create_task(w) for w in (bench.probing(), bench.sampling())]
                loaded = bench.now_s()
                cases = []
                long = seconds > LONG_S
                for fault in itertools.cycle(FAULTS) if long else (fault for fault in FAULTS if fault.short):
                    if long and bench.now_s() - loaded > (1 - SOAK_SHARE) * seconds:
                        break
                    tell(f"{bench.now_s():6.0f} s  {fault.name}")
                    cases.append(await bench.fault(fault))
                tell(f"{bench.now_s():6.0f} s  soak")
                cases.append(await bench.soak(SOAK_SHARE * seconds))
                over.set()
                await asyncio.gather(*users)
                for case in cases:
                    add(case())
                for watcher in watchers:
                    watcher.cancel()
                await asyncio.gather(*watchers, return_exceptions=True)
                result.environment["timeline"] = {
                    "memory": [[round(value, 1) for value in sample] for sample in bench.memory],
                    "probes": [[round(b, 2), round(e, 2), int(w)] for b, e, w in bench.probes],
                }
                add(await bench.stop())
    result.seconds = round(time.monotonic() - began, 1)
    return result
