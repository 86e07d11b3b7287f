"""What every bench shares: where things are, and the result to begin with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bgbench import environment
from bgbench.errors import ToolFailed, ToolMissing
from bgbench.results import Result
from bgexport import repository
from bgserver import model_repository

BENCHMARKS = Path(__file__).parents[1]
RESULTS = BENCHMARKS / "results"
CACHE = environment.ROOT / ".cache" / "bench"


def say(line: str) -> None:
    """A line for people, at once."""
    print(line, file=sys.stderr, flush=True)


def output(*program: object, variables: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """Standard output of a program that must succeed, run in ``folder`` with these environment variables as well.

    Raises:
        ToolFailed: it did not; carries its last words.
    """
    words, environment = list(map(str, program)), {**os.environ, **(variables or {})}
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr[-800:].strip()
        raise ToolFailed(f"{' '.join(words[:6])} ... ended with {done.returncode}: {said}")
    return done.stdout


def served_network(model: str = "") -> Path:
    """The ONNX file of a network in the repository; the committed one where no ``model`` is named.

    Raises:
        ToolMissing: no network of this name was added.
    """
    models = model_repository()
    added = [names.network for names, _ in repository.networks(models) if names.network]
    if model and model not in added:
        known = ", ".join(added) or "none yet"
        raise ToolMissing(
            f"no network {model!r} was added to {models} (python -m bgexport add); added: {known}"
        )
    return models / repository.Names(model).onnx / "1" / "model.onnx"


def begun(set: str, network: Path | None = None) -> Result:
    """An empty result; ``network`` where there is such a file."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    exists = network if network and network.exists() else None
    return Result(set=set, started=now, environment=environment.record(exists))
