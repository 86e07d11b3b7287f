"""A tritonserver as a Python object: started, watched, restarted and ended by a keeper process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bgimage.errors import BgError, from_message
from bgserver import canary
from bgserver.errors import EngineMissing, NetworkMissing, ServerDied, ServerError, StartTimeout
from bgserver.installation import find_tritonserver
from bgserver.repository import ensembles, model_repository
from bgserver.spec import Spec

_PACKAGES = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Tls:
    """PEM files for gRPC. (Triton's HTTP knows no TLS: put a proxy before it.)"""

    certificate: Path
    """The server's certificate."""
    key: Path
    """Its private key."""
    clients: Path | None = None
    """Authority whose clients are let in; None: every client."""

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None, clients: Path | None) -> Tls | None:
        """As a command line gives them; None for none of them. ``ValueError``: they do not make a whole."""
        if certificate and key:
            return cls(certificate=certificate, key=key, clients=clients)
        if certificate or key or clients:
            raise ValueError("--tls-cert and --tls-key belong together, and --tls-clients to them")
        return None

    def arguments(self) -> tuple[str, ...]:
        """tritonserver's own."""
        names = {
            "grpc-server-cert": self.certificate,
            "grpc-server-key": self.key,
            "grpc-root-cert": self.clients,
        }
        files = tuple(f"--{name}={path}" for name, path in names.items() if path is not None)
        return (f"--grpc-use-ssl{'-mutual' if self.clients else ''}=true", *files)


VARIANTS = {"onnx-gpu": "gpu", "cpu": "cpu", "trt": "trt"}
"""What runs the network, to the configurations' name (``configs/NAME.pbtxt``, else the model's ``config.pbtxt``)."""


def default_variant() -> str:
    """ "onnx-gpu" on a machine with an NVIDIA GPU, "cpu" on any other."""
    return "onnx-gpu" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


MAX_KEEPER_DEATHS = 3
"""Within ``DEATHS_WINDOW_S``, until a server whose keeper is killed again and again is given up."""

DEATHS_WINDOW_S = 60.0


class Server:
    """One tritonserver over one model repository.

    ::

        with Server() as server:
            cut("me.jpg", url=server.grpc_url)

    It is ready when a test photo has come back. From then on a keeper process watches it: a model that died
    or is stuck is noticed within seconds, and the server is restarted on the same ports. When this process
    ends, in whatever way, the keeper lets the server finish what it accepted and leaves no process, no shared
    memory and no file behind.
    """

    def __init__(
        self,
        variant: str | None = None,
        repository: Path | str | None = None,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        http_port: int = 0,
        metrics_port: int = 0,
        models: Sequence[str] | None = None,
        engine: str | None = None,
        threads: int | None = None,
        start_timeout_s: float = 120.0,
        canary_every_s: float = 5.0,
        canary_timeout_s: float = 5.0,
        drain_s: float = 10.0,
        tls: Tls | None = None,
        admin_key: str | None = None,
        trace_url: str | None = None,
        log: Path | str | None = None,
        extra_args: Sequence[str] = (),
        on_event: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Say what to serve; nothing starts yet.

        Args:
            variant: one of ``VARIANTS``; None: ``default_variant()``.
            repository: model repository; None: ``model_repository()``.
            host: address to listen on; anything but loopback lets others in.
            grpc_port, http_port, metrics_port: 0 for any free one.
            models: models to load, with all their steps; None: every ensemble of the repository (``cutout``, ``matte``,
                and those around other networks).
            engine: what runs the network ("auto", "onnxruntime", "openvino", "openvino-bf16", "cuda"); None:
                as the configuration says.
            threads: of the engine; None: as the configuration says, else one a core.
            start_timeout_s: until the first photo has come back.
            canary_every_s: between test photos while no real one comes back; 0: none.
            canary_timeout_s: until a test photo without an answer means a stuck server.
            drain_s: that accepted requests get to finish when the server ends.
            tls: certificates for gRPC.
            admin_key: closes the administrative interfaces (repository, shared memory, statistics, trace,
                logging) to callers without this key; None: a new one, see ``admin_headers``. Users of this machine
                can read it in the process list.
            trace_url: OpenTelemetry collector (OTLP over HTTP, ``http://host:4318/v1/traces``), for spans of each
                request and model; a caller's ``traceparent`` is continued.
            log: file for the server's log; None: nowhere (its end is kept for error messages).
            extra_args: further arguments of tritonserver.
            on_event: called in a thread with each of the keeper's events: ready, restarting, failed, stopped.
        """
        self.variant = default_variant() if variant is None else variant
        if self.variant not in VARIANTS:
            raise ValueError(f"variant={variant!r}: use one of {', '.join(VARIANTS)}")
        self.repository = Path(repository) if repository is not None else model_repository()
        if not self.repository.is_dir():
            raise NetworkMissing(f"model repository {self.repository} is no folder")
        models = ensembles(self.repository) if models is None else models
        absent = [model for model in models if not (self.repository / model).is_dir()]
        if absent:
            raise NetworkMissing(f"model repository {self.repository} has no model {', '.join(absent)}")
        # On loopback too: every web page that a browser of this machine shows can send requests there.
        self.admin_key = admin_key or secrets.token_urlsafe(24)
        self.restarts = 0
        """How often the keeper has restarted the server."""
        self.facts: dict[str, Any] = {}
        """What the keeper said when the server was last ready: host, ports, pid, engines, seconds it took."""
        self._spec = Spec(
            repository=str(self.repository.resolve()),
            models=tuple(models),
            variant=VARIANTS[self.variant],
            host=host,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            start_timeout_s=start_timeout_s,
            canary_every_s=canary_every_s,
            canary_timeout_s=canary_timeout_s,
            drain_s=drain_s,
            admin_key=self.admin_key,
            trace_url=trace_url,
            grpc_args=tls.arguments() if tls else (),
            extra_args=tuple(extra_args),
        )
        self._settings = {
            "BGSERVER_ENGINE": engine,
            "BGSERVER_THREADS": None if threads is None else str(threads),
        }
        self._log = None if log is None else Path(log)
        self._on_event = on_event
        self._keeper: subprocess.Popen[str] | None = None
        self._changed = threading.Condition()
        self._state = "new"
        self._error: BgError | None = None
        self._ending = False

    def start(self) -> Self:
        """Start and wait until a test photo has come back.

        Raises:
            ServerError: one of its kinds says why not; nothing is left running.
        """
        if self._keeper is not None:
            raise RuntimeError("this Server was started before; make another one")
        found = find_tritonserver()  # said at once, also where not even a keeper can run
        if self._settings["BGSERVER_ENGINE"] and found.wheel is None:
            raise EngineMissing(
                f"engine {self._settings['BGSERVER_ENGINE']} was asked for, and the system's tritonserver "
                "runs networks in backends of its own; leave engine out"
            )
        self._launch(self._spec)
        threading.Thread(target=self._listen, daemon=True, name="bgserver-events").start()
        try:
            with self._changed:
                in_time = self._changed.wait_for(
                    lambda: self._state != "new", self._spec.start_timeout_s + 60
                )
            if self._error is not None:
                raise self._error
            if not in_time or self._state != "ready":
                raise StartTimeout(f"the keeper said nothing for {self._spec.start_timeout_s + 60:g} s")
        except BaseException:
            self.stop()
            raise
        return self

    def _launch(self, spec: Spec) -> None:
        """Start a keeper."""
        environment = {**os.environ, **{k: v for k, v in self._settings.items() if v is not None}}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(_PACKAGES), environment.get("PYTHONPATH")))
        )
        log: IO[bytes] | int = subprocess.DEVNULL if self._log is None else self._log.open("ab")
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", "-m", "bgserver.keeper"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                start_new_session=True,  # Ctrl-C reaches the application, which then ends the keeper
            )
        finally:
            if not isinstance(log, int):
                log.close()
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # killed meanwhile: its silence says so
            self._keeper.stdin.write(spec.to_json() + "\n")
            self._keeper.stdin.flush()

    def _listen(self) -> None:
        """Hear the keeper, and its successor when it was killed: until the server has ended."""
        deaths: list[float] = []
        while True:
            keeper = self._keeper
            assert keeper is not None
            assert keeper.stdout is not None
            for line in keeper.stdout:
                self._tell(json.loads(line))
            now = time.monotonic()
            deaths = [t for t in deaths if now - t < DEATHS_WINDOW_S] + [now]
            keeper.wait()
            if self._state in ("failed", "stopped"):
                return
            if self._ending:
                self._tell({"event": "stopped"})
                return
            if not self.facts or len(deaths) > MAX_KEEPER_DEATHS:
                self._tell({"event": "failed", "code": ServerDied.code, "message": "the keeper was killed"})
                return
            self._tell({"event": "restarting", "why": "the keeper was killed"})
            # Its first act is to end what the killed one left, so that the ports are free again.
            ports = {f"{name}_port": self.facts[name] for name in ("grpc", "http", "metrics")}
            with self._changed:
                if self._ending:
                    return
                self._launch(dataclasses.replace(self._spec, **ports))

    def _tell(self, event: dict[str, Any]) -> None:
        with self._changed:
            self._take(event)
            self._changed.notify_all()
        if self._on_event is not None:
            self._on_event(event)

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "stopped" and self._error is not None:
            return
        self._state = event["event"]
        if self._state == "ready":
            self.facts = event
        elif self._state == "restarting":
            self.restarts += 1
        elif self._state == "failed":
            self._error = from_message(f"{event['code']}: {event['message']}") or ServerError(
                event["message"]
            )

    @property
    def state(self) -> str:
        """ "new", "ready", "restarting", "failed" or "stopped"."""
        return self._state

    def _address(self, port: str) -> str:
        if not self.facts:
            raise RuntimeError("the server has no address before start()")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.facts["host"], self.facts["host"])
        return f"[{host}]:{self.facts[port]}" if ":" in host else f"{host}:{self.facts[port]}"

    @property
    def grpc_url(self) -> str:
        """host:port."""
        return self._address("grpc")

    @property
    def http_url(self) -> str:
        """http://host:port."""
        return f"http://{self._address('http')}"

    @property
    def metrics_url(self) -> str:
        """http://host:port/metrics."""
        return f"http://{self._address('metrics')}/metrics"

    @property
    def admin_headers(self) -> dict[str, str]:
        """What opens the administrative interfaces: headers of an HTTP request and of a gRPC call."""
        return canary.admin_headers(self.admin_key)

    def check(self, timeout_s: float = 5.0) -> None:
        """Send a test photo through. ``CanaryFailed`` tells the truth where Triton's own readiness lies."""
        canary.check(self.http_url, self._spec.models, timeout_s=timeout_s)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has ended; False when it still runs after ``timeout_s``.

        Raises:
            ServerError: it ended by itself, and why.
        """
        with self._changed:
            ended = self._changed.wait_for(lambda: self._state in ("failed", "stopped"), timeout_s)
        if self._error is not None:
            raise self._error
        return ended

    def stop(self) -> None:
        """Let it finish what it accepted, then end it; returns when nothing is left. May be repeated."""
        with self._changed:
            self._ending = True
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(self._spec.drain_s + 15)
        except subprocess.TimeoutExpired:
            self._keeper.kill()  # the kernel then ends the server, and the next start sweeps
            self._keeper.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
