"""Options of every command that runs the network, here or by a server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bgclient.cli._talk import Ending, Status
from bgclient.client import Client
from bgclient.transports import TLS

PANEL = "Server"

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        help="host:port (gRPC) or http://host:port; several by commas. Without: BGCLIENT_URL, else this process.",
        rich_help_panel=PANEL,
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="What runs the network here: onnxruntime, openvino, openvino-bf16, cuda, coreml, directml, or triton. "
        "Without: BGCLIENT_ENGINE, else onnxruntime.",
        rich_help_panel=PANEL,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Another network of the server: its ensembles matte_MODEL and cutout_MODEL.",
        rich_help_panel=PANEL,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds for each photo.", rich_help_panel=PANEL)]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="BGCLIENT_TOKEN", help="Sent as bearer token.", rich_help_panel=PANEL),
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", help='"Name: value", sent with every request.', rich_help_panel=PANEL),
]
CaFile = Annotated[
    str | None, typer.Option("--ca-file", help="PEM of the authorities to trust.", rich_help_panel=PANEL)
]
CertFile = Annotated[
    str | None, typer.Option("--cert-file", help="PEM of this client's certificate.", rich_help_panel=PANEL)
]
KeyFile = Annotated[str | None, typer.Option("--key-file", help="PEM of its key.", rich_help_panel=PANEL)]


def client_of(
    url: str | None,
    *,
    engine: str | None = None,
    model: str | None = None,
    timeout_s: float = 30.0,
    token: str | None = None,
    headers: list[str] | None = None,
    ca_file: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
    **settings: Any,
) -> Client:
    """The client that the options describe; a wrong one ends the command with status 2."""
    named = {}
    for header in headers or []:
        name, colon, value = header.partition(":")
        if not colon:
            raise Ending(Status.USAGE, f'--header {header!r}: write "Name: value"')
        named[name.strip()] = value.strip()
    try:
        tls = TLS(ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        return Client(
            url,
            engine=engine,
            model=model,
            timeout_s=timeout_s,
            token=token,
            headers=named,
            tls=tls,
            **settings,
        )
    except ValueError as error:
        raise Ending(Status.USAGE, str(error)) from error
