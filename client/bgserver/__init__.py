"""Find a tritonserver, run it over the model repository, keep it up, and leave nothing behind.

The names are loaded when they are first used: a client that runs the network itself needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgserver.errors import ServerError
    from bgserver.installation import Installation, find_tritonserver, install
    from bgserver.repository import model_repository
    from bgserver.server import Server
    from bgserver.settings import Settings

__all__ = [
    "Installation",
    "Server",
    "ServerError",
    "Settings",
    "find_tritonserver",
    "install",
    "model_repository",
]

_HOME = {
    "ServerError": "bgserver.errors",
    **dict.fromkeys(("Installation", "find_tritonserver", "install"), "bgserver.installation"),
    "model_repository": "bgserver.repository",
    "Server": "bgserver.server",
    "Settings": "bgserver.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bgserver' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
