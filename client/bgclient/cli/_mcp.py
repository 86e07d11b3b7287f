"""``bgclient mcp``: the tools of ``bgclient.mcp`` on stdin and stdout."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from bgclient.cli import _server_options as server
from bgclient.cli._talk import Ending, Status, say


def mcp(
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="May be read and written, with all that is in it; may be repeated. Without: the current folder.",
        ),
    ] = None,
    url: server.Url = None,
    engine: server.Engine = None,
    model: server.Model = None,
    timeout: server.Timeout = 30.0,
    token: server.Token = None,
    header: server.Headers = None,
    ca_file: server.CaFile = None,
    cert_file: server.CertFile = None,
    key_file: server.KeyFile = None,
) -> None:
    """Give programs that speak the Model Context Protocol the tools cut, matte and check, on stdin and stdout."""
    try:
        from bgclient.mcp import server_of
    except ImportError as error:
        raise Ending(
            Status.NOT_INSTALLED, f"the MCP server is not installed ({error}); pip install 'bgclient[mcp]'"
        ) from error
    with server.client_of(
        url,
        engine=engine,
        model=model,
        timeout_s=timeout,
        token=token,
        headers=header,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
    ) as client:

        def stop(*_: Any) -> None:
            client.close()
            say("bgclient: stopped")
            os._exit(Status.STOPPED)  # the SDK would wait for a line of stdin that may never come

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        server_of(client, folder or [Path()]).run("stdio")
