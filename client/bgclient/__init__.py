"""Cut people out of photos.

>>> from bgclient import cut
>>> cut("me.jpg").save("me.png")

The names are loaded when they are first used: importing this package imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgclient._served import ServerInfo
    from bgclient.api import acut, acut_many, cut, cut_many
    from bgclient.client import AsyncClient, Client
    from bgclient.errors import BgError
    from bgclient.fetch import Fetcher
    from bgclient.results import Cutout, Outcome, Progress, Timings
    from bgclient.transports import TLS

__all__ = [
    "TLS",
    "AsyncClient",
    "BgError",
    "Client",
    "Cutout",
    "Fetcher",
    "Outcome",
    "Progress",
    "ServerInfo",
    "Timings",
    "acut",
    "acut_many",
    "cut",
    "cut_many",
]

_HOME = {
    **dict.fromkeys(("acut", "acut_many", "cut", "cut_many"), "bgclient.api"),
    **dict.fromkeys(("AsyncClient", "Client"), "bgclient.client"),
    **dict.fromkeys(("Cutout", "Outcome", "Progress", "Timings"), "bgclient.results"),
    "BgError": "bgclient.errors",
    "Fetcher": "bgclient.fetch",
    "ServerInfo": "bgclient._served",
    "TLS": "bgclient.transports",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bgclient' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
