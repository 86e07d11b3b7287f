"""``bgclient`` on the command line: cut, serve, web, mcp, info, doctor.

Results go to stdout, everything else to stderr. Exit statuses:

    0    everything was cut, or is well
    1    a photo could not be cut, or ``doctor`` found something wrong
    2    a wrong option or argument, or a file that exists already
    3    no server: none answers, or none can be started
    4    a part of bgclient that this command needs is not installed
    130  stopped by Ctrl-C or SIGTERM
"""

from __future__ import annotations

import sys

import typer

from bgclient.cli._console import run_app
from bgclient.cli._cut import cut
from bgclient.cli._doctor import doctor
from bgclient.cli._info import info
from bgclient.cli._mcp import mcp
from bgclient.cli._serve import serve
from bgclient.cli._web import web
from bgimage import heap

app = typer.Typer(
    name="bgclient",
    help="Cut people out of photos.",
    epilog="Exit status: 0 all well, 1 a photo failed, 2 wrong usage, 3 no server, 4 a part is not installed, "
    "130 stopped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (cut, serve, web, mcp, info, doctor):
    app.command()(_command)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"bgclient {version('bgclient')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """Entry point: every error of ours is a sentence on stderr and an exit status, never a traceback."""
    heap.tune()
    sys.exit(run_app(app))
