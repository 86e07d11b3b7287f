"""What finishing costs and what it gains: `python -m bgbench pixels speed | quality | table | crops`.

speed    ms of one core and peak memory per stage for JPEGs of 1, 12 and 48 megapixels, beside plain Pillow
quality  refinement and decontamination on composites with exact mattes (``composites``; needs the training photos)
table    writes the tables of docs/pixels.md from the newest result files
crops    writes the pictures of docs/pixels.md
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from bgbench import command, environment
from bgbench.measure.composites import Composite, composites
from bgbench.photos import EXAMPLES, SIZES_HW, jpegs
from bgbench.results import Case, Result, Series
from bgimage import foreground, heap, matte
from bgimage.arrays import unit as to_unit
from bgimage.codec import Photo, decode, encode, photo_from
from bgimage.compose import over
from bgimage.geometry import Letterbox, crop_letterbox
from bgtrain import metrics, tables
from bgtrain.evaluate import Pipeline

RESULTS = command.RESULTS / "pixels"
DOCUMENT = environment.ROOT / "docs" / "pixels.md"
REPEATS = {1: 7, 12: 5, 48: 2}
COMPOSITES = 12
BAND = (0.05, 0.95)
"""Alpha between these is the edge band in which colours are compared."""
UNITS = {"ms": "ms", "sad": "thousands", "gradient": "thousands", "colour": "levels"}
"""Of the series of ``quality``. Gradient errors in "count" are older, and of another formula: not comparable."""

Floats = NDArray[np.float32]


# --- speed -------------------------------------------------------------------------------------------------------


@cache
def served_network() -> Pipeline:
    """The network that is served, in ONNX Runtime."""
    return Pipeline(command.served_network())


def served_alpha(photo: Photo) -> Floats:
    """What the served network says of a photo: float32 (h, w), without letterbox."""
    network = served_network()
    return np.ascontiguousarray(crop_letterbox(network.network_alpha(photo), photo.size_hw, network.contract))


def ours(jpeg: bytes, alpha: Floats, edges: str = "fast") -> Iterator[tuple[str, Any]]:
    """The stages of the default path, one after the other: name and what is kept of it."""
    decoded = decode(jpeg)
    yield "decode", None
    full = matte.refined(decoded, alpha, edges)
    yield "refine", None
    rgba = foreground.cutout(decoded, full)
    yield "decontaminate", None
    yield "png", len(encode(rgba))


def pillow(jpeg: bytes, alpha: Floats) -> Iterator[tuple[str, Any]]:
    """The plain pipeline: no edges, no decontamination, PNG at Pillow's default level."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    yield "decode", None
    full = Image.fromarray(np.rint(alpha * 255).astype(np.uint8)).resize(
        image.size, Image.Resampling.BILINEAR
    )
    yield "refine", None
    image.putalpha(full)
    yield "decontaminate", None
    out = io.BytesIO()
    image.save(out, "PNG")
    yield "png", out.tell()


TUNED = "ours, heap tuned"
"""As the server and the command run: ``bgimage.heap.tune``."""
PIPELINES: dict[str, Callable[[bytes, Floats], Iterator[tuple[str, Any]]]] = {
    "ours": ours,
    TUNED: ours,
    "Pillow": pillow,
}


def alone(pipeline: str, megapixels: int, path: str) -> None:
    """One pipeline in a process of its own: prints the processor's and the wall's ms per stage, and memory, as JSON."""
    cv2.setNumThreads(1)
    if pipeline == TUNED:
        heap.tune()
    jpeg, alpha = Path(path).read_bytes(), np.load(path + ".npy")
    for _ in PIPELINES[pipeline](_tiny(), cv2.resize(alpha, (32, 24))):  # imports and first calls
        pass
    before = psutil.Process().memory_info().rss / 2**20
    repeats = REPEATS[megapixels] if pipeline != "Pillow" or megapixels == 1 else 1
    cpu: dict[str, list[float]] = {}
    wall: dict[str, list[float]] = {}
    kept = 0
    for _ in range(repeats):
        processor, clock = time.process_time(), time.perf_counter()
        for stage, value in PIPELINES[pipeline](jpeg, alpha):
            cpu.setdefault(stage, []).append(1e3 * (time.process_time() - processor))
            wall.setdefault(stage, []).append(1e3 * (time.perf_counter() - clock))
            processor, clock = time.process_time(), time.perf_counter()
            kept = value or kept
    # not ru_maxrss: it begins with the peak of the process that started this one
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    peak = int(line) / 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "extra_mb": peak - before, "png_mb": kept / 1e6}))


def _tiny() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48)).save(out, "JPEG")
    return out.getvalue()


def speed(folder: Path) -> Iterator[Case]:
    """Every pipeline at every size."""
    for megapixels in SIZES_HW:
        (jpeg,) = jpegs(megapixels, 1, folder)
        path = folder / f"{megapixels}mp.jpg"
        path.write_bytes(jpeg)
        np.save(f"{path}.npy", served_alpha(decode(jpeg)))
        for name in PIPELINES:
            program = [sys.executable, "-m", "bgbench", "pixels", "alone", name, str(megapixels), str(path)]
            with environment.watching() as watch:
                done = subprocess.run(program, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            series = {stage: Series(unit="ms", values=values) for stage, values in found["cpu"].items()}
            series |= {f"{stage}, wall": Series(unit="ms", values=v) for stage, v in found["wall"].items()}
            series["extra memory"] = Series(unit="MB", values=[found["extra_mb"]])
            series["png size"] = Series(unit="MB", values=[found["png_mb"]])
            setting = {"pipeline": name, "megapixels": megapixels}
            yield Case(
                scenario="stages", setting=setting, tool="processor time", series=series, others=watch.others
            )


# --- quality -----------------------------------------------------------------------------------------------------


def shrunk(truth: Floats) -> Floats:
    """The exact matte at the network's size: the best that a network could say."""
    box = Letterbox.fit((truth.shape[0], truth.shape[1]), served_network().contract)
    return cv2.resize(truth, (box.width, box.height), interpolation=cv2.INTER_AREA)


def uncertain(truth: Floats) -> Floats:
    """The same, blurred and with a contour that wanders by about a pixel, as a small network's does."""
    alpha = shrunk(truth)
    rng = np.random.default_rng(0)
    dx, dy = (
        15 * cv2.GaussianBlur(rng.normal(0, 1, alpha.shape).astype(np.float32), (0, 0), 6) for _ in "xy"
    )
    y, x = np.mgrid[: alpha.shape[0], : alpha.shape[1]].astype(np.float32)
    moved = cv2.remap(alpha, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.GaussianBlur(moved, (0, 0), 0.8)


def colour_error(colours: NDArray[Any], exact: Composite, matte_used: NDArray[np.uint8]) -> float:
    """Mean distance of the edge band's colours from the true foreground, grey levels, weighted by the true alpha."""
    band = (exact.alpha > BAND[0]) & (exact.alpha < BAND[1]) & (matte_used > 0)
    distance = np.abs(colours[band][:, :3].astype(np.float32) - exact.foreground[band]).mean(1)
    return float(np.average(distance, weights=exact.alpha[band]))


def quality(count: int = COMPOSITES) -> Iterator[Case]:
    """Every way to refine and every way to colour, on exact composites."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}

    def note(alpha: str, method: str, **values: float) -> None:
        for name, value in values.items():
            found.setdefault((alpha, method), {}).setdefault(name, []).append(value)

    for exact in composites(count):
        picture = photo_from(exact.image)
        for alpha, make in (("shrunk", shrunk), ("uncertain", uncertain)):
            small = make(exact.alpha)
            for edges in ("none", "fast"):
                clock = time.process_time()
                full = matte.refined(picture, small, edges)
                spent = 1e3 * (time.process_time() - clock)
                unit = to_unit(full)
                note(
                    alpha,
                    edges,
                    sad=metrics.sad(unit, exact.alpha),
                    gradient=metrics.gradient_error(unit, exact.alpha),
                    ms=spent,
                )
                if edges == "fast":
                    _colours(note, alpha, picture, full, exact)
    for (alpha, method), values in found.items():
        series = {name: Series(unit=UNITS[name], values=v) for name, v in values.items()}
        yield Case(
            scenario="quality", setting={"alpha": alpha, "method": method}, tool="exact mattes", series=series
        )


def _colours(
    note: Callable[..., None], alpha: str, picture: Photo, full: NDArray[np.uint8], exact: Composite
) -> None:
    from pymatting import estimate_foreground_ml

    clock = time.process_time()
    clean = foreground.cutout(picture, full)
    spent = 1e3 * (time.process_time() - clock)
    note(alpha, "colours: ours", colour=colour_error(clean, exact, full), ms=spent)
    note(alpha, "colours: left alone", colour=colour_error(picture.pixels, exact, full), ms=0.0)
    clock = time.process_time()
    colours = estimate_foreground_ml(picture.pixels / 255, to_unit(full).astype(np.float64)) * 255
    spent = 1e3 * (time.process_time() - clock)
    note(alpha, "colours: pymatting, multilevel", colour=colour_error(colours, exact, full), ms=spent)


# --- tables ------------------------------------------------------------------------------------------------------


def documented(results: Path = RESULTS) -> dict[str, str]:
    """Markdown by name, of every result file: those of one name that were measured last win."""
    found = {}
    for result in sorted(map(Result.read, results.glob("*.json")), key=lambda one: one.started):
        if any(result.of("stages")):
            found["speed"] = _speed_table(result)
        if any(result.of("quality")):
            found["quality"] = _quality_table(result)
    return found


def _speed_table(result: Result) -> str:
    stages = ("decode", "refine", "decontaminate", "png")
    rows = []
    for case in result.of("stages"):
        least = [min(case.series[stage].values) for stage in stages]
        wall = sum(min(case.series[f"{stage}, wall"].values) for stage in stages)
        height, width = SIZES_HW[case.setting["megapixels"]]
        memory = case.value("extra memory")
        rows.append(
            [
                f"{case.setting['megapixels']} MP, {case.setting['pipeline']}",
                *(f"{value:.0f}" for value in (*least, sum(least), wall)),
                f"{memory:.0f} MB",
                f"{memory * 2**20 / height / width:.1f} B",
                f"{case.value('png size'):.1f} MB",
            ]
        )
    head = [
        "",
        "decode",
        "refine",
        "decontaminate",
        "PNG",
        "together",
        "wall",
        "extra memory",
        "a pixel",
        "PNG size",
    ]
    busy = [case.others for case in result.of("stages") if case.others is not None]
    return (
        f"{result.environment['cpu']['model']}, {result.started[:10]}; "
        f"ms of processor time on one core, least of all runs.\n\n{tables.markdown(head, rows)}\n\n"
        f"Other programs used {min(busy):.0%} to {max(busy):.0%} of the machine's cores meanwhile."
    )


def _quality_table(result: Result) -> str:
    names = {"none": "bilinear", "fast": '`edges="fast"`'}
    units = {case.series["gradient"].unit for case in result.of("quality") if "gradient" in case.series}
    gradient = "gradient error" if units == {UNITS["gradient"]} else "gradient error, older formula"
    refined, colours = [], []
    for case in result.of("quality"):
        mean = {name: float(np.mean(series.values)) for name, series in case.series.items()}
        method, alpha = case.setting["method"], case.setting["alpha"]
        cost = [f"{mean['ms']:.0f}", len(case.series["ms"].values)]
        if method.startswith("colours: "):
            colours.append([alpha, method.removeprefix("colours: "), f"{mean['colour']:.1f}", *cost])
        else:
            cells = [f"{mean['sad']:.2f}", f"{mean['gradient']:.3g}"]
            refined.append([alpha, names.get(method, method), *cells, *cost])
    head = ["small alpha", "refinement", "SAD", gradient, "ms", "composites"]
    colour_head = ["small alpha", "colours", "error in the edge band, levels", "ms", "composites"]
    return f"{tables.markdown(head, refined)}\n\n{tables.markdown(colour_head, colours)}"


def write_tables(document: Path = DOCUMENT) -> None:
    """Put the tables between their marks in the document."""
    for name, table in documented().items():
        tables.replace_between(document, f"<!-- {name} -->", f"<!-- /{name} -->", f"{table}\n")


# --- pictures ----------------------------------------------------------------------------------------------------

CROPS = {"astronaut.png": (140, 0, 360, 165), "grace_hopper.jpg": (290, 40, 510, 205)}
"""Left, top, right, bottom of the heads in two of the example photos."""


def write_crops(folder: Path) -> None:
    """One strip a photo: photo, bilinear, fast, each but the first on one plain colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (left, top, right, bottom) in CROPS.items():
        whole = decode((EXAMPLES / name).read_bytes())
        small = served_alpha(whole)
        strip = [whole.pixels[top:bottom, left:right]]
        for edges, clean in (("none", False), ("fast", True)):
            cut = foreground.cutout(whole, matte.refined(whole, small, edges), clean)
            strip.append(over(cut, (60, 170, 120))[top:bottom, left:right])
        joined = np.hstack([np.pad(part, ((0, 0), (0, 4), (0, 0)), constant_values=255) for part in strip])
        large = cv2.resize(joined[:, :-4], None, fx=1.8, fy=1.8, interpolation=cv2.INTER_CUBIC)
        (folder / f"pixels-{Path(name).stem}.webp").write_bytes(encode(large, "webp", quality=88))


def measured(name: str, cases: Iterator[Case]) -> None:
    """Run ``cases`` with one OpenCV thread; writes results/pixels/NAME-DEVICE.json."""
    cv2.setNumThreads(1)
    clock = time.monotonic()
    result = command.begun("pixels")
    for case in cases:
        print(
            case.setting,
            {key: round(float(np.mean(one.values)), 2) for key, one in case.series.items()},
            flush=True,
        )
        result.cases.append(case)
    result.seconds = round(time.monotonic() - clock, 1)
    result.write(RESULTS / f"{name}-{environment.device()}.json")
