"""``bgclient serve``: a tritonserver over our models, kept alive by ``bgserver``."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from bgclient.cli._console import say
from bgserver.options import with_settings
from bgserver.settings import Settings


@with_settings
def serve(
    settings: Settings,
    log: Annotated[Path | None, typer.Option("--log", help="File for the server's log.")] = None,
) -> None:
    """Start a Triton server with our models, watch it, restart it when it breaks; Ctrl-C ends it."""
    from bgserver import Server

    server = Server(settings, log=log, on_event=_tell)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    say(f"starting {settings.variant} over {settings.repository} ...")
    try:
        with server:
            print(
                f"gRPC    {server.grpc_url}\nHTTP    {server.http_url}\nmetrics {server.metrics_url}",
                flush=True,
            )
            for engine in server.facts["engines"]:
                say(f"the network runs in {engine}")
            scheme = "grpcs://" if settings.tls_cert else ""
            say(f"ready; in another terminal: BGCLIENT_URL={scheme}{server.grpc_url} bgclient cut me.jpg")
            server.wait()
    except KeyboardInterrupt:
        say("stopped")


def _end(number: int, frame: FrameType | None) -> None:
    """The first signal ends the server in its own time; more of them change nothing."""
    for known in (signal.SIGINT, signal.SIGTERM):
        signal.signal(known, signal.SIG_IGN)
    raise KeyboardInterrupt


def _tell(event: Mapping[str, Any]) -> None:
    if event["event"] == "restarting":
        say(f"restarting the server: {event['why']}")
