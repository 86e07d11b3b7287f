"""``bgclient info``: what is served, by what, and where."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer

from bgclient._served import ServerInfo
from bgclient.cli._console import status_of
from bgclient.cli._server_options import with_client
from bgclient.client import Client

_EITHER = "ONNX Runtime or OpenVINO (its log says which)"
"""What the pip-installed server's onnxruntime backend runs; its configuration does not tell."""


@with_client
def info(
    connect: Callable[..., Client],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what each server runs: version, network, backend and device."""
    with connect() as client:
        infos = client.info()
    if as_json:
        print(
            json.dumps({"bgclient": version("bgclient"), "servers": [fields(one) for one in infos]}, indent=2)
        )
    else:
        print(f"bgclient {version('bgclient')}")
        for one in infos:
            print("\n".join(lines(one)))
    errors = [one.error for one in infos if one.error is not None]
    if errors:
        raise typer.Exit(status_of(errors[0]))


def fields(one: ServerInfo) -> dict[str, Any]:
    """What JSON can hold of it."""
    said = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    if one.contract is not None:
        said["contract"] = {**json.loads(one.contract.to_json()), "fingerprint": one.contract.fingerprint}
    if one.error is not None:
        said["error"] = {"code": one.error.code, "message": str(one.error)}
    return said


def lines(one: ServerInfo) -> list[str]:
    """For people."""
    said = [f"server   {one.server}: {'ready' if one.ready else 'not ready'}"]
    if one.version is not None:
        said[0] += f", Triton {one.version}"
    if one.network is not None:
        backend = str(one.backend)
        devices = f" on {', '.join(one.devices)}" if one.devices and " on " not in backend else ""
        backend = backend.replace("onnxruntime (python)", _EITHER)
        said.append(f"network  {one.network}, {backend}{devices}")
    if one.contract is not None:
        height, width = one.contract.size_hw
        said.append(f"contract {one.contract.fingerprint}: sees {width} x {height} pixels")
    if one.models:
        said.append(
            "models   " + ", ".join(f"{name} {state.lower()}" for name, state in sorted(one.models.items()))
        )
    if one.error is not None:
        said.append(f"error    {one.error.message()}")
    return said
