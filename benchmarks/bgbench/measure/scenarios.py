"""What is measured. A scenario is a generator of cases; ``SCENARIOS`` lists them in their order.

Every scenario takes a ``Bench`` and yields each case as soon as it is measured, so that a run that is stopped keeps
what it has.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bgbench import command, photos
from bgbench.environment import watching
from bgbench.load import arrivals as load
from bgbench.measure import floors
from bgbench.measure.perf import PerfAnalyzer, write_photos
from bgbench.results import Case, Series
from bgbench.serving import ModelTimes, RunningServer, serving
from bgbench.statistics import knee
from bgclient import AsyncClient, Client
from bgexport import repository
from bgimage import codec, finish, geometry, matte
from bgimage.contract import Contract
from bgimage.once import cached_property
from bgserver import engines
from bgserver.errors import EngineMissing

WHERE = ("client", "server")
"""Where the cut-out is composited: in the thin client, or in the server, which then gets the whole photo."""
PLAIN: dict[str, Any] = {"edges": "none", "decontaminate": False}
"""Options of a cut-out that is no more than decode, network, merge and encode."""
PHASES = ("load", "shrink", "ask", "finish", "encode")
"""Of a call, as ``bgclient.Timings`` has them, and of making the file."""
ROUNDS = 3
"""Bare engines and batch sizes take turns so often: a machine's slow minute then meets them all."""
COMPARED = ("fc-densenet56", "fc-densenet103", "unet")
"""Networks whose floors are shown with the served one's."""


@dataclass
class Bench:
    """What scenarios share: the server, the photos, how long to measure."""

    cache: Path
    variant: str | None = None
    effort: float = 1.0
    """Of the durations and repetitions that a full run takes; a smoke test passes less."""
    model: str = ""
    """Name of an added network; empty: this project's."""
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @cached_property
    def served(self) -> RunningServer:
        """The server as it is by default, started once."""
        return self._stack.enter_context(serving(self.variant, self.model))

    @cached_property
    def perf(self) -> PerfAnalyzer:
        """perf_analyzer, installed."""
        return PerfAnalyzer.find(self.cache)

    @cached_property
    def contract(self) -> Contract:
        """Of the network that is served."""
        import onnx

        from bgexport.graph import contract_of

        return contract_of(onnx.load(self.network))

    @property
    def network(self) -> Path:
        """The ONNX file that is served."""
        return command.served_network(self.model)

    @cached_property
    def batches(self) -> list[int]:
        """Batch sizes to try, as far as the network takes them."""
        import onnx

        most = repository.limited(repository.Serving.read(), onnx.load(self.network)).max_batch_size
        return [size for size in (1, 2, 4, 8) if size <= most]

    def exported(self, name: str) -> Path:
        """ONNX file of a network of ``bgtrain.networks`` with random weights, at the served network's input size."""
        import onnx

        from bgexport.graph import export_graph
        from bgtrain import networks

        net = networks.build(name).eval()
        weights = sum(one.numel() for one in net.parameters())
        height, width = self.contract.size_hw
        path = self.cache / "networks" / f"{name}-{weights}-{height}x{width}.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            onnx.save(export_graph(net, self.contract), path)
        return path

    def photos(self, megapixels: int, count: int = 4) -> list[bytes]:
        """Encoded photos."""
        return photos.jpegs(megapixels, count, self.cache)

    def times(self, count: int) -> int:
        """Repetitions, at least two."""
        return max(2, round(count * self.effort))

    def seconds(self, duration: float) -> float:
        """Length of a load, at least a second."""
        return max(1.0, duration * self.effort)

    def timed(self, work: Callable[[], object], count: int, *, warm_up: int = 1) -> Series:
        """Milliseconds of ``work``, repeated."""
        values = [_ms(work) for _ in range(warm_up + self.times(count))]
        return Series(unit="ms", values=values[warm_up:], warm_up=values[:warm_up])


def _ms(work: Callable[[], object]) -> float:
    """Milliseconds that one call takes."""
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)


def joined(rounds: Iterable[Series]) -> Series:
    """Series of one quantity as one."""
    several = list(rounds)
    return Series(
        unit=several[0].unit,
        values=[value for series in several for value in series.values],
        warm_up=[value for series in several for value in series.warm_up],
    )


def one(name: str, value: float) -> dict[str, Series]:
    """A series of a single value whose unit is the last word of its name."""
    title, _, unit = name.rpartition(" ")
    return {title: Series(unit=unit, values=[float(value)])}


# --- the network alone -------------------------------------------------------------------------------------------


def machine_floor(bench: Bench) -> Iterator[Case]:
    """The machine's peak, and the operations and the time of networks: how far from the peak do they run?"""
    with watching() as watch:
        peak = floors.peak_gflops()
    yield Case(
        scenario="machine peaks",
        setting={},
        tool="timer",
        series=one("FP32 matrix product GFLOP/s", peak),
        others=watch.others,
    )
    models = {"served network": bench.network, **{name: bench.exported(name) for name in COMPARED}}
    for name, path in models.items():
        cost = floors.count(path)
        engine = min(bare_engines(path), key=engines.seconds)
        image = _images(bench, 1)
        with watching() as watch:
            latency = bench.timed(partial(engine.run, {"image": image}, ["alpha"]), 10, warm_up=2)
        yield Case(
            scenario="floor",
            setting={"network": name, "batch": 1, "device": engine.name},
            tool="timer",
            series={
                "latency": latency,
                **one("operations GFLOP", cost.flops / 1e9),
                **one("parameters, millions count", cost.parameters / 1e6),
            },
            others=watch.others,
        )


def bare_network(bench: Bench) -> Iterator[Case]:
    """The served network in this process, without a server: engines and batch sizes."""
    turns = [(engine, batch) for engine in bare_engines(bench.network) for batch in bench.batches]
    taken: dict[tuple[str, int], list[Series]] = {(engine.name, batch): [] for engine, batch in turns}
    with watching() as watch:
        for _ in range(ROUNDS):
            for engine, batch in turns:
                taken[engine.name, batch].append(_alone(bench, engine, batch))
    for (name, batch), rounds in taken.items():
        latency = joined(rounds)
        rates = [1e3 * batch / value for value in latency.values]
        yield Case(
            scenario="network, bare",
            setting={"engine": name, "batch": batch},
            tool="timer",
            series={"latency": latency, "throughput": Series(unit="photos/s", values=rates)},
            others=watch.others,
        )


def _alone(bench: Bench, engine: engines.Engine, batch: int) -> Series:
    """The engine in this process, without a server."""
    work = partial(engine.run, {"image": _images(bench, batch)}, ["alpha"])
    return bench.timed(work, max(4, 12 // batch))


def _engine_alone(bench: Bench, engine: engines.Engine | None, batches: set[int]) -> dict[str, Series]:
    """The engine alone, while the server rests; nothing where only the server has it."""
    if engine is None:
        return {}
    known = sorted(batches.intersection(bench.batches))
    return {f"bare, batch {batch}": _alone(bench, engine, batch) for batch in known}


def bare_engines(network: Path) -> list[engines.Engine]:
    """What can run the network on this machine; an engine that is not installed is left out."""
    found = [engines.onnxruntime_engine(network, threads=engines.cores())]
    with suppress(EngineMissing):
        found.append(engines.openvino_engine(network, threads=engines.cores()))
    with suppress(EngineMissing):
        found.append(engines.onnxruntime_engine(network, threads=engines.cores(), accelerator="cuda"))
    return found


def served_network(bench: Bench) -> Iterator[Case]:
    """The network behind the server, asked by perf_analyzer: transports, batch sizes, requests in flight.

    The same engine is timed without the server before and after each: a shared machine may be slower a minute later.
    Several requests in flight may become one batch of as many.
    """
    side_h, side_w = bench.contract.size_hw
    memory = 4 * side_h * side_w * 8
    served = str(bench.served.describe()["engine"])
    engine = next((one for one in bare_engines(bench.network) if served.startswith(one.name)), None)
    for transport, batch, users in (
        *(("gRPC", 1, users) for users in (1, 2, 4, 8)),
        *(("gRPC", batch, 1) for batch in bench.batches[1:]),
        ("HTTP", 1, 1),
        *(("gRPC, shared memory", 1, users) for users in (1, 2, 4, 8)),
        ("HTTP, shared memory", 1, 1),
    ):
        http = transport.startswith("HTTP")
        batches = {batch, batch * users}
        with watching() as watch:
            before = _engine_alone(bench, engine, batches)
            case = _perf_case(
                bench,
                "network, served",
                {"transport": transport, "batch": batch, "in flight": users},
                bench.served.network,
                url=bench.served.http_url if http else bench.served.url,
                protocol="http" if http else "grpc",
                batch=batch,
                concurrency=users,
                shared_memory_bytes=memory if "memory" in transport else None,
            )
            after = _engine_alone(bench, engine, batches)
        bare = {name: joined((taken, after[name])) for name, taken in before.items()}
        yield dataclasses.replace(case, series={**case.series, **bare}, others=watch.others)


# --- photos, end to end ------------------------------------------------------------------------------------------


def parts(bench: Bench) -> Iterator[Case]:
    """The parts of a cut-out in this process, and the plainest way from a small alpha to RGBA ("merge")."""
    engine = min(bare_engines(bench.network), key=engines.seconds)
    for megapixels, count in ((1, 20), (12, 10), (48, 6)):
        data = bench.photos(megapixels, 1)[0]
        work = _parts(engine, bench.contract, data)
        with watching() as watch:
            series = {
                name: bench.timed(part, 2 * count if name == "network" else count)
                for name, part in work.items()
            }
        yield Case(
            scenario="parts",
            setting={"megapixels": megapixels, "device": engine.name},
            tool="timer",
            series={
                **series,
                **one("photo MB", len(data) / 1e6),
                **one("PNG MB", len(work["encode"]()) / 1e6),
            },
            others=watch.others,
        )


def _parts(engine: engines.Engine, contract: Contract, data: bytes) -> dict[str, Callable[[], Any]]:
    """What must be done to one photo, each part by itself, with what the parts before it made."""
    whole = codec.decode(data)
    image = geometry.network_input(whole, contract)[None]
    alpha = engine.run({"image": image}, ["alpha"])[0][0, 0]
    pixels = finish.finish(whole, alpha, contract).pixels
    small = geometry.crop_letterbox(alpha, whole.size_hw, contract)
    return {
        "decode": lambda: codec.decode(data),
        "shrink": lambda: geometry.network_input(whole, contract),
        "network": lambda: engine.run({"image": image}, ["alpha"]),
        "merge": lambda: _merged(whole, small),
        "finish": lambda: _finished(whole, alpha, contract),
        "encode": lambda: codec.encode(pixels),
    }


def _merged(photo: codec.Photo, alpha: NDArray[np.float32]) -> codec.Pixels:
    """RGBA of the photo and its alpha, enlarged without a look at it."""
    rgba: codec.Pixels = cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2RGBA)
    cv2.insertChannel(matte.bilinear(alpha, photo.size_hw), rgba, 3)
    return rgba


def _finished(photo: codec.Photo, alpha: NDArray[np.float32], contract: Contract) -> codec.Pixels:
    """RGBA as the default options make it, from a photo that remembers nothing of the last time."""
    return finish.finish(dataclasses.replace(photo), alpha, contract).pixels


def one_user(bench: Bench) -> Iterator[Case]:
    """One photo after the other, JPEG bytes to PNG bytes: thin client and server path at 1, 12 and 48 megapixels.

    Once as shipped, and once without the work on edges and colours. The parts of each photo are timed in this process.
    """
    engine = min(bare_engines(bench.network), key=engines.seconds)
    with Client(bench.served.url, model=bench.model or None, timeout_s=120) as client:
        for megapixels, count in ((1, 24), (12, 12), (48, 6)):
            for where in WHERE:
                for scenario, options in (("one user", {}), ("one user, plain", PLAIN)):
                    yield _one_by_one(
                        bench, scenario, client, megapixels, count, {"where": where}, engine, **options
                    )


def transports(bench: Bench) -> Iterator[Case]:
    """The same 12-megapixel photo over gRPC and HTTP."""
    served = bench.served
    for transport, url in (("gRPC", served.url), ("HTTP", served.http_url)):
        with Client(url, model=bench.model or None, timeout_s=120, headers=served.headers) as client:
            for where in WHERE:
                yield _one_by_one(
                    bench, "transports", client, 12, 6, {"where": where, "transport": transport}
                )


def _one_by_one(
    bench: Bench,
    scenario: str,
    client: Client,
    megapixels: int,
    count: int,
    setting: dict[str, str],
    engine: engines.Engine | None = None,
    **options: Any,
) -> Case:
    """Photo after photo; with an ``engine`` the parts of each are timed before it, while the server rests."""
    data = bench.photos(megapixels)
    parts = ("decode", "network", "merge" if options else "finish", "encode") if engine else ()
    series: dict[str, list[float]] = {
        name: [] for name in ("latency", *PHASES, *(f"{part} alone" for part in parts))
    }
    before = bench.served.statistics()
    with watching() as watch:
        for number in range(1 + bench.times(count)):
            photo = data[number % len(data)]
            work = _parts(engine, bench.contract, photo) if engine else {}
            for part in parts:
                series[f"{part} alone"].append(_ms(work[part]))
            work.clear()
            started = time.perf_counter()
            cutout = client.cut(photo, where=setting["where"], **options)  # type: ignore[arg-type]
            asked = time.perf_counter()
            cutout.encode()
            series["latency"].append(1e3 * (time.perf_counter() - started))
            series["encode"].append(1e3 * (time.perf_counter() - asked))
            for phase in PHASES[:-1]:
                series[phase].append(getattr(cutout.timings, f"{phase}_ms"))
    return Case(
        scenario=scenario,
        setting={"megapixels": megapixels, **setting},
        tool="closed loop",
        series={
            **{
                name: Series(unit="ms", values=found[1:], warm_up=found[:1]) for name, found in series.items()
            },
            **_stages(bench.served.statistics().since(before)),
            **one("sent MB", cutout.timings.sent_bytes / 1e6),
        },
        others=watch.others,
    )


# --- many users --------------------------------------------------------------------------------------------------


def many_users(bench: Bench) -> Iterator[Case]:
    """Photos that arrive by chance, at rates below and above what the server can do: where is the knee?"""
    for where in WHERE:
        yield from asyncio.run(_sweep(bench, where))


async def _sweep(bench: Bench, where: str) -> list[Case]:
    data = bench.photos(1)
    cases: list[Case] = []
    async with AsyncClient(bench.served.url, model=bench.model or None, timeout_s=60) as client:

        async def call(photo: bytes) -> object:
            cutout = await client.cut(photo, where=where)  # type: ignore[arg-type]
            return await asyncio.to_thread(cutout.encode)

        await call(data[0])
        most = await load.closed_loop(call, data, users=4, duration_s=bench.seconds(8))
        pattern = load.poisson_arrivals(1.0, bench.times(60))
        for share in (0.3, 0.5, 0.7, 0.85, 1.0):
            rate = share * most.throughput
            before = bench.served.statistics()
            with watching() as watch:
                run = await load.open_loop(
                    call, data, load.at_rate(pattern, rate), max_waiting=40, patience_s=30
                )
            stages = bench.served.statistics().since(before)
            if not run.latencies_ms:
                continue
            case = Case(
                scenario="many users",
                setting={"megapixels": 1, "where": where, "share of capacity": share},
                tool="open loop",
                series={
                    **one("arrivals photos/s", rate),
                    **one("throughput photos/s", run.throughput),
                    "latency": Series(unit="ms", values=run.latencies_ms),
                    "generator's lateness": Series(unit="ms", values=run.lateness_ms),
                    **_stages(stages),
                },
                others=watch.others,
                notes=run.notes,
            )
            cases.append(case)
    if cases:  # mark the point with the best throughput for its latency
        means = [case.series["latency"].summary.mean for case in cases]
        cases[knee([case.value("throughput") for case in cases], means)].setting["knee"] = True
    return cases


def in_flight(bench: Bench) -> Iterator[Case]:
    """The whole ensemble under perf_analyzer, 1-megapixel photos: 1 to 8 requests in flight."""
    data = write_photos(bench.cache / "photos-1mp.json", bench.photos(1))
    for users in (1, 2, 4, 8):
        yield _perf_case(
            bench,
            "ensemble",
            {"megapixels": 1, "in flight": users},
            bench.served.names.cutout,
            url=bench.served.url,
            data=data,
            concurrency=users,
        )


# --- shared ------------------------------------------------------------------------------------------------------


def _perf_case(bench: Bench, scenario: str, setting: dict[str, Any], model: str, **load: Any) -> Case:
    """One call of perf_analyzer, with the server's own account of it."""
    window_ms = round(1e3 * bench.seconds(2))
    load["headers"] = bench.served.headers
    before = bench.served.statistics()
    with watching() as watch:
        measured = bench.perf.measure(model, window_ms=window_ms, **load)
        if measured.notes:  # unstable: there are no figures then; count requests instead, and keep its word
            counted = bench.perf.measure(model, count=max(10, 4 * load["concurrency"]), **load)
            measured = dataclasses.replace(counted, notes=measured.notes)
    stages = bench.served.statistics().since(before)
    series = {}
    if sent := measured.requests:
        series["latency"] = Series(unit="ms", values=sent.latencies_ms, warm_up=sent.warm_up_ms)
        photos = load.get("batch", 1) * len(sent.latencies_ms)
        series |= one("throughput photos/s", photos / sent.window_s)
    return Case(
        scenario=scenario,
        setting=setting,
        tool="perf_analyzer",
        series={**series, **_stages(stages)},
        command=measured.command,
        others=watch.others,
        notes=measured.notes,
    )


def _stages(stages: dict[str, ModelTimes]) -> dict[str, Series]:
    """The server's breakdown: queue and compute a model, and how many photos shared an execution."""
    series: dict[str, Series] = {}
    for name, stage in stages.items():
        series |= one(f"{name}: queue ms", stage.queue_ms)
        series |= one(f"{name}: compute ms", stage.compute_ms)
        series |= one(f"{name}: photos an execution count", stage.batch)
    return series


def _images(bench: Bench, batch: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 (N, 3, S, S): what the network sees of the benchmark's photos."""
    contract = bench.contract
    seen = [geometry.network_input(codec.decode(data), contract) for data in bench.photos(1)]
    return np.stack([seen[number % len(seen)] for number in range(batch)])


SCENARIOS: Sequence[Callable[[Bench], Iterator[Case]]] = (
    machine_floor,
    parts,
    one_user,
    transports,
    in_flight,
    bare_network,
    served_network,
    many_users,
)
WITHOUT_SERVER = ("machine_floor", "bare_network", "parts")
"""Scenarios that need no server."""
