"""How one tritonserver is run: the same for ``Server``, the keeper, both command lines and the environment."""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bgimage.errors import OptionError
from bgserver.errors import NetworkMissing
from bgserver.repository import ensembles, model_repository

VARIANTS = {"onnx-gpu": "gpu", "cpu": "cpu", "trt": "trt"}
"""What runs the network, to the configurations' name (``configs/NAME.pbtxt``, else the model's ``config.pbtxt``)."""


def default_variant() -> str:
    """ "onnx-gpu" on a machine with an NVIDIA GPU, "cpu" on any other."""
    return "onnx-gpu" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to serve and how.

    ``bgserver.options`` makes an option of every field but ``models`` and ``extra_args``; what stands under a field is
    the option's help.

    Raises:
        OptionError: a value outside its range.
        NetworkMissing: no such repository, or no such model in it.
    """

    variant: str = field(default_factory=default_variant)
    """onnx-gpu, cpu or trt. Default: what this machine has."""
    repository: Path = field(default_factory=model_repository)
    """Model repository. Default: the installed one."""
    models: tuple[str, ...] = ()
    """Models to load, with all their steps; none: every ensemble of the repository (``cutout``, ``matte``, and those
    around other networks)."""
    engine: str | None = None
    """auto, onnxruntime, openvino, openvino-bf16 or cuda. Default: the model's configuration."""
    threads: int | None = None
    """Threads of the network on a CPU. Default: the model's configuration, else one a core."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0: reachable from other machines."""
    grpc_port: int = 0
    """0: any free one."""
    http_port: int = 0
    """0: any free one."""
    metrics_port: int = 0
    """0: any free one."""
    start_timeout_s: float = 120.0
    """Seconds until the first photo has come back."""
    canary_every_s: float = 5.0
    """Seconds between test photos while no real one comes back; 0: none."""
    canary_timeout_s: float = 5.0
    """Seconds without an answer, until the server counts as stuck."""
    cache_mb: int = 32
    """Megabytes of memory for a network's answers to the last photos, 0.6 a photo: the same photo with other strokes or
    options costs no network; 0: none. The system's tritonserver has none."""
    drain_s: float = 10.0
    """Seconds that accepted requests get to complete at shutdown."""
    tls_cert: Path | None = None
    """PEM of the server's certificate, for gRPC only. HTTP stays plain: put a proxy in front."""
    tls_key: Path | None = None
    """PEM of its key."""
    tls_clients: Path | None = None
    """PEM of the authority whose clients may connect. Default: every client."""
    # on loopback too: every web page that a browser of this machine shows can send requests there
    admin_key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """Key of the administrative interfaces (repository, shared memory, statistics, trace, logging); by default a random
    one. Users of this machine can read it in the process list."""
    trace_url: str | None = None
    """OpenTelemetry collector, OTLP over HTTP: http://host:4318/v1/traces."""
    extra_args: tuple[str, ...] = ()
    """Further arguments of tritonserver."""

    def __post_init__(self) -> None:
        def settle(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        if self.variant not in VARIANTS:
            raise OptionError(f"variant={self.variant!r}: use one of {', '.join(VARIANTS)}")
        for name, least, most in (
            *((f"{port}_port", 0, 65535) for port in ("grpc", "http", "metrics")),
            *((f"{seconds}_s", 0, math.inf) for seconds in ("canary_every", "drain")),
            ("cache_mb", 0, 1_000_000),
            *((f"{seconds}_s", 0.1, math.inf) for seconds in ("start_timeout", "canary_timeout")),
            ("threads", 1, 4096),
        ):
            value = getattr(self, name)
            if value is not None and not (least <= value <= most and value < math.inf):
                upto = f" to {most}" if most < math.inf else ""
                raise OptionError(f"{name}={value}: use a number from {least}{upto}")
        if not self.admin_key:
            raise OptionError("admin_key is empty; leave it out for a new one")
        if bool(self.tls_cert) != bool(self.tls_key) or (self.tls_clients and not self.tls_cert):
            raise OptionError("--tls-cert and --tls-key belong together, and --tls-clients to them")
        # tritonserver works in a folder of its own; links stay, as Kubernetes renews certificates behind them
        for name in ("repository", "tls_cert", "tls_key", "tls_clients"):
            if (path := getattr(self, name)) is not None:
                settle(name, Path(path).absolute())
        if not self.repository.is_dir():
            raise NetworkMissing(f"model repository {self.repository} is not a folder")
        settle("models", tuple(self.models) or ensembles(self.repository))
        absent = [model for model in self.models if not (self.repository / model).is_dir()]
        if absent:
            raise NetworkMissing(f"model repository {self.repository} has no model {', '.join(absent)}")

    @property
    def configuration(self) -> str:
        """Name of the models' configurations: ``configs/NAME.pbtxt``."""
        return VARIANTS[self.variant]

    def of_the_models(self) -> dict[str, str]:
        """What the backends of the networks read from their environment."""
        wanted = {"BGSERVER_ENGINE": self.engine, "BGSERVER_THREADS": self.threads}
        wanted |= {"BGSERVER_CACHE_MB": self.cache_mb}
        return {name: str(value) for name, value in wanted.items() if value is not None}

    def tls_arguments(self) -> Iterator[str]:
        """tritonserver's own."""
        if self.tls_cert is None:
            return
        yield f"--grpc-use-ssl{'-mutual' if self.tls_clients else ''}=true"
        yield f"--grpc-server-cert={self.tls_cert}"
        yield f"--grpc-server-key={self.tls_key}"
        if self.tls_clients:
            yield f"--grpc-root-cert={self.tls_clients}"

    def to_json(self) -> str:
        """One line, for the keeper."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, line: str) -> Settings:
        """Read what ``to_json`` wrote."""
        return cls(**json.loads(line))
