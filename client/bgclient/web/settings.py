"""What the web app may do and how much of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from bgclient.options import Side

_PREFIX = "BGCLIENT_WEB_"
_OF_THE_COMMAND = {f"{_PREFIX}{name}" for name in ("HOST", "PORT", "WORKERS")}
"""Where ``serve`` listens: not the app's business, but containers name it alike."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything has a safe default: no keys, no foreign pages, no fetching of URLs, bounded everywhere.

    ``from_environment`` reads each from BGCLIENT_WEB_ and its name in capitals; lists are separated by commas.
    """

    url: str | None = None
    """Triton's address for ``AsyncClient``; None: BGCLIENT_URL, else ``engine``."""
    engine: str = "triton"
    """What runs the network if no server is named, as for ``AsyncClient``. "triton": a tritonserver that this process
    starts. Any other engine decodes photos in the process that holds the keys: use it only for your own photos."""
    where: Side = "server"
    """What decodes photos and finishes pictures. "server": Triton, so that no untrusted photo is decoded in the process
    that holds the keys. "client": this app, useful if Triton is far away; only the network's input is sent then."""
    api_keys: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    """Keys that ``X-Api-Key`` may hold; none: no key is needed."""
    cors_origins: tuple[str, ...] = ()
    """Other origins whose pages may call the API, such as "https://shop.example"; none: only this app's own page."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names this app answers to; none: any."""
    fetch_urls: bool = False
    """Fetch ``image_url`` and ``bg_image_url``, from public addresses only."""
    max_upload_bytes: int = 22 * 1024 * 1024
    """Bytes of one picture, encoded."""
    max_pixels: int = 50_000_000
    """Pixels of one picture."""
    requests_per_minute: int = 500
    """Of one caller (API key, else address); 0: no limit."""
    burst: int = 100
    """Requests that a caller may send at once after a pause."""
    concurrency: int = max(2, os.cpu_count() or 2)
    """Cut-outs at a time: each holds its photo and its picture, encoded; where="client": decoded, 6 to 35
    bytes a pixel."""
    uploads: int = 64
    """Requests that may be uploading or waiting at a time; each holds at most two encoded pictures."""
    connections: int = 1000
    """Connections at a time, with or without a request; fewer if the limit of open files is low."""
    wait_s: float = 10.0
    """Seconds that a request waits for its turn before it is refused with ``Retry-After``."""
    upload_s: float = 60.0
    """Seconds for receiving a request. After the first ten it must arrive at 10,000 bytes a second or more."""
    cut_s: float = 60.0
    """Seconds for cutting, after the wait."""
    drain_s: float = 130.0
    """Seconds that accepted requests get to complete (upload, waiting, cutting) after SIGTERM."""
    page: bool = True
    """Serve the page at ``/``."""

    def __post_init__(self) -> None:
        if self.where not in get_args(Side):
            raise ValueError(f"Settings.where={self.where!r}: use {' or '.join(get_args(Side))}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "requests_per_minute" and type(value) in (int, float) and value <= 0:
                raise ValueError(f"Settings.{field.name}={value}: must be above 0")
        if self.requests_per_minute < 0:
            raise ValueError(
                f"Settings.requests_per_minute={self.requests_per_minute}: 0 (no limit) or above"
            )
        if any(not key.isascii() or key != key.strip() or not key for key in self.api_keys):
            raise ValueError("Settings.api_keys: a key is ASCII text without spaces around it")
        if "*" in self.cors_origins:
            raise ValueError(
                "Settings.cors_origins: name the origins; '*' would open this server to every web page"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Settings as the environment states them. ``ValueError`` names what is wrong, never a key."""
        known = {f"{_PREFIX}{field.name.upper()}": field for field in dataclasses.fields(cls)}
        given = {
            name: text
            for name, text in environment.items()
            if name.startswith(_PREFIX) and name not in _OF_THE_COMMAND
        }
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: unknown; there are {', '.join(known)}")
        values = {}
        for name, text in given.items():
            field = known[name]
            try:
                values[field.name] = _READ[str(field.type)](text.strip())
            except ValueError:
                raise ValueError(f"{name}={text!r}: not a {field.type}") from None
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """What ``from_environment`` reads the same settings from."""
        named = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                named[f"{_PREFIX}{field.name.upper()}"] = text
        return named


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError(text)


_READ: dict[str, Callable[[str], Any]] = {
    "str | None": lambda text: text or None,
    "str": str,
    "Side": str,
    "tuple[str, ...]": lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
    "bool": _boolean,
    "int": int,
    "float": float,
}
