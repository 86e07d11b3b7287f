"""The server under test, and its own counters of where the time went."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bgbench.environment import served_backends
from bgexport import repository
from bgserver import Server, Settings, model_repository
from bgserver.settings import default_variant

NS_MS = 1e-6


class RunningServer:
    """A running server and what is known about it."""

    def __init__(self, server: Server, log: Path, names: repository.Names) -> None:
        self.server = server
        self.names = names
        self.url: str = server.grpc_url
        self.http_url: str = server.http_url
        self.headers = server.admin_headers
        """For the server's counters and its shared memory."""
        self._log = log
        self.models = self._models()

    def _models(self) -> tuple[str, ...]:
        """The steps of the ensembles, in the order of ``names.cutout``."""
        from tritonclient.grpc import InferenceServerClient

        with InferenceServerClient(self.url) as client:
            config = client.get_model_config(self.names.cutout, as_json=True)["config"]
        return tuple(step["model_name"] for step in config["ensemble_scheduling"]["step"])

    @property
    def network(self) -> str:
        """Name of the model that is the network."""
        return next(name for name in self.models if not name.startswith("bgclient_"))

    def describe(self) -> dict[str, Any]:
        """Version, backends that really run, and the engine as the backend logs it."""
        about = served_backends(self.url, (self.names.cutout, self.names.matte, *self.models))
        engines = re.findall(rf"{self.network}_\d+_\d+: ([^\"\n]*)", self._log.read_text(errors="replace"))
        return {**about, "engine": engines[-1] if engines else None}

    def statistics(self) -> Statistics:
        """Triton's counters so far, of each step."""
        return Statistics.read(self.url, self.models, self.headers)


@contextmanager
def serving(variant: str | None = None, model: str = "", cache_mb: int = 0) -> Iterator[RunningServer]:
    """A server of this variant (None: what it chooses), for the ``with`` block; ``model``: the added network.

    Without a cache the same photo can be sent again and again, and costs the network each time.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        settings = Settings(
            variant=variant or default_variant(),
            repository=model_repository(),
            # no test photos in the figures, and a server that is overloaded on purpose is not stuck
            canary_every_s=0.0,
            cache_mb=cache_mb,
            canary_timeout_s=60.0,
            start_timeout_s=300.0,
        )
        with Server(settings, log=log) as server:
            yield RunningServer(server, log, repository.Names(model))


@dataclass(frozen=True)
class ModelTimes:
    """One model between two readings of Triton's counters; means a request."""

    requests: int
    batch: float
    """Photos an execution."""
    queue_ms: float
    compute_ms: float
    """Input, inference and output together."""


@dataclass(frozen=True)
class Statistics:
    """Triton's cumulative counters, by model."""

    counters: dict[str, dict[str, int]]

    @classmethod
    def read(cls, url: str, models: tuple[str, ...], headers: dict[str, str]) -> Statistics:
        """Ask a server by gRPC; ``headers`` open its statistics."""
        from tritonclient.grpc import InferenceServerClient

        with InferenceServerClient(url) as client:
            asked = {
                name: client.get_inference_statistics(name, headers=headers, as_json=True) for name in models
            }
            return cls({name: _counters(statistics) for name, statistics in asked.items()})

    def since(self, before: Statistics) -> dict[str, ModelTimes]:
        """What happened in between, for the models that answered something."""
        stages = {}
        for name, now in self.counters.items():
            delta = {key: value - before.counters[name][key] for key, value in now.items()}
            if requests := delta["requests"]:
                stages[name] = ModelTimes(
                    requests,
                    delta["inferences"] / max(1, delta["executions"]),
                    NS_MS * delta["queue_ns"] / requests,
                    NS_MS * delta["compute_ns"] / requests,
                )
        return stages


def _counters(said: dict[str, Any]) -> dict[str, int]:
    """The counters of one model; protobuf's JSON writes 64-bit numbers as text and leaves zeros out."""
    (stats,) = said["model_stats"]
    inference = stats.get("inference_stats", {})
    duration = {name: int(one.get("ns", 0)) for name, one in inference.items()}
    return {
        "requests": int(inference.get("success", {}).get("count", 0)),
        "inferences": int(stats.get("inference_count", 0)),
        "executions": int(stats.get("execution_count", 0)),
        "queue_ns": duration.get("queue", 0),
        "compute_ns": sum(duration.get(f"compute_{part}", 0) for part in ("input", "infer", "output")),
    }
