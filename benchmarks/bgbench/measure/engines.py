"""Every precision in every engine, in one run: size, time at batch 1 and 8, distance from PyTorch, IoU.

The raw values go to ``benchmarks/results/engines/``; the table in ``docs/export.md`` is made from them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import onnx

from bgbench import command, environment
from bgbench.results import Case, Result, Series
from bgexport import graph, precision, release
from bgexport.engines import BF16, EMULATION, Run, cpu_engine, engines_for, torch_engine
from bgexport.limits import MAX_IOU_LOSS, TOLERANCES
from bgexport.photos import NetworkInput, stack
from bgexport.verify import alphas, mean_iou, parity
from bgimage import cpu
from bgtrain import tables
from bgtrain.checkpoint import Checkpoint

BATCHES = (1, 8)
ROUNDS = 12
"""Engines take turns, round after round, so that a busy minute of the machine falls on all of them."""
BEGIN, END = "<!-- table: written by python -m bgbench engines -->", "<!-- end of table -->"


def write_precisions(
    checkpoint: Checkpoint, calibration: Sequence[NetworkInput], folder: Path
) -> dict[str, Path]:
    """The network in every precision; precision to file."""
    full = onnx.load_from_string(release.onnx_bytes(checkpoint))
    made = {
        "fp32": full,
        "fp16": precision.fp16(full),
        "fp16-weights": precision.fp16_weights(full),
        "int8-cpu": precision.int8(full, calibration, target="cpu"),
        "int8-gpu": precision.int8(full, calibration, target="gpu"),
    }
    paths = {name: folder / f"{name}.onnx" for name in made}
    for name, model in made.items():
        graph.check_graph(model, checkpoint.contract)
        onnx.save(model, paths[name])
    return paths


def measure(
    checkpoint: Checkpoint, files: dict[str, Path], pictures: Sequence[NetworkInput], *, rounds: int = ROUNDS
) -> Result:
    """Parity and IoU on labelled ``pictures``, then ``rounds`` of timing."""
    started = time.monotonic()
    result = command.begun("engines", files["fp32"])
    result.environment["photos"] = len(pictures)
    reference = alphas(torch_engine(checkpoint.model(), checkpoint.contract), pictures)
    runs: dict[tuple[str, str], Run] = {}
    for kind, path in files.items():
        engines = {name: cpu_engine(name, path) for name in engines_for(kind)}
        if kind == "fp32" and cpu.flags() & {"avx512_bf16", "amx_bf16"}:
            engines[BF16] = cpu_engine(BF16, path)
        for name, run in engines.items():
            found = alphas(run, pictures)
            apart = parity(reference, found)
            series = {
                "size": Series(unit="MB", values=[path.stat().st_size / 1e6]),
                "mean difference": Series(unit="ratio", values=[apart.mean_difference]),
                "max difference": Series(unit="ratio", values=[apart.max_difference]),
                "IoU to PyTorch, worst": Series(unit="ratio", values=[apart.iou]),
                "IoU to labels": Series(unit="ratio", values=[mean_iou(found, pictures)]),
                "IoU of PyTorch to labels": Series(unit="ratio", values=[mean_iou(reference, pictures)]),
            }
            result.cases.append(
                Case(
                    scenario="engine",
                    setting={"precision": kind, "engine": name},
                    tool="timer",
                    series=series,
                )
            )
            if name != EMULATION:
                runs[kind, name] = run
    timed = {(c.setting["precision"], c.setting["engine"]): c.series for c in result.cases}
    for number in range(rounds + 1):
        for key, run in runs.items():
            for batch in BATCHES:
                images = stack([pictures[i % len(pictures)] for i in range(batch)])
                wall, busy = time.perf_counter(), time.process_time()
                run(images)
                took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - busy}
                for clock, seconds in took.items():
                    taken = timed[key].setdefault(f"{clock}, batch {batch}", Series(unit="ms", values=[]))
                    (taken.values if number else taken.warm_up).append(seconds * 1e3)
    result.environment["load_1min_after"] = environment.record()["load_1min_before"]
    result.seconds = time.monotonic() - started
    return result


def table(result: Result) -> str:
    """Markdown: a row an engine and precision, times as median and, in brackets, best and worst."""
    env = result.environment
    about = (
        f"{env['cpu']['model']}, {env['cpu']['cores']} cores ({', '.join(env['cpu']['vector'])}), load average "
        f"{env['load_1min_before']:.1f} before and {env['load_1min_after']:.1f} after; {env['photos']} labelled test "
        f"photos; {result.started}; network {env['network']['sha256'][:12]}, "
        f"{'x'.join(map(str, env['network']['size_hw']))} pixels."
    )
    head = ["precision", "engine", "MB", "ms, batch 1", "ms, batch 8", "CPU ms a photo, batch 1 / 8"]
    head += ["max, mean |Δalpha|", "IoU to PyTorch, worst", "IoU to labels", "accepted"]
    rows = []
    for case in result.of("engine"):
        loss = case.value("IoU of PyTorch to labels") - case.value("IoU to labels")
        walls = [_spread(case.series.get(f"wall, batch {batch}")) for batch in BATCHES]
        busy = [
            f"{case.value(f'cpu, batch {batch}') / batch:.1f}"
            if f"cpu, batch {batch}" in case.series
            else "-"
            for batch in BATCHES
        ]
        cells: list[str] = [
            case.setting["precision"],
            case.setting["engine"],
            f"{case.value('size'):.2f}",
            *walls,
            " / ".join(busy),
            f"{case.value('max difference'):.2g}, {case.value('mean difference'):.2g}",
            f"{case.value('IoU to PyTorch, worst'):.4f}",
            f"{case.value('IoU to labels'):.4f}",
            _verdict(case, loss),
        ]
        rows.append(cells)
    return f"{about}\n\n{tables.markdown(head, rows)}\n"


def _verdict(case: Case, loss: float) -> str:
    """Whether ``bgexport quantize`` and ``release`` would accept the file, by their own limits."""
    limits = TOLERANCES["fp16" if case.setting["engine"] == BF16 else case.setting["precision"]]
    wrong = [
        f"loses {loss:.3f}" * (loss > MAX_IOU_LOSS),
        "max" * (case.value("max difference") > limits.max_difference),
        "mean" * (case.value("mean difference") > limits.mean_difference),
        "worst IoU" * (case.value("IoU to PyTorch, worst") < limits.iou),
    ]
    return ", ".join(["no", *filter(None, wrong)]) if any(wrong) else "yes"


def _spread(series: Series | None) -> str:
    if series is None:
        return "-"
    return f"{series.summary.p50:.0f} ({min(series.values):.0f}-{max(series.values):.0f})"


def update(document: Path, result: Result) -> None:
    """Put the table between the marks of ``document``. ``ValueError`` where it has none."""
    tables.replace_between(document, BEGIN, END, f"\n{table(result)}\n")
