"""What the application tells the keeper."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to serve and how; ``bgserver.Server`` documents the fields."""

    repository: str
    models: tuple[str, ...]
    variant: str | None
    host: str
    grpc_port: int
    http_port: int
    metrics_port: int
    start_timeout_s: float
    canary_every_s: float
    canary_timeout_s: float
    drain_s: float
    admin_key: str
    trace_url: str | None
    grpc_args: tuple[str, ...]
    extra_args: tuple[str, ...]

    @classmethod
    def from_json(cls, line: str) -> Spec:
        """Read what ``to_json`` wrote."""
        fields: dict[str, Any] = json.loads(line)
        for name, value in fields.items():
            if isinstance(value, list):
                fields[name] = tuple(value)
        return cls(**fields)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))
