"""``bgclient mcp``: the tools of ``bgclient.mcp`` on stdin and stdout."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bgclient.cli._console import Status, needing, say
from bgclient.cli._server_options import with_client
from bgclient.client import Client


@with_client
def mcp(
    connect: Callable[..., Client],
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="A folder that the tools may read and write, with everything in it; may be repeated. "
            "Default: the current folder.",
        ),
    ] = None,
) -> None:
    """Offer the tools cut, matte and check over the Model Context Protocol, on stdin and stdout."""
    with needing("the MCP server", "mcp"):
        from bgclient.mcp import server_of
    with connect() as client:

        def stop(*_: Any) -> None:
            client.close()
            say("bgclient: stopped")
            os._exit(Status.STOPPED)  # the SDK would wait for a line of stdin that may never come

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        server_of(client, folder or [Path()]).run("stdio")
