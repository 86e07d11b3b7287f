"""``bgclient web``: the page and the REST interface, from ``bgclient.web``."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from bgclient.cli._console import CommandError, Status, needing, say


def web(
    context: typer.Context,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0: reachable from other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0: any free one.")] = 8080,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            "-u",
            help="Triton's address: host:port (gRPC) or http://host:port; several separated by commas. "
            "Default: BGCLIENT_WEB_URL, then BGCLIENT_URL, else --engine.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="What runs the network if no server is named. Default: triton, a server that this command starts. "
            "Any other engine decodes photos in this process.",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="DIR",
            help="Serve nothing: write the page as static files that cut photos in the visitor's browser.",
        ),
    ] = None,
) -> None:
    """Serve the web page and the REST API with remove.bg's parameters, or write the page as static files.

    Keys, origins, limits and the rest come from the environment: BGCLIENT_WEB_API_KEYS, BGCLIENT_WEB_CORS_ORIGINS, ...
    """
    with needing("the web app", "web"):
        from bgclient.web import Settings, check_free, serve
    if export:
        _export(context, export)
        return
    try:
        settings = Settings.from_environment()
        settings = dataclasses.replace(settings, url=url or settings.url, engine=engine or settings.engine)
    except ValueError as error:
        raise CommandError(Status.USAGE, str(error)) from error
    check_free(host, port)
    if not (settings.url or os.environ.get("BGCLIENT_URL", "").strip()):
        _check_engine(settings.engine)
    if port:  # with port 0, the log says which one it is
        shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
        print(f"Open http://{shown}:{port}", flush=True)  # stderr is a log of JSON lines
    serve(settings, host=host, port=port, workers=workers)


def _export(context: typer.Context, folder: Path) -> None:
    from bgclient.web.errors import AssetsMissing
    from bgclient.web.export import export

    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name != "export" and source is not None and source.name == "COMMANDLINE":
            raise CommandError(
                Status.USAGE, f"{option.opts[0]} is for a server; --export writes files and serves nothing"
            )
    try:
        written = export(folder)
    except AssetsMissing as error:
        raise CommandError(Status.NOT_INSTALLED, error.message()) from error
    size = sum(path.stat().st_size for path in written)
    look = f"python -m http.server --directory {shlex.quote(str(folder))}"
    say(f"{len(written)} files, {size / 1e6:.0f} MB; to look at it: {look}")


def _check_engine(engine: str | None) -> None:
    """One line at the start where no photo could be cut, instead of an error for each."""
    if engine in (None, "triton"):
        from bgserver.installation import find_tritonserver

        find_tritonserver()
    else:
        from bgclient import local

        local.network(engine or "")
