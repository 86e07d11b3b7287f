"""Find a tritonserver, run it over the model repository, keep it up, and leave nothing behind."""

from bgserver.errors import ServerError
from bgserver.installation import Installation, find_tritonserver, install
from bgserver.server import Server, Tls, default_variant, model_repository

__all__ = [
    "Installation",
    "Server",
    "ServerError",
    "Tls",
    "default_variant",
    "find_tritonserver",
    "install",
    "model_repository",
]
