"""Bytes that no camera wrote, through the decoder: is the answer a photo or a typed refusal, always?

Mutations of small pictures in every format go through ``probe`` and ``decode``, by libFuzzer (atheris) in a process of
its own. Coverage guides it through our Python; the C libraries below are not instrumented, so there it mutates blindly.
Whatever is neither a sound photo nor a ``PhotoError`` counts as a crash: another exception, a signal, an answer that
takes longer than ``TIMEOUT_S``, more memory than ``MEMORY_MB``.

    python -m bgbench fuzz --seconds 120       writes results/fuzz/DEVICE.json; exit status 1 where it crashed
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bgbench import command
from bgbench.errors import ToolFailed, ToolMissing
from bgbench.results import Case, Result, Series
from bgimage.codec import FORMATS, Limits, decode, probe
from bgimage.errors import PhotoError

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1 << 18, max_decode_s=5.0)
"""Small, so that most of the time goes into parsing."""
TIMEOUT_S = 20
MEMORY_MB = 2048
SAID_EVERY = 200
"""Executions between two writings of the counts: libFuzzer ends its process without a farewell."""


def seeds() -> dict[str, bytes]:
    """A small picture in every format and many of its forms, by name."""
    y, x = np.mgrid[:24, :36]
    rgb = np.stack([x * 7, y * 10, (x + y) * 4], axis=2).astype(np.uint8)
    rgba = np.dstack([rgb, (x * 7).astype(np.uint8)])
    picture, clear = Image.fromarray(rgb), Image.fromarray(rgba)
    exif = Image.Exif()
    exif[0x0112] = 6
    forms: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("jpeg", picture, {"quality": 80, "exif": exif}),
        ("jpeg", picture, {"progressive": True}),
        ("jpeg", picture.convert("L"), {}),
        ("jpeg", picture.convert("CMYK"), {}),
        ("png", clear, {"exif": exif}),
        ("png", picture.convert("P"), {"transparency": 3}),
        ("png", picture.convert("1"), {}),
        ("png", Image.fromarray((x * 1800).astype(np.uint16)), {}),
        ("webp", clear, {"lossless": True}),
        ("webp", picture, {"quality": 60, "exif": exif}),
        ("avif", clear, {"quality": 60}),
        ("tiff", clear, {"compression": "tiff_lzw", "exif": exif}),
        ("tiff", picture, {"compression": "tiff_adobe_deflate"}),
        ("tiff", picture.convert("CMYK"), {}),
        ("bmp", picture, {}),
        ("gif", picture.convert("P"), {"save_all": True, "append_images": [picture.rotate(90).convert("P")]}),
        ("heif", picture, {}),
    ]
    made = {}
    for number, (format, image, settings) in enumerate(forms):
        out = io.BytesIO()
        try:
            if format == "heif":
                import pillow_heif

                pillow_heif.register_heif_opener()
            image.save(out, format, **settings)
        except ImportError:  # the extra is not installed: nothing to fuzz there
            continue
        made[f"{number:02}-{format}"] = out.getvalue()
    return made


def check(data: bytes) -> str:
    """What became of the bytes: "photo", or a refusal's code. Anything but a sound photo or a refusal raises."""
    try:
        info = probe(data, LIMITS)
        for at_least in (None, 8):
            photo = decode(data, LIMITS, at_least=at_least)
            assert photo.size_hw == info.size_hw, f"the header says {info.size_hw}, the photo {photo.size_hw}"
            shape, kind = photo.pixels.shape, photo.pixels.dtype
            assert kind in (np.uint8, np.uint16), kind
            assert len(shape) == 3, shape
            assert shape[2] == 3, shape
            assert at_least or shape[:2] == photo.size_hw, f"{shape} for a photo of {photo.size_hw}"
            alpha = photo.alpha
            assert alpha is None or (alpha.shape, alpha.dtype) == (shape[:2], kind), (
                "alpha of another size or type"
            )
    except PhotoError as refusal:
        return refusal.code
    return "photo"


_CHILD = """
import sys, atheris
with atheris.instrument_imports(include=["bgimage"]):
    from bgbench import fuzz
fuzz.child(sys.argv[1], sys.argv[2:])
"""


def child(counts: str, arguments: list[str]) -> None:
    """libFuzzer in this process; does not return. ``counts``: file for what became of the inputs."""
    import atheris

    said: Counter[str] = Counter()

    def one(data: bytes) -> None:
        said[check(data)] += 1
        if said.total() % SAID_EVERY == 0:
            Path(counts).write_text(json.dumps(said))

    atheris.Setup(["fuzz", *arguments], one)
    atheris.Fuzz()


def fuzz(seconds: float, folder: Path) -> tuple[int, Counter[str], list[dict[str, Any]]]:
    """Executions, what became of them, and the crashes; after a crash it begins again until the time is over."""
    corpus, found = folder / "corpus", folder / "crashes"
    for made in (corpus, found):
        made.mkdir()
    for name, data in seeds().items():
        (corpus / name).write_bytes(data)
    executions, outcomes = 0, Counter[str]()
    crashes: dict[str, dict[str, Any]] = {}
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 1:
        counts = folder / "counts.json"
        counts.write_text("{}")
        settings = {
            "max_total_time": round(left_s),
            "timeout": TIMEOUT_S,
            "rss_limit_mb": MEMORY_MB,
            "max_len": 4096,
            "print_final_stats": 1,
            "artifact_prefix": f"{found}/",
        }
        done = subprocess.run(
            # libFuzzer limits the peak, which Linux takes over from the process that starts it: here a small shell
            ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", _CHILD, str(counts)]
            + [f"-{name}={value}" for name, value in settings.items()]
            + [str(corpus)],
            env={**os.environ, "OPENCV_LOG_LEVEL": "SILENT"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # atheris names an exception on stdout, libFuzzer the rest on stderr
            text=True,
            errors="replace",
            check=False,
        )
        executed = re.findall(r"^(?:stat::number_of_executed_units: |#)(\d+)", done.stdout, re.MULTILINE)
        if not executed:
            raise ToolFailed(f"atheris did nothing: {done.stdout[-800:]}")
        executions += max(map(int, executed))
        outcomes += Counter(json.loads(counts.read_text()))
        if not done.returncode:
            continue
        written = re.search(r"Test unit written to (\S+)", done.stdout)
        if not written:
            raise ToolFailed(f"atheris ended with {done.returncode} and no input: {done.stdout[-800:]}")
        path = Path(written[1])
        data = path.read_bytes()
        for seed in corpus.iterdir():  # one that crashes by itself would end every run at its start
            if seed.read_bytes() == data:
                seed.unlink()
        crashes.setdefault(path.name, {"bytes": len(data), "hex": data.hex(), "said": _said(done.stdout)})
    return executions, outcomes, [{"input": name, **crash} for name, crash in crashes.items()]


def _said(output: str) -> str:
    """The line that names the crash."""
    named = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit)\b.*$|^SUMMARY: .*$", output, re.MULTILINE)
    return (named[0] if named else output[-200:]).strip()[:300]


def run(seconds: float) -> Result:
    """Fuzz for so long, and the result. ``ToolMissing`` where atheris is not installed."""
    try:
        import atheris  # noqa: F401
    except ImportError as error:
        raise ToolMissing(f"{error}; pip install atheris (wheels for Linux, CPython 3.11 to 3.13)") from error
    began = time.monotonic()
    result = command.begun("fuzz")
    with tempfile.TemporaryDirectory() as folder:
        executions, outcomes, crashes = fuzz(seconds, Path(folder))
    case = Case(
        scenario="decoder",
        setting={
            "seconds": seconds,
            "formats": [name for name in FORMATS if any(name[:3] in seed for seed in seeds())],
            "outcomes": dict(sorted(outcomes.items())),
            "crashes": crashes,
        },
        tool="atheris",
        series={
            "executions": Series(unit="count", values=[executions]),
            "crashes": Series(unit="count", values=[len(crashes)]),
        },
        notes=[f"{crash['said']} ({crash['input']})" for crash in crashes],
    )
    result.cases.append(case)
    result.seconds = round(time.monotonic() - began, 1)
    return result
