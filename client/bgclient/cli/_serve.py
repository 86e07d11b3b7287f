"""``bgclient serve``: a tritonserver over our models, kept alive by ``bgserver``."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from bgclient.cli._talk import Ending, Status, say


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets the network in.")
    ] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option("--grpc-port", help="0: any free one.")] = 8001,
    http_port: Annotated[int, typer.Option("--http-port", help="0: any free one.")] = 8000,
    metrics_port: Annotated[int, typer.Option("--metrics-port", help="0: any free one.")] = 8002,
    variant: Annotated[
        str | None, typer.Option("--variant", help="cpu, onnx-gpu or trt; without: what this machine has.")
    ] = None,
    repository: Annotated[
        Path | None, typer.Option("--repository", help="Another model repository than the one installed.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of the network, on a CPU.")] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="PEM; gRPC only, HTTP stays plain.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM of its key.")] = None,
    tls_clients: Annotated[
        Path | None,
        typer.Option("--tls-clients", help="PEM of the authority whose clients are let in."),
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(
            "--admin-key",
            envvar="BGSERVER_ADMIN_KEY",
            help="Opens the administrative interfaces; without: one nobody knows.",
        ),
    ] = None,
    trace_url: Annotated[
        str | None,
        typer.Option(
            "--trace-url",
            envvar="BGSERVER_TRACE_URL",
            help="OpenTelemetry collector, OTLP over HTTP: http://host:4318/v1/traces.",
        ),
    ] = None,
    log: Annotated[Path | None, typer.Option("--log", help="File for the server's log.")] = None,
) -> None:
    """Start a Triton server with our models, watch it, restart it when it breaks; Ctrl-C ends it."""
    try:
        from bgserver import Server, Tls
    except ImportError as error:
        raise Ending(
            Status.NOT_INSTALLED, f"the server is not installed ({error}); pip install 'bgclient[server]'"
        ) from error

    try:
        server = Server(
            variant,
            repository,
            host=host,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            threads=threads,
            log=log,
            tls=Tls.of(tls_cert, tls_key, tls_clients),
            admin_key=admin_key,
            trace_url=trace_url,
            on_event=_tell,
        )
    except ValueError as error:
        raise Ending(Status.USAGE, str(error)) from error
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    say(f"starting {server.variant} over {server.repository} ...")
    try:
        with server:
            print(
                f"gRPC    {server.grpc_url}\nHTTP    {server.http_url}\nmetrics {server.metrics_url}",
                flush=True,
            )
            for engine in server.facts["engines"]:
                say(f"the network runs in {engine}")
            scheme = "grpcs://" if tls_cert else ""
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
