"""Options of every command that runs the network, here or by a server."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from bgclient.cli._console import CommandError, Status, say
from bgclient.client import Client
from bgclient.transports import TLS
from bgserver.options import with_options

PANEL = "Server"

_option: Callable[..., Any] = partial(typer.Option, rich_help_panel=PANEL)


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer with these options. Its first parameter makes the client that they describe.

    That function takes the client's other settings, such as ``fetcher``.
    """
    *options, _ = inspect.signature(_client, eval_str=True).parameters.values()
    return with_options(command, options, lambda **described: partial(_client, **described))


def _client(
    url: Annotated[
        str | None,
        _option(
            "--url",
            "-u",
            help="host:port (gRPC) or http://host:port; several separated by commas. "
            "Default: BGCLIENT_URL, else this process.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        _option(
            "--engine",
            help="What runs the network here: onnxruntime, openvino, openvino-bf16, cuda, coreml, directml, or triton. "
            "Default: BGCLIENT_ENGINE, else onnxruntime.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        _option(
            "--model", "-m", help="Another network of the server: its ensembles matte_MODEL and cutout_MODEL."
        ),
    ] = None,
    timeout: Annotated[float, _option("--timeout", help="Seconds for each photo.")] = 30.0,
    token: Annotated[
        str | None, _option("--token", envvar="BGCLIENT_TOKEN", help="Sent as bearer token.")
    ] = None,
    header: Annotated[
        list[str] | None, _option("--header", help='"Name: value", sent with every request.')
    ] = None,
    ca_file: Annotated[str | None, _option("--ca-file", help="PEM of the authorities to trust.")] = None,
    cert_file: Annotated[str | None, _option("--cert-file", help="PEM of this client's certificate.")] = None,
    key_file: Annotated[str | None, _option("--key-file", help="PEM of its key.")] = None,
    **more: Any,
) -> Client:
    """The client that the options describe; a wrong one ends the command with status 2."""
    headers = {}
    for text in header or []:
        name, colon, value = text.partition(":")
        if not colon:
            raise CommandError(Status.USAGE, f'--header {text!r}: write "Name: value"')
        headers[name.strip()] = value.strip()
    try:
        tls = TLS(ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        client = Client(
            url, engine=engine, model=model, timeout_s=timeout, token=token, headers=headers, tls=tls, **more
        )
        if client.starts_server:
            say("starting a tritonserver for this command; that takes some seconds")
        return client
    except ValueError as error:
        raise CommandError(Status.USAGE, str(error)) from error
