"""The process that owns a tritonserver: starts it, watches it, restarts it, ends it and cleans up after it.

    application ── pipe ── keeper ── tritonserver ── one process for each Python model

Why a process of its own: it outlives the application by the seconds that a clean end takes, however the
application ends. The pipe to the application closes (a crash, ``kill -9``), or the parent changes (a fork
kept the pipe open), and the keeper drains the server, kills what is left and removes folder and shared
memory. Should the keeper itself be killed, the kernel ends the server (PR_SET_PDEATHSIG), and the application starts
another keeper, whose first act is to end and remove what is left. So does the next start of any server.

It reads one line of JSON from stdin (``Settings``) and writes one line of JSON an event to stdout; the server's
log goes to stderr. SIGTERM, SIGINT or the end of stdin stop it.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import json
import os
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bgserver import canary, sockets, versions
from bgserver.errors import (
    CanaryFailed,
    EngineMissing,
    ModelRefused,
    NetworkMissing,
    NoAnswer,
    PortBusy,
    ServerDied,
    ServerError,
    SharedMemoryTooSmall,
    StartTimeout,
    TooFewOpenFiles,
    WrongPython,
)
from bgserver.installation import Installation, find_tritonserver
from bgserver.rundir import RunDir, complete, served, sweep_environments
from bgserver.settings import Settings

TICK_S = 0.25
"""How often the models' processes are looked at, seconds."""

MAX_RESTARTS = 3
"""Restarts within ``RESTART_WINDOW_S`` that come at once; a pause before each that follows, twice as long each time."""

MAX_PAUSE_S = 30.0

MAX_FAILED_STARTS = 3
"""In a row, of a server that worked before, until the keeper gives up. A tritonserver that crashed is not counted: that
can be a caller's doing."""

RESTART_WINDOW_S = 60.0

REAPED_S = 5.0
"""A model's process that ended in good order (auto-completion has its own) is reaped by Triton within this."""

MAX_UNANSWERED = 2
"""Canaries in a row without an answer, and without a sign of work, until the server counts as stuck."""

BUSY_SHARE = 0.02
"""Of one core: models that compute more than this while the canary waits are at work."""

HURRIED_DRAIN_S = 2.0
"""For a server with a dead or stuck model: such a one never drains, and healthy requests are done by then."""

QUIET_S = 0.2
"""Without a byte on its way to a client, until an idle server is killed. Triton's own end takes three seconds, in which
it unloads its models, and its whole timeout while an HTTP connection is kept alive."""

MIN_OPEN_FILES = 128
"""A server with our models holds about 70 at rest; each connection takes one more."""

MAX_OPEN_FILES = 65_536
"""As many are asked for at most; some systems allow a thousand million, and programs have counted through them."""

ADMIN_INTERFACES = "model-repository,shared-memory,statistics,trace,logging"
"""Closed by ``admin_key``; photos, metadata, health, and the configurations with the contract that clients read stay
open."""


def tell(event: str, **facts: object) -> None:
    """One line of JSON to the application; its pipe may be closed."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"event": event, **facts}), flush=True)


class Ports:
    """Addresses that stay ours from before the server's start until after its end.

    A socket is bound with SO_REUSEPORT and never listens; the server shares it. So a
    free port that was found stays free until the server is there, and a restart gets the same one. (Triton
    cannot share its metrics port: that one is only tried.)
    """

    def __init__(self, settings: Settings) -> None:
        self.host = settings.host
        self._held: list[socket.socket] = []
        self.grpc = self._hold("grpc", settings.grpc_port)
        self.http = self._hold("http", settings.http_port)
        self.metrics = self._try("metrics", settings.metrics_port)

    def _bind(self, what: str, port: int, option: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            bound.bind((self.host, port))
        except OSError as error:
            bound.close()
            raise PortBusy(
                f"{what} port {port} on {self.host} cannot be used ({os.strerror(error.errno or 0).lower()}); "
                "stop the program that listens there, or choose another (0: any free one)"
            ) from error
        return bound

    def _try(self, what: str, port: int) -> int:
        with self._bind(what, port, socket.SO_REUSEADDR) as bound:
            return int(bound.getsockname()[1])

    def _hold(self, what: str, port: int) -> int:
        port = self._try(what, port)  # alone first: two that share a port would share the requests
        self._held.append(self._bind(what, port, socket.SO_REUSEPORT))
        return port

    @property
    def http_url(self) -> str:
        """For the canary; a server that listens everywhere is asked on loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.http}"

    def close(self) -> None:
        """Give the ports back."""
        for held in self._held:
            held.close()


_CAUSES: tuple[tuple[str, type[ServerError], str], ...] = (
    (r"error while loading shared libraries: (.+)", WrongPython, "{0}"),
    (r"(EngineMissing|engine_missing): ([^\n\"]+?)(?:\\n|\n|$)", EngineMissing, "{1}"),
    (
        r"Failed to (?:increase the|initialize) shared memory[^\n]*",
        SharedMemoryTooSmall,
        "/dev/shm is full; give the container more (--shm-size=1g, or an emptyDir with medium: Memory)",
    ),
    (r"(?:failed to start|Unable to start|failed to bind|Address already in use)[^\n]*", PortBusy, "{0}"),
    (
        r"at least one version must be available under the version policy of model '([^']+)'",
        NetworkMissing,
        "model {0} has no version to serve; its folder needs a numbered folder with the network in it",
    ),
    (r"TritonModelException: (.+?)(?:\\n|\n|$)", ModelRefused, "{0}"),
    (r"Stub process '([^']+)' is not healthy", ServerDied, "the process of model {0} died while it started"),
)

_REFUSALS = (
    r"failed to load '[^']+' version \d+: (?:[A-Z][a-z ]+: )?(.+?)\"\n",
    r"Poll failed for model directory '[^']+': (.+?)\"\n",
    r"creating server: (?:[A-Z][a-z ]+ - )?(.+)",
)
"""A model's own failure, a configuration's, and the server's."""


def cause(log: str, default: str) -> ServerError:
    """The one sentence in a server's log that says why it did not start."""
    for pattern, kind, sentence in _CAUSES:
        found = re.search(pattern, log)
        if found:
            groups = found.groups() if found.re.groups else (found[0],)
            return kind(sentence.format(*(g or found[0] for g in groups)).strip())
    # With every model of a folder loaded at once, the server's last words only say that one failed.
    for pattern in _REFUSALS:
        if refused := re.search(pattern, log, re.DOTALL):
            return ModelRefused(" ".join(refused[1].replace("\\n", " ").split())[:600])
    return ServerDied(default)


class Triton:
    """One life of one tritonserver."""

    def __init__(self, settings: Settings, run: RunDir, ports: Ports) -> None:
        self._settings, self._run, self._ports = settings, run, ports
        self._began = time.time()
        self._exit_s = max(1, round(settings.drain_s))
        self._first_look = f"Timeout {self._exit_s}: Found 0 model versions that have in-flight"
        self._idle = threading.Event()
        """Set when Triton, told to end, has said that nothing was in flight."""
        self._holds = threading.Event()
        """Set when it has said that HTTP connections are what it waits for."""
        installation = find_tritonserver()
        self._log: collections.deque[str] = collections.deque(maxlen=400)
        # Single-threaded here, apart from readers of other lives: safe to run one prctl between fork and
        # exec.
        libc = ctypes.CDLL(None, use_errno=True)

        def before() -> None:
            libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # photos would be in it

        self.process = subprocess.Popen(
            [str(installation.binary), *self._arguments(installation)],
            cwd=run.path / "work",
            env=run.environment() | settings.of_the_models(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            umask=0o077,
            preexec_fn=before,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.stubs: set[int] = set()
        self.crashed = False
        """``dead`` found that a signal had ended tritonserver."""

    def _arguments(self, installation: Installation) -> Iterator[str]:
        settings, ports, prefix = self._settings, self._ports, self._run.shared_memory_prefix
        yield f"--model-repository={self._run.path / 'models'}"
        yield "--model-control-mode=none"  # load everything once; no model is loaded or changed later
        yield f"--model-config-name={settings.configuration}"
        if installation.wheel is not None:
            yield f"--backend-directory={self._run.path / 'backends'}"
            yield f"--cache-directory={self._run.path / 'caches'}"
        yield f"--backend-config=python,shm-region-prefix-name={prefix}"
        if complete(list((self._run.path / "models").iterdir()), settings.configuration):
            yield "--disable-auto-complete-config"
        yield f"--exit-timeout-secs={self._exit_s}"
        for name, port in (("grpc", ports.grpc), ("http", ports.http), ("metrics", ports.metrics)):
            yield f"--{name}-address={settings.host}"
            yield f"--{name}-port={port}"
        yield "--reuse-grpc-port=true"
        yield "--reuse-http-port=true"
        yield f"--http-restricted-api={ADMIN_INTERFACES}:{canary.ADMIN_HEADER}={settings.admin_key}"
        yield f"--grpc-restricted-protocol={ADMIN_INTERFACES}:{canary.ADMIN_HEADER}={settings.admin_key}"
        yield from versions.arguments(versions.of(installation), trace_url=settings.trace_url)
        yield from settings.tls_arguments()
        yield from settings.extra_args

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._log.append(line)
            if self._first_look in line:
                self._idle.set()
            if "HTTP service connections" in line:
                self._holds.set()
            with contextlib.suppress(BrokenPipeError):
                sys.stderr.write(line)
                sys.stderr.flush()

    def log(self) -> str:
        """The last lines that the server and its models said."""
        return "".join(self._log)

    def engines(self) -> list[str]:
        """What runs the networks and why, as the Python-based backends said; [] with C++ ones."""
        return re.findall(r"\] \"?\w+_\d+_\d+: ((?:ONNX Runtime|OpenVINO) [^\"\n]+)", self.log())

    def children(self) -> dict[int, str]:
        """Process ids of the models and their states in the kernel's letters (Z: dead, T: stopped)."""
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        stats = {pid: stat for pid in pids if (stat := _stat(pid))}
        return {
            pid: state
            for pid, (name, state, parent, *_) in stats.items()
            if int(parent) == self.process.pid and name.startswith("triton_python")
        }

    def state(self, stub: int) -> str:
        """One model's process state; "" when it is gone."""
        return stat[1] if (stat := _stat(stub)) else ""

    def models_cpu_s(self) -> float:
        """Processor time that the models' processes have used, seconds."""
        stats = filter(None, map(_stat, self.stubs))
        return sum(int(stat[12]) + int(stat[13]) for stat in stats) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def _unnamed_regions(self) -> set[Path]:
        """Shared memory that Triton made under its own default name: it does so when a model has died."""
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{self.process.pid}/maps").read_text()
            return {Path(p) for p in re.findall(r"/dev/shm/triton_python_backend_shm_region_[\w-]+", maps)}
        return set()

    def hide_shared_memory(self) -> None:
        """While it starts: see ``RunDir``."""
        self._run.hide_shared_memory()

    def dead(self) -> str | None:
        """What has died, in words; None while everything lives."""
        if self.process.poll() is not None:
            self.crashed = self.process.returncode < 0
            return f"tritonserver ended with status {self.process.returncode}"
        gone = [stub for stub in self.stubs if self.state(stub) in ("", "Z", "X")]
        return f"a model's process died (pid {gone[0]})" if gone else None

    def _wait_for_end(self, drain_s: float) -> None:
        """After SIGTERM: until it has ended, or nothing was in flight and every answer has been sent."""
        finalized = (path.read_text(errors="replace") for path in self._run.path.glob("models/*/*/model.py"))
        # Spans are sent at the end, and another project's model may have a finalizer.
        whole = bool(self._settings.trace_url) or any("def finalize" in text for text in finalized)
        until, quiet_since = time.monotonic() + drain_s, None
        while self.process.poll() is None and (now := time.monotonic()) < until:
            idle = not whole and (self._idle.is_set() or self._held_by_idle_clients())
            idle = idle and not sockets.unsent({self._ports.grpc, self._ports.http})
            quiet_since = (quiet_since or now) if idle else None
            if quiet_since and now - quiet_since > QUIET_S:
                return
            time.sleep(0.02)

    def _held_by_idle_clients(self) -> bool:
        """Every HTTP connection was answered and is only kept alive. For a gRPC connection this is unknown."""
        try:
            return (
                self._holds.is_set()
                and all(sockets.answered(self._ports.http))
                and not sockets.answered(self._ports.grpc)
            )
        except OSError:
            return False

    def end(self, drain_s: float) -> None:
        """SIGTERM, time to finish what was accepted, SIGKILL for the rest; then nothing of it remains."""
        unnamed = self._unnamed_regions()
        if self.process.poll() is None:
            self._idle.clear()  # whatever was in the log before
            self._holds.clear()
            self.process.terminate()
            self._wait_for_end(drain_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _reap()
        sweep_environments(self._began)
        self._reader.join(2.0)
        self._run.sweep_shared_memory()
        for region in unnamed:
            region.unlink(missing_ok=True)


def _stat(pid: int) -> tuple[str, ...]:
    """Name, state, parent and the other fields of /proc/PID/stat; () when the process is gone."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return ()
    return (name, *rest.split())


def _reap() -> None:
    """Take the exit status of the models whose server has ended: they come to this process and would stay zombies."""
    deadline = time.monotonic() + 2.0
    with contextlib.suppress(ChildProcessError):  # none left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.02)


class Keeper:
    """The loop: start, tell, watch, restart, end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parent = os.getppid()
        self._stop = False
        self._signal: str | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        self._wake, wake = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._restarts: list[float] = []
        self._failed_starts = 0

    def _on_signal(self, number: int, _: object) -> None:
        self._stop, self._signal = True, signal.Signals(number).name

    def _stopping(self, wait_s: float) -> bool:
        """Wait; True once the server should end."""
        for key, _ in self._selector.select(wait_s):
            if key.fileobj is sys.stdin and not os.read(key.fd, 4096):
                self._stop = True
        return self._stop or os.getppid() != self._parent

    def run(self) -> int:
        """0 after a stop was requested. Where the server cannot be kept up: 1, and a last event that says why."""
        try:
            models = served(self._settings.repository, self._settings.models, self._settings.configuration)
            run = RunDir.create(find_tritonserver(), models)
        except ServerError as error:
            return self.give_up(error)
        try:
            ports = Ports(self._settings)
            try:
                return self._lives(run, ports)
            finally:
                ports.close()
        except ServerError as error:
            return self.give_up(error)
        finally:
            run.remove()
            tell("stopped", signal=self._signal)

    @staticmethod
    def give_up(error: ServerError) -> int:
        """Say why there will be no server; the exit status."""
        tell("failed", code=error.code, message=str(error))
        return 1

    def _lives(self, run: RunDir, ports: Ports) -> int:
        pause_s = 0.0
        while True:
            until = time.monotonic() + pause_s
            while (left_s := until - time.monotonic()) > 0:
                if self._stopping(left_s):
                    return 0
            began = time.monotonic()
            triton = Triton(self._settings, run, ports)
            drain_s = HURRIED_DRAIN_S
            try:
                try:
                    if self._until_ready(triton, ports):
                        return 0
                except ServerError as error:
                    if not self._restarts or not error.retryable:  # it has never worked, or never will again
                        raise
                    if isinstance(error, CanaryFailed):  # not checked yet whether it is still there
                        triton.dead()
                    self._failed_starts += not triton.crashed
                    if self._failed_starts > MAX_FAILED_STARTS:
                        raise
                    pause_s = self._restart(f"started again, but {error}")
                    continue
                self._failed_starts = 0
                tell(
                    "ready",
                    host=ports.host,
                    grpc=ports.grpc,
                    http=ports.http,
                    metrics=ports.metrics,
                    pid=triton.process.pid,
                    engines=triton.engines(),
                    seconds=round(time.monotonic() - began, 2),
                )
                why = self._watch(triton, ports)
                if why is None:
                    drain_s = self._settings.drain_s + 1
                    return 0
                pause_s = self._restart(why)
            finally:
                triton.end(drain_s)

    def _restart(self, why: str) -> float:
        """Say so; seconds to wait first. Who can kill the server again and again must not get it ended for good."""
        now = time.monotonic()
        self._restarts = [t for t in self._restarts if now - t < RESTART_WINDOW_S] + [now]
        extra = len(self._restarts) - MAX_RESTARTS
        pause_s = min(2.0 ** (extra - 1), MAX_PAUSE_S) if extra > 0 else 0.0
        tell("restarting", why=why, pause_s=pause_s)
        return pause_s

    def _until_ready(self, triton: Triton, ports: Ports) -> bool:
        """False once the canary came back; True when asked to stop meanwhile."""
        deadline = time.monotonic() + self._settings.start_timeout_s
        dead_since: float | None = None
        while not self._stopping(TICK_S / 2):
            now = time.monotonic()
            triton.hide_shared_memory()
            # Triton notices a model's process that died while it started only after 30 s.
            died = "Z" in triton.children().values()
            dead_since = (dead_since or now) if died else None
            broken = triton.dead()
            if dead_since and now - dead_since > REAPED_S:
                broken = "a model's process died while it started"
            if broken:
                triton.end(HURRIED_DRAIN_S)
                raise cause(triton.log(), broken)
            if now > deadline:
                raise StartTimeout(
                    f"not ready after {self._settings.start_timeout_s:g} s; its last words: {triton.log()[-300:]}"
                )
            if _says_ready(ports.http_url):
                triton.hide_shared_memory()
                # The first photo warms everything up, on a machine that may be busy starting other things.
                slow_s = max(30.0, self._settings.canary_timeout_s)
                canary.check(ports.http_url, self._settings.models, timeout_s=slow_s)
                triton.stubs = {p for p, state in triton.children().items() if state != "Z"}
                return False
        return True

    def _watch(self, triton: Triton, ports: Ports) -> str | None:
        """Why the server must be restarted; None when asked to stop."""
        probe = Probe(self._settings, ports, triton)
        stopped_since: float | None = None
        while not self._stopping(TICK_S):
            why = triton.dead() or probe.verdict()
            if why:
                return why
            # A stopped process (SIGSTOP, a debugger) takes a request and keeps it.
            stopped = any(triton.state(stub) in ("T", "t") for stub in triton.stubs)
            stopped_since = (stopped_since or time.monotonic()) if stopped else None
            if stopped_since and time.monotonic() - stopped_since > self._settings.canary_timeout_s:
                return f"a model's process has been stopped for {self._settings.canary_timeout_s:g} s"
        return None


def _says_ready(url: str) -> bool:
    try:
        return canary.request(url, "GET", "/v2/health/ready", timeout_s=1.0)[0] == 200
    except CanaryFailed:
        return False


class Probe:
    """The canary while serving, in a thread: real requests that come back make it unnecessary."""

    def __init__(self, settings: Settings, ports: Ports, triton: Triton) -> None:
        self._settings, self._url, self._triton = settings, ports.http_url, triton
        self._headers = canary.admin_headers(settings.admin_key)
        self._next = time.monotonic() + settings.canary_every_s
        self._thread: threading.Thread | None = None
        self._why: str | None = None
        self._unanswered = 0
        self._last = self._counted(0)

    def verdict(self) -> str | None:
        """Why the server is ill; None while it is well, or not asked yet."""
        if self._settings.canary_every_s > 0 and self._thread is None and time.monotonic() >= self._next:
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()
        if self._thread and not self._thread.is_alive():
            self._thread = None
            self._next = time.monotonic() + (0 if self._unanswered else self._settings.canary_every_s)
        return self._why

    def _served(self) -> int:
        return canary.served(self._url, self._settings.models, self._headers)

    def _ask(self) -> None:
        before, began, worked_s = self._last, time.monotonic(), self._triton.models_cpu_s()
        try:
            now = self._served()
            if now == before:
                canary.check(self._url, self._settings.models[:1], timeout_s=self._settings.canary_timeout_s)
                now = self._served()
            self._last, self._unanswered = now, 0
        except NoAnswer as error:
            # A full queue or a starved machine lets the canary wait. What is answered or computed meanwhile
            # tells a busy server from a stuck one. (A model that computes without end ends itself, and is
            # noticed as dead.)
            self._last = self._counted(before)
            share = (self._triton.models_cpu_s() - worked_s) / (time.monotonic() - began)
            busy = self._last > before or share > BUSY_SHARE
            self._unanswered = 0 if busy else self._unanswered + 1
            self._why = str(error) if self._unanswered >= MAX_UNANSWERED else None
        except CanaryFailed as error:
            self._why = str(error)

    def _counted(self, otherwise: int) -> int:
        try:
            return self._served()
        except CanaryFailed:
            return otherwise


def main() -> int:
    """``python -m bgserver.keeper``, started by ``bgserver.Server``."""
    pr_set_child_subreaper = 36  # models whose server was killed come to us
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)
    try:
        _allow_open_files()
        settings = Settings.from_json(sys.stdin.readline())
    except ServerError as error:  # the models can have gone since the application looked
        return Keeper.give_up(error)
    return Keeper(settings).run()


def _allow_open_files() -> None:
    """Raise the soft limit of open files to the hard one. Without a descriptor Triton says that a port is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
    if enough < MIN_OPEN_FILES:
        raise TooFewOpenFiles(
            f"{enough} open files allowed, {MIN_OPEN_FILES} needed; raise the limit (ulimit -Hn, LimitNOFILE= of "
            "systemd, --ulimit nofile= of a container)"
        )


if __name__ == "__main__":
    sys.exit(main())
