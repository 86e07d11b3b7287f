"""A tritonserver as a Python object: started, watched, restarted and ended by a keeper process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bgimage.errors import BgError, from_message
from bgserver import canary
from bgserver.errors import EngineMissing, ServerDied, ServerError, StartTimeout
from bgserver.installation import find_tritonserver
from bgserver.settings import Settings

_PACKAGES = Path(__file__).resolve().parent.parent

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
        settings: Settings | None = None,
        *,
        log: Path | str | None = None,
        on_event: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Say what to serve; nothing starts yet.

        Args:
            settings: None: the models of this package, on loopback, at any free ports.
            log: file for the server's log; None: nowhere (its end is kept for error messages).
            on_event: called in a thread with each of the keeper's events: ready, restarting, failed, stopped.
        """
        self.settings = settings or Settings()
        self.restarts = 0
        """How often the keeper has restarted the server."""
        self.facts: dict[str, Any] = {}
        """What the keeper said when the server was last ready: host, ports, pid, engines, seconds it took."""
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
        if self.settings.engine and found.wheel is None:
            raise EngineMissing(
                f"engine {self.settings.engine} was asked for, and the system's tritonserver "
                "runs networks in backends of its own; leave engine out"
            )
        if self.settings.variant == "trt" and found.wheel is not None:
            raise EngineMissing(
                "variant trt needs the TensorRT backend of NVIDIA's tritonserver image, which the pip-installed server "
                "lacks; use that image, or variant onnx-gpu"
            )
        self._launch(self.settings)
        threading.Thread(target=self._listen, daemon=True, name="bgserver-events").start()
        try:
            with self._changed:
                in_time = self._changed.wait_for(
                    lambda: self._state != "new", self.settings.start_timeout_s + 60
                )
            if self._error is not None:
                raise self._error
            if not in_time or self._state != "ready":
                raise StartTimeout(f"the keeper said nothing for {self.settings.start_timeout_s + 60:g} s")
        except BaseException:
            self.stop()
            raise
        return self

    def _launch(self, settings: Settings) -> None:
        """Start a keeper."""
        path = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
        log: IO[bytes] | int = subprocess.DEVNULL if self._log is None else self._log.open("ab")
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", "-m", "bgserver.keeper"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                text=True,
                start_new_session=True,  # Ctrl-C reaches the application, which then ends the keeper
            )
        finally:
            if not isinstance(log, int):
                log.close()
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # killed meanwhile: its silence says so
            self._keeper.stdin.write(settings.to_json() + "\n")
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
                self._launch(dataclasses.replace(self.settings, **ports))

    def _tell(self, event: dict[str, Any]) -> None:
        with self._changed:
            self._take(event)
            self._changed.notify_all()
        if self._on_event is not None:
            self._on_event(event)

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "stopped" and self._error is not None:
            return
        if event["event"] == "stopped" and not self._ending:
            why = f"its keeper was ended from outside ({event.get('signal') or 'without a signal'}), and so the server"
            event = {"event": "failed", "code": ServerDied.code, "message": why}
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
        return canary.admin_headers(self.settings.admin_key)

    def check(self, timeout_s: float = 5.0) -> None:
        """Send a test photo through. ``CanaryFailed`` tells the truth where Triton's own readiness lies."""
        canary.check(self.http_url, self.settings.models, timeout_s=timeout_s)

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
            self._keeper.wait(self.settings.drain_s + 15)
        except subprocess.TimeoutExpired:
            self._keeper.kill()  # the kernel then ends the server, and the next start sweeps
            self._keeper.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
