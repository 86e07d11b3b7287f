"""Measure, publish results, compare two runs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bgbench import command, environment
from bgbench.errors import BenchError, ToolMissing
from bgbench.results import Case, Result
from bgimage.errors import BgError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
pixels = typer.Typer(no_args_is_help=True, help="What finishing a cut-out costs and gains (docs/pixels.md).")
app.add_typer(pixels, name="pixels")
Out = Annotated[Path | None, typer.Option(help="result file; default: a file named after the machine")]
Cache = Annotated[Path, typer.Option(help="where tools, photos and rivals are kept")]
Results = Annotated[Path, typer.Option(help="folder of result files")]
Only = Annotated[list[str] | None, typer.Option(help="run only this one (may be given several times)")]


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status, with a sentence on stderr where it fails."""
    try:
        status = app(argv, standalone_mode=False)
    except BgError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):  # a wrong argument
            print(error, file=sys.stderr)
            return 2
        raise
    return int(status or 0)  # typer gives 130 after Ctrl-C


@app.command()
def install(cache: Cache = command.CACHE) -> None:
    """Fetch perf_analyzer from the registry, without root."""
    from bgbench.measure.perf import PerfAnalyzer

    print(PerfAnalyzer.install(cache).binary)


@app.command()
def run(
    only: Only = None,
    effort: Annotated[
        float, typer.Option(help="share of the full durations and repetitions; a smoke test passes 0.1")
    ] = 1.0,
    variant: Annotated[
        str | None, typer.Option(help="of the server: cpu, onnx-gpu, trt; default: what the machine has")
    ] = None,
    model: Annotated[str, typer.Option(help="a network that bgexport add put into the repository")] = "",
    cache: Cache = command.CACHE,
    out: Annotated[
        Path | None, typer.Option(help="result file; default: results/DEVICE-VARIANT[-MODEL].json")
    ] = None,
) -> None:
    """Measure network, server and client, and write one result file."""
    from bgbench.measure.scenarios import SCENARIOS, WITHOUT_SERVER, Bench
    from bgserver.settings import default_variant

    variant = variant or default_variant()
    scenarios = [one for one in SCENARIOS if not only or one.__name__ in only]
    if not scenarios:
        known = ", ".join(one.__name__ for one in SCENARIOS)
        raise ToolMissing(f"no scenario called {' or '.join(only or [])}; there are {known}")
    with Bench(cache, variant=variant, effort=effort, model=model) as bench:
        result = _started(variant, bench.network)
        result.environment |= {"effort": effort, "model": model}
        if {"in_flight", "served_network"} & {one.__name__ for one in scenarios}:
            _ = bench.perf  # reports a missing tool before minutes of measuring
        if any(one.__name__ not in WITHOUT_SERVER for one in scenarios):
            result.environment["server"] = bench.served.describe()
        name = "-".join(filter(None, (result.environment["device"], variant, model)))
        target = out or command.RESULTS / f"{name}.json"
        _collect(result, target, ((one.__name__, one(bench)) for one in scenarios))
    print(target)


@app.command()
def rivals(
    only: Only = None,
    install: Annotated[
        bool, typer.Option(help="install them first, each in an environment of its own")
    ] = False,
    speed: Annotated[bool, typer.Option(help="12-megapixel JPEG to RGBA PNG")] = True,
    quality: Annotated[bool, typer.Option(help="score mattes on the labelled photos")] = True,
    data: Annotated[
        Path | None, typer.Option(help="folder of labelled shards; default $BGCLIENT_DATA")
    ] = None,
    every: Annotated[int, typer.Option(help="score only every Nth photo of each pool")] = 1,
    repeat: Annotated[int, typer.Option(help="timed calls a photo")] = 3,
    add: Annotated[
        bool,
        typer.Option(
            help="keep what the result file holds of this very commit, and is not measured again now"
        ),
    ] = False,
    cache: Cache = command.CACHE,
    out: Annotated[Path | None, typer.Option(help="result file; default: results/DEVICE-rivals.json")] = None,
) -> None:
    """Compare with other removers on the same photos in the same run."""
    from bgbench.rivals import OURS, RIVALS, Environment, measure, named

    chosen = [named(name) for name in only] if only else [OURS, *(one for one in RIVALS if not one.elsewhere)]
    if install:
        for rival in chosen:
            print(f"installing {rival.title}", file=sys.stderr)
            Environment(rival, cache).install()
    if not only:
        chosen = [rival for rival in chosen if Environment(rival, cache).installed]
    result = _started("rivals", command.served_network())
    target = out or command.RESULTS / f"{result.environment['device']}-rivals.json"
    if add and target.exists():
        scenarios = [name for name, wanted in (("rival speed", speed), ("rival quality", quality)) if wanted]
        again = {(scenario, one.name) for scenario in scenarios for one in chosen}
        result.keep(target, lambda case: (case.scenario, case.setting["rival"]) not in again)
    work: list[tuple[str, Iterator[Case]]] = []
    if speed:
        work += [(f"speed of {one.name}", measure.speed(one, cache, repeat=repeat)) for one in chosen]
    if quality:
        work += [
            (f"quality of {one.name}", measure.quality(one, cache, data=data, every=every)) for one in chosen
        ]
    _collect(result, target, iter(work))
    print(target)


@app.command()
def mattes(
    rival: Annotated[str, typer.Argument(help="whose mattes")],
    photos: Annotated[Path, typer.Argument(help="folder of KEY.jpg", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Argument(help="folder of the KEY.png to write")],
    cache: Cache = command.CACHE,
) -> None:
    """Let another remover matte a folder of photos, to train on (``bgtrain relabel``); installs it first."""
    from bgbench.rivals import Environment, named

    environment = Environment(named(rival), cache)
    environment.install()
    environment.run(photos, out)


@app.command()
def report(
    results: Results = command.RESULTS,
    out: Annotated[
        Path, typer.Option(help="folder for RESULTS.md, CHAOS.md and their plots")
    ] = command.BENCHMARKS,
    core_hour_usd: Annotated[float, typer.Option(help="price of a processor core for an hour")] = 0.05,
    gpu_hour_usd: Annotated[float, typer.Option(help="price of a GPU for an hour")] = 4.0,
) -> None:
    """Make RESULTS.md, CHAOS.md and their plots from the result files."""
    from bgbench.report import chaos
    from bgbench.report import results as measured

    print(measured.write(results, out / "RESULTS.md", measured.Prices(core_hour_usd, gpu_hour_usd)))
    print(chaos.write(results, out / "CHAOS.md"))


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="result file")],
    after: Annotated[Path, typer.Argument(help="result file of the same set")],
) -> None:
    """Say what became faster or slower between two runs, and what is within the noise."""
    from bgbench.report.compare import compare, strangers, table

    old, new = Result.read(before), Result.read(after)
    if warning := strangers(old, new):
        print(warning, file=sys.stderr)
    print(table(compare(old, new)))


@app.command()
def chaos(
    seconds: Annotated[
        float, typer.Option(help="of load; above 300 every fault comes, again and again")
    ] = 120.0,
    seed: Annotated[int, typer.Option(help="of the order of photos")] = 0,
    out: Out = None,
) -> None:
    """Kill, stop and cut off a server under load; fails where a request was lost or a cut-out wrong."""
    from bgbench.chaos import run
    from bgimage import heap

    heap.tune()  # as docs/client.md tells services
    result = asyncio.run(run.run(seconds, seed=seed, tell=command.say))
    conclude(result, out, run.verdicts(result), name=f"-{seconds:.0f}s")


@app.command()
def overload(
    seconds: Annotated[float, typer.Option(help="of load, shared by the peak and the four levels")] = 125.0,
    cache: Cache = command.CACHE,
    out: Out = None,
) -> None:
    """Ask the REST front for up to four times its peak; fails where it gives way."""
    from bgbench.load import overload

    result = overload.run(seconds, cache=cache, tell=command.say)
    conclude(result, out, overload.verdicts(result))


@app.command()
def stroke(cache: Cache = command.CACHE, out: Out = None) -> None:
    """Time one stroke of the page's brush in a real browser, with the server and on the device."""
    from bgbench.measure import stroke

    result = stroke.run(cache)
    for case in result.cases:
        found = ", ".join(f"{name} {case.value(name):.0f}" for name in case.series)
        command.say(f"{case.setting['mode']}: {found}")
    conclude(result, out)


@app.command()
def fresh(
    python: Annotated[str, typer.Option(help="interpreter of the new environments")] = sys.executable,
    uv: Annotated[bool, typer.Option(help="install with uv instead of pip")] = False,
    rival: Annotated[bool, typer.Option(help="weigh rembg too")] = False,
    add: Annotated[
        bool, typer.Option(help="keep the other Pythons and installers of this very commit")
    ] = False,
    document: Annotated[Path, typer.Option(help="document to put the table in")] = environment.ROOT
    / "docs/client.md",
    out: Out = None,
) -> None:
    """Install into new environments: size on the disk, import, and the first cut-out of a process."""
    from bgbench.measure import fresh

    result = command.begun("fresh")
    cases = list(fresh.measure(python, "uv" if uv else "pip", rival=rival))
    target = out or command.RESULTS / "fresh" / f"{result.environment['device']}.json"
    if add and target.exists():
        result.keep(target, lambda one: one.setting not in [case.setting for case in cases])
    result.cases += cases
    result.write(target)
    fresh.update(document, result)
    print(fresh.table(result))


@app.command()
def fuzz(
    seconds: Annotated[float, typer.Option(help="of fuzzing")] = 120.0,
    out: Out = None,
) -> None:
    """Send broken photos through the decoder; fails where it crashes."""
    from bgbench import fuzz

    result = fuzz.run(seconds)
    (case,) = result.cases
    command.say(f"{case.value('executions'):.0f} executions, {case.value('crashes'):.0f} crashes")
    conclude(result, out, case.notes)


@app.command()
def engines(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint of bgtrain", exists=True, dir_okay=False)],
    photos: Annotated[int, typer.Option(help="labelled test photos to compare on")] = 50,
    rounds: Annotated[int, typer.Option(help="timed runs of each engine and batch size")] = 12,
    document: Annotated[Path, typer.Option(help="document to put the table in")] = environment.ROOT
    / "docs/export.md",
    out: Out = None,
) -> None:
    """Measure every precision in every engine of this machine: size, time, distance from PyTorch, IoU."""
    import tempfile

    from bgbench.measure import engines
    from bgexport import precision
    from bgexport.photos import labelled
    from bgtrain import checkpoint as checkpoints

    source = checkpoints.load(checkpoint)
    calibration = labelled(source.contract, split="train", count=precision.CALIBRATION_PHOTOS)
    pictures = labelled(source.contract, split="test", count=photos)
    with tempfile.TemporaryDirectory() as folder:
        files = engines.write_precisions(source, calibration, Path(folder))
        result = engines.measure(source, files, pictures, rounds=rounds)
    conclude(result, out)
    engines.update(document, result)
    print(engines.table(result))


@pixels.command()
def speed() -> None:
    """Time of one core and peak memory per stage for JPEGs of 1, 12 and 48 megapixels, beside plain Pillow."""
    from bgbench.measure import pixels

    folder = command.CACHE / "pixels"
    folder.mkdir(parents=True, exist_ok=True)
    pixels.measured("speed", pixels.speed(folder))


@pixels.command()
def quality() -> None:
    """Error of alpha and colours on composites with exact mattes; needs the training photos."""
    from bgbench.measure import pixels

    pixels.measured("quality", pixels.quality())


@pixels.command()
def table() -> None:
    """Write the tables of docs/pixels.md from the newest result files."""
    from bgbench.measure import pixels

    pixels.write_tables()


@pixels.command()
def crops() -> None:
    """Write the pictures of docs/pixels.md."""
    from bgbench.measure import pixels

    pixels.write_crops(environment.ROOT / "docs" / "images")


@pixels.command(hidden=True)
def alone(pipeline: str, megapixels: int, photo: str) -> None:
    """One pipeline in this process; a line of JSON."""
    from bgbench.measure import pixels

    pixels.alone(pipeline, megapixels, photo)


def conclude(result: Result, out: Path | None, wrong: Sequence[str] = (), *, name: str = "") -> None:
    """Write the result and print where it is; exit status 1 with a line for each thing that is ``wrong``.

    Without ``out``, the file is named after the machine and ``name``, in the folder of the result's set.
    """
    target = out or command.RESULTS / result.set / f"{result.environment['device']}{name}.json"
    result.write(target)
    print(target)
    if wrong:
        raise SystemExit("\n".join(wrong))


def _started(set: str, network: Path) -> Result:
    print(environment.versions_line(), file=sys.stderr)
    return command.begun(set, network)


def _collect(result: Result, target: Path, work: Iterator[tuple[str, Iterator[Case]]]) -> None:
    """Run the scenarios; what is measured is on disk after each case, and one that fails does not stop the others."""
    began = time.monotonic()
    for name, cases in work:
        for case in _until_failure(result, name, cases):
            result.cases.append(case)
            result.seconds = round(time.monotonic() - began, 1)
            result.write(target)
            doubts = f"  [{'; '.join(case.doubts)}]" if case.doubts else ""
            print(f"{result.seconds:6.0f} s  {name}: {_shown(case)}{doubts}", file=sys.stderr, flush=True)
    if result.cases:
        result.write(target)
    if result.failures:
        raise BenchError(
            f"{len(result.failures)} of the scenarios failed, see above; the rest is in {target}"
        )


def _until_failure(result: Result, name: str, cases: Iterator[Case]) -> Iterator[Case]:
    try:
        yield from cases
    except BgError as error:
        result.failures.append(f"{name}: {type(error).__name__}: {error}")
        print(f"{name} failed: {error}", file=sys.stderr)


def _shown(case: Case) -> str:
    setting = ", ".join(
        f"{key} {value}" for key, value in case.setting.items() if not isinstance(value, dict)
    )
    main = [
        f"{name} {series.summary.p50:.4g} {series.unit}"
        for name, series in case.series.items()
        if series.values
    ]
    return f"{setting} -> {', '.join(main[:3])}"
