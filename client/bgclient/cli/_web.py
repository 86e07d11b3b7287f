"""``bgclient web``: the page and the REST interface, from ``bgclient.web``."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from bgclient.cli import _server_options as server
from bgclient.cli._talk import Ending, Status, say


def web(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets the network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0: any free one.")] = 8080,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    url: server.Url = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="What runs the network where no server is named; without: triton, a server of its own. "
            "Any other decodes photos in this process.",
        ),
    ] = None,
) -> None:
    """Serve the web page and the remove.bg-shaped REST interface.

    Keys, origins, limits and the rest come from the environment: BGCLIENT_WEB_API_KEYS, BGCLIENT_WEB_CORS_ORIGINS, ...
    """
    try:
        from bgclient.web import Settings, check_free, serve
    except ImportError as error:
        raise Ending(
            Status.NOT_INSTALLED, f"the web app is not installed ({error}); pip install 'bgclient[web]'"
        ) from error
    try:
        settings = Settings.from_environment()
        settings = dataclasses.replace(settings, url=url or settings.url, engine=engine or settings.engine)
    except ValueError as error:
        raise Ending(Status.USAGE, str(error)) from error
    check_free(host, port)
    if sys.stderr.isatty():  # elsewhere stderr is a log of JSON lines
        say(f"http://{host}:{port}")
    serve(settings, host=host, port=port, workers=workers)
