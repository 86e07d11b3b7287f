"""What the commands of ``python -m bgtrain`` share."""

from __future__ import annotations

import argparse
from pathlib import Path


def command_line(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m bgtrain NAME``, described by the first paragraph of the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m bgtrain {name}", description=(doc or "").partition("\n\n")[0]
    )


def data_option(parser: argparse._ActionsContainer) -> None:
    """``--data``, for ``shards.data_folder``."""
    parser.add_argument("--data", type=Path, help="folder of shards; default $BGCLIENT_DATA")
