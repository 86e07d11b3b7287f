"""``bgclient doctor``: is everything here that is needed, and does a photo come back?"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Annotated

import typer

from bgclient.cli._console import Status, status_of
from bgclient.cli._info import lines
from bgclient.cli._server_options import with_client
from bgclient.client import Client
from bgclient.errors import BgError

_EXTRAS = ("local", "server", "web", "heif", "otel", "mcp", "ray")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    """"ok", "note" or "wrong"."""
    text: str
    status: Status = Status.FAILED
    """How the command ends where this is wrong."""


@with_client
def doctor(
    connect: Callable[..., Client],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON lines.")] = False,
) -> None:
    """Check the installation, the server, the GPU and the limits, and cut a test photo with timings."""
    worst: Status | None = None
    with connect() as client:
        looks: tuple[Callable[[], Iterator[Finding]], ...] = (
            _installed,
            _gpu,
            _limits,
            lambda: _servers(client),
            lambda: _canary(client),
        )
        for look in looks:
            for finding in look():
                if finding.state == "wrong" and worst is None:
                    worst = finding.status
                if as_json:
                    print(json.dumps(dataclasses.asdict(finding)), flush=True)
                else:
                    mark = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}[finding.state]
                    print(f"{mark} {finding.name:10} {finding.text}", flush=True)
    raise typer.Exit(worst or Status.WELL)


def _packages(extra: str | None = None) -> list[str]:
    """What this package requires: always, or with one of its extras."""
    mark = "extra ==" if extra is None else f"extra == '{extra}'"
    stated = [line.replace('"', "'") for line in requires("bgclient") or ()]
    wanted = (line for line in stated if (mark in line) == (extra is not None))
    return re.findall(r"^[\w.-]+", "\n".join(wanted), re.MULTILINE)


def _versions(packages: list[str]) -> tuple[list[str], list[str]]:
    there, missing = [], []
    for package in packages:
        try:
            there.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    return there, missing


def _installed() -> Iterator[Finding]:
    yield Finding(
        "bgclient",
        "ok",
        f"{version('bgclient')}, Python {platform.python_version()} on {platform.system()} {platform.machine()}",
    )
    there, missing = _versions(_packages())
    if missing:
        text = f"{', '.join(missing)} missing; pip install bgclient"
        yield Finding("needed", "wrong", text, Status.NOT_INSTALLED)
    else:
        yield Finding("needed", "ok", ", ".join(there))
    from bgserver.installation import find_tritonserver, unavailable

    for extra in _EXTRAS:
        there, missing = _versions(_packages(extra))
        if missing and extra == "server" and unavailable():
            continue  # the next look says why
        if missing:
            yield Finding(
                extra, "note", f"not installed ({', '.join(missing)}); pip install 'bgclient[{extra}]'"
            )
        else:
            yield Finding(extra, "ok", ", ".join(there))
    try:
        yield Finding("triton", "ok", str(find_tritonserver().binary))
    except BgError as error:
        yield Finding("triton", "note", f"none on this machine: {error}")


def _gpu() -> Iterator[Finding]:
    from bgserver.plans import nvidia_smi

    asked = nvidia_smi("name", "memory.total", "driver_version")
    if asked is None:
        yield Finding("gpu", "note", "none here (no nvidia-smi); a server elsewhere may have one")
    elif asked.returncode:
        yield Finding("gpu", "wrong", f"nvidia-smi fails: {(asked.stderr or asked.stdout).strip()}")
    else:
        yield from (Finding("gpu", "ok", line) for line in asked.stdout.splitlines())


def _limits() -> Iterator[Finding]:
    from bgimage.codec import Limits

    limits = Limits()
    yield Finding(
        "limits",
        "ok",
        f"photos up to {limits.max_bytes >> 20} MiB, {limits.max_pixels / 1e6:g} megapixels, "
        f"{limits.max_side} pixels a side, {limits.max_decode_s:g} s of decoding; "
        f"those of one request together {limits.max_batch_bytes >> 20} MiB, "
        f"{limits.max_batch_pixels / 1e6:g} megapixels",
    )
    if sys.platform == "linux":
        free = shutil.disk_usage("/dev/shm").free >> 20
        enough = free >= 256
        text = f"/dev/shm has {free} MiB free" + ("" if enough else "; Triton's Python models want about 256")
        yield Finding("memory", "ok" if enough else "note", text)
    yield Finding("cores", "ok", f"{os.cpu_count()}")


def _servers(client: Client) -> Iterator[Finding]:
    try:
        infos = client.info()
    except BgError as error:
        yield Finding("server", "wrong", error.message(), status_of(error))
        return
    for one in infos:
        for line in lines(one):
            name, _, text = line.partition(" ")
            wrong = name == "error" or (name == "server" and not one.ready)
            status = Status.NO_SERVER if one.error is None else status_of(one.error)
            yield Finding(name, "wrong" if wrong else "ok", text.strip(), status)


def _canary(client: Client) -> Iterator[Finding]:
    """A test photo both ways, twice: the first cut also opens the connection and reads the contract."""
    from bgserver import canary

    photo = canary.photo((480, 640))
    for where in ("client", "server"):
        try:
            client.cut(photo, where=where)
            cutout = client.cut(photo, where=where)
        except BgError as error:
            yield Finding("canary", "wrong", f"{where}: {error.message()}", status_of(error))
            return
        t = cutout.timings
        yield Finding(
            "canary",
            "ok",
            f"640 x 480, where={where}: {t.total_ms:.0f} ms (load {t.load_ms:.0f}, shrink {t.shrink_ms:.0f}, "
            f"ask {t.ask_ms:.0f}, finish {t.finish_ms:.0f}), {t.sent_bytes / 1024:.0f} KiB sent",
        )
