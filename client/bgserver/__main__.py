"""``python -m bgserver install``: fetch the pip-installable tritonserver; ``serve``: run it; ``canary``: test one;
``models`` and ``backends``: where the models are, and what they run in, for a Triton of your own.

``bgclient serve`` has the same options and writes sentences; this one is for containers: its log is lines of JSON on
stderr.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from bgimage.errors import BgError, OptionError
from bgserver import Server, canary, find_tritonserver, install, model_repository
from bgserver.installation import lay_out_backends
from bgserver.logs import JsonLog, of_event
from bgserver.options import PORTS, variable, with_settings
from bgserver.settings import Settings

app = typer.Typer(
    name="python -m bgserver",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("install")
def _install() -> None:
    """Install the pip-installable tritonserver into this environment."""
    print(install().binary)


@app.command("canary")
def _canary(
    url: Annotated[
        str,
        typer.Argument(help="http://host:port", default_factory=lambda: f"http://127.0.0.1:{_http_port()}"),
    ],
    timeout_s: Annotated[float, typer.Option(help="Long: a busy server is not a dead one.")] = 20.0,
) -> None:
    """End with status 0 when a test photo comes back: the probe for containers."""
    canary.check(url, ("cutout",), timeout_s=timeout_s)


def _http_port() -> str:
    return os.environ.get(variable("http_port")) or str(PORTS["http_port"])


@app.command("models")
def _models() -> None:
    """Print the folder of the models; for a Triton of your own: tritonserver --model-repository=FOLDER, with this
    package installed in the Python of its models.
    """
    print(model_repository())


@app.command("backends")
def _backends(folder: Path) -> None:
    """Make FOLDER the --backend-directory of the pip-installed tritonserver, which runs in this environment."""
    lay_out_backends(find_tritonserver(), folder)
    print(folder)


@app.command("serve")
@with_settings
def _serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    log = JsonLog()
    try:
        with Server(settings, log=log.path, on_event=lambda event: log.say(of_event(event))) as server:
            print(f"{server.grpc_url} {server.http_url} {server.metrics_url}", flush=True)
            server.wait()
    finally:
        log.close()


def _end(number: int, _: object) -> None:
    """The first signal ends the server in its own time, also while it starts; more of them change nothing."""
    for known in (signal.SIGTERM, signal.SIGINT):
        signal.signal(known, signal.SIG_IGN)
    sys.exit(0)


def main() -> int:
    """Exit status 0; 2 for a wrong setting and 1 for every other error, with one sentence on stderr."""
    try:
        app()
    except BgError as error:
        print(error.message(), file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
