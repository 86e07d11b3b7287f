"""What every command line of the benches shares. stdout is the product (paths and tables), stderr the talk."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import typer

from bgbench import environment
from bgbench.errors import ToolMissing
from bgbench.results import Result
from bgexport import repository
from bgimage.errors import BgError
from bgserver import model_repository

BENCHMARKS = Path(__file__).parents[1]
RESULTS = BENCHMARKS / "results"
CACHE = environment.ROOT / ".cache" / "bench"


def application(help: str | None) -> typer.Typer:
    """A program of commands, of which there may be one alone."""
    app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=help)
    app.callback()(lambda: None)  # without it a command alone would lose its name
    return app


def run(app: typer.Typer, argv: list[str] | None = None) -> int:
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


def say(line: str) -> None:
    """A line for people, at once."""
    print(line, file=sys.stderr, flush=True)


def served_network(model: str = "") -> Path:
    """The ONNX file of a network in the repository; the committed one where no ``model`` is named.

    Raises:
        ToolMissing: nobody added a network of this name.
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


def conclude(result: Result, target: Path, wrong: Sequence[str]) -> None:
    """Write the result, print where it is; exit status 1 with a line for each thing that is ``wrong``."""
    result.write(target)
    print(target)
    if wrong:
        raise SystemExit("\n".join(wrong))
