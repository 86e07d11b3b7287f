"""The machine that a benchmark ran on, and how much other programs used it meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bgimage import cpu
from bgserver.plans import nvidia_smi

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "numpy", "pillow", "opencv-python-headless", "simplejpeg", "isal", "onnxruntime", "onnxruntime-gpu", "openvino",
    "torch", "tritonclient", "nvidia-pytriton",
)  # fmt: skip
GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.max.sm",
    "clocks.max.mem",
    "clocks.sm",
    "power.limit",
)


def record(network: Path | None = None) -> dict[str, Any]:
    """Machine, versions and commit; ``network``: an ONNX file, whose hash and contract are added."""
    return {
        "device": device(),
        "cpu": _cpu(),
        "gpus": gpus(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}, glibc {platform.libc_ver()[1]}",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
        "load_1min_before": round(os.getloadavg()[0], 2),
        **({"network": _network(network)} if network else {}),
    }


def device() -> str:
    """Name for files: the GPU's, else the processor's and its cores."""
    found = gpus()
    name = f"{len(found)}x-{found[0]['name']}" if found else f"{_cpu()['model']}-{_cpu()['cores']}-cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _cpu() -> dict[str, Any]:
    facts, flags = cpu.facts(), cpu.flags()
    clocks = [core.current for core in psutil.cpu_freq(percpu=True)]
    return {
        "model": cpu.model(),
        "family": f"{facts.get('cpu family', '?')}.{facts.get('model', '?')}",
        "cores": len(os.sched_getaffinity(0)),
        "mhz": round(max(clocks)) if clocks else None,
        "vector": [
            name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if name in flags
        ],
        "virtual": "hypervisor" in flags,
    }


def gpus() -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU; empty where there is none."""
    asked = nvidia_smi(*GPU_FIELDS)
    rows = [line.split(", ") for line in asked.stdout.splitlines()] if asked and not asked.returncode else []
    return [dict(zip(GPU_FIELDS, row, strict=True)) for row in rows]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit, with "+" after it where code differs (results and pages may); None outside a checkout."""
    git = ["git", "-C", str(ROOT)]
    done = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None
    but = (":!benchmarks/results", ":!benchmarks/plots", ":!*.md")  # what a benchmark itself writes
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *but], check=False).returncode
    return done.stdout.strip() + ("+" if changed else "")


def _network(path: Path) -> dict[str, Any]:
    import onnx

    from bgexport.graph import contract_of

    contract = contract_of(onnx.load(path))
    content = path.read_bytes()
    return {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "megabytes": round(len(content) / 1e6, 2),
        "contract": contract.fingerprint,
        "size_hw": list(contract.size_hw),
    }


def served_backends(url: str, models: tuple[str, ...]) -> dict[str, Any]:
    """The server's version, and for each model the backend that really runs it and its instances, as the server says.

    ``runtime`` is "model.py" where a Python program stands in for the C++ backend of the same name.
    """
    from tritonclient.grpc import InferenceServerClient

    with InferenceServerClient(url) as client:
        about = client.get_server_metadata(as_json=True)
        configs = {name: client.get_model_config(name, as_json=True)["config"] for name in models}
    return {
        "tritonserver": about["version"],
        "models": {
            name: {
                "backend": config.get("backend") or config.get("platform"),
                "runtime": config.get("runtime"),
                "max_batch_size": config.get("max_batch_size", 0),
                "instances": [
                    f"{one.get('count', 1)} x {one.get('kind')}" for one in config.get("instance_group", [])
                ],
            }
            for name, config in configs.items()
        },
    }


class Watch:
    """Share of the cores that others used while it was open: all busy time less that of this process and below."""

    others: float | None = None
    """0..1, after the ``with`` block."""


@contextmanager
def watching() -> Iterator[Watch]:
    """Count the processor time of programs that are not ours. Processes that start and end inside are ours."""
    watch = Watch()
    before = _busy_s(), own_s(), os.times().elapsed
    yield watch
    after = _busy_s(), own_s(), os.times().elapsed
    busy, own, elapsed = (end - start for end, start in zip(after, before, strict=True))
    cores = os.cpu_count() or 1
    watch.others = round(min(1.0, max(0.0, busy - own) / max(elapsed * cores, 1e-9)), 3)


def _busy_s() -> float:
    """Seconds that the cores have worked since boot: user, nice, system, interrupts, stolen."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice  # guests count as user


def own_s(root: psutil.Process | None = None) -> float:
    """Seconds of this process, or of another, and everything below it, children that have ended included."""
    root = root or psutil.Process()
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended between listing and reading
            total += sum(process.cpu_times()[:4])  # user and system, own and of ended children
    return total


def versions_line() -> str:
    """One line for the head of a log."""
    return f"bgbench on {device()}, Python {platform.python_version()} ({sys.executable})"
