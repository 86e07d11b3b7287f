"""The pictures of RESULTS.md, drawn from result files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bgbench.results import Case, Result

INK, PAPER = "#222222", "white"
COLOURS = {"client": "#0b6e99", "server": "#c8553d", "ours": "#0b6e99", "rival": "#8a8a8a"}
STAGES = {
    "network's queue": "#f2c9a0",
    "preprocess": "#7fb7be",
    "network": "#0b6e99",
    "postprocess": "#c8553d",
    "transport and waiting": "#d9d9d9",
}
PHASES = {
    "load": ("load", "#7fb7be"),
    "shrink": ("resize", "#b5d3a5"),
    "ask": ("request", "#0b6e99"),
    "finish": ("finish", "#f2a65a"),
    "encode": ("encode", "#c8553d"),
}
"""A call's series to their titles and colours."""


def _figure(title: str, width: float = 7.0, height: float = 4.0, panels: int = 1) -> tuple[Any, list[Axes]]:
    figure, axes = plt.subplots(1, panels, figsize=(width, height), layout="constrained", squeeze=False)
    figure.suptitle(title, fontsize=11, color=INK)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
    return figure, list(axes[0])


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # no date and no version inside: the same results give the same file
    figure.savefig(path, dpi=110, facecolor=PAPER, metadata={"Software": None})
    plt.close(figure)
    return path


def _plain(axis: Axes) -> None:
    """Numbers as they are written, on a logarithmic axis too."""
    for ticks in (axis.xaxis, axis.yaxis):
        if ticks.get_scale() == "log":
            ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ticks.set_minor_formatter(NullFormatter())


def load_curve(result: Result, path: Path) -> Path | None:
    """Latency against throughput under Poisson arrivals, the knee marked."""
    cases = list(result.of("many users"))
    if not cases:
        return None
    figure, (axis,) = _figure("Photos that arrive by chance: latency against throughput (1 megapixel)")
    for where, name in (("client", "thin client"), ("server", "server path")):
        points = sorted(result.of("many users", where=where), key=lambda case: case.value("arrivals"))
        if not points:
            continue
        rates = [case.value("throughput") for case in points]
        for percentile, style in (("p50", "-"), ("p95", "--")):
            values = [getattr(case.series["latency"].summary, percentile) for case in points]
            axis.plot(
                rates, values, style, marker="o", ms=4, color=COLOURS[where], label=f"{name}, {percentile}"
            )
        for case in points:
            if case.setting.get("knee"):
                axis.axvline(case.value("throughput"), color=COLOURS[where], alpha=0.35, lw=6)
                axis.annotate(
                    "knee",
                    (case.value("throughput"), 0.02),
                    xycoords=("data", "axes fraction"),
                    color=COLOURS[where],
                    ha="center",
                )
    axis.set(xlabel="photos answered a second", ylabel="milliseconds", yscale="log")
    _plain(axis)
    axis.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def breakdown(result: Result, path: Path) -> Path | None:
    """Where a request's time goes inside the server, by requests in flight."""
    cases = sorted(result.of("ensemble"), key=lambda case: case.setting["in flight"])
    if not cases:
        return None
    figure, (axis,) = _figure("Inside the server: one 1-megapixel photo, by requests in flight")
    names = [str(case.setting["in flight"]) for case in cases]
    base = [0.0] * len(cases)
    for stage, colour in STAGES.items():
        values = [stage_ms(case)[stage] for case in cases]
        axis.bar(names, values, bottom=base, color=colour, label=stage, width=0.6)
        base = [low + value for low, value in zip(base, values, strict=True)]
    axis.set(xlabel="requests in flight", ylabel="milliseconds a photo (mean)")
    axis.grid(axis="x", visible=False)
    axis.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def stage_ms(case: Case) -> dict[str, float]:
    """Mean milliseconds a request by ``STAGES``, from Triton's counters; what the client waits beyond them is last."""
    found: dict[str, float] = defaultdict(float)
    for name, series in case.series.items():
        model, _, part = name.partition(": ")
        model = model.removeprefix("bgclient_").partition("_")[0]
        if part == "compute":
            found["network" if model not in ("preprocess", "postprocess") else model] += series.values[0]
        elif part == "queue":
            found["network's queue" if model not in ("preprocess", "postprocess") else "waiting"] += (
                series.values[0]
            )
    latency = case.series["latency"].summary.mean if case.series["latency"].values else sum(found.values())
    known = {stage: found[stage] for stage in list(STAGES)[:-1]}
    return {**known, "transport and waiting": max(0.0, latency - sum(known.values()))}


def megapixels(result: Result, path: Path) -> Path | None:
    """Where one user's time goes, by the photo's size."""
    cases = list(result.of("one user"))
    if not cases:
        return None
    figure, axes = _figure("One user, JPEG to PNG", 8.0, 3.6, panels=2)
    for axis, where in zip(axes, ("client", "server"), strict=True):
        points = sorted(result.of("one user", where=where), key=lambda case: case.setting["megapixels"])
        names = [f"{case.setting['megapixels']} MP" for case in points]
        base = [0.0] * len(points)
        for phase, (title, colour) in PHASES.items():
            values = [case.value(phase) / 1e3 for case in points]
            axis.bar(names, values, bottom=base, color=colour, label=title, width=0.6)
            base = [low + value for low, value in zip(base, values, strict=True)]
        axis.set(title="thin client" if where == "client" else "server path", ylabel="seconds")
        axis.grid(axis="x", visible=False)
    for axis in axes:
        axis.set_ylim(0, max(one.get_ylim()[1] for one in axes))
    axes[0].legend(frameon=False, fontsize=8)
    return _save(figure, path)


@dataclass(frozen=True)
class Remover:
    """One dot of the Pareto plot."""

    name: str
    title: str
    iou: float
    error: float
    """Standard error of ``iou``."""
    photos_s: float
    """12-megapixel JPEGs to RGBA PNGs a second."""
    mattes_s: float
    """To mattes as arrays."""


NEAR = 1.3
"""A remover whose next faster one is less than this many times as fast has its name on the other side."""


def pareto(removers: Sequence[Remover], ours: str, groups: str, path: Path) -> Path | None:
    """Quality against speed of all removers."""
    if not removers:
        return None
    figure, (axis,) = _figure(f"12-megapixel JPEG to RGBA PNG; {groups}", 7.0, 4.4)
    for one in removers:
        colour = COLOURS["ours" if one.name == ours else "rival"]
        axis.errorbar(one.photos_s, one.iou, yerr=one.error, fmt="o", color=colour, capsize=3, ms=7)
        crowded = any(1 < other.photos_s / one.photos_s <= NEAR for other in removers)
        axis.annotate(
            one.title,
            (one.photos_s, one.iou),
            (-6, -12) if crowded else (6, 6),
            textcoords="offset points",
            ha="right" if crowded else "left",
            fontsize=8,
            color=colour,
        )
    axis.set(xlabel="photos a second", ylabel="IoU, mean and its standard error", xscale="log")
    axis.margins(x=0.25)
    _plain(axis)
    return _save(figure, path)
