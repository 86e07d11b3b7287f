"""``python -m bgserver install``: fetch the pip-installable tritonserver; ``serve``: run it; ``canary``: test one;
``models`` and ``backends``: where the models are, and what they run in, for a Triton of your own.

``bgclient serve`` has the comfortable form; this one needs nothing but this package, as a container's entry point does.
Every option of ``serve`` can come from the environment: ``--drain-s`` from BGSERVER_DRAIN_S, and so on.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from bgserver import Server, ServerError, Tls, canary, find_tritonserver, install
from bgserver.installation import lay_out_backends
from bgserver.logs import JsonLog, of_event
from bgserver.repository import model_repository
from bgserver.server import VARIANTS

SETTINGS = (
    *("variant", "repository", "engine", "threads", "host", "grpc-port", "http-port", "metrics-port"),
    *("start-timeout-s", "canary-every-s", "canary-timeout-s", "drain-s"),
    *("tls-cert", "tls-key", "tls-clients", "admin-key", "trace-url"),
)
"""Options of ``serve`` that the environment may give."""


def _end(number: int, _: object) -> None:
    """The first signal ends the server in its own time, also while it starts; more of them change nothing."""
    for known in (signal.SIGTERM, signal.SIGINT):
        signal.signal(known, signal.SIG_IGN)
    sys.exit(0)


def _serve(arguments: argparse.Namespace, tls: Tls | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    log = JsonLog()
    server = Server(
        arguments.variant,
        arguments.repository,
        engine=arguments.engine,
        threads=arguments.threads,
        host=arguments.host,
        grpc_port=arguments.grpc_port,
        http_port=arguments.http_port,
        metrics_port=arguments.metrics_port,
        start_timeout_s=arguments.start_timeout_s,
        canary_every_s=arguments.canary_every_s,
        canary_timeout_s=arguments.canary_timeout_s,
        drain_s=arguments.drain_s,
        tls=tls,
        admin_key=arguments.admin_key,
        trace_url=arguments.trace_url,
        log=log.path,
        on_event=lambda event: log.say(of_event(event)),
    )
    try:
        with server:
            print(f"{server.grpc_url} {server.http_url} {server.metrics_url}", flush=True)
            server.wait()
    finally:
        log.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bgserver", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install the pip-installable tritonserver into this environment")
    probe = commands.add_parser(
        "canary", help="exit status 0 when a test photo comes back: the probe for containers"
    )
    probe.add_argument(
        "url", nargs="?", default=f"http://127.0.0.1:{os.environ.get('BGSERVER_HTTP_PORT', 8000)}"
    )
    probe.add_argument("--timeout-s", type=float, default=20.0, help="long: a busy server is not a dead one")
    commands.add_parser(
        "models",
        help="print the folder of the models; for a Triton of your own: tritonserver --model-repository=FOLDER, "
        "with this package installed in the Python of its models",
    )
    backends = commands.add_parser(
        "backends",
        help="make FOLDER the --backend-directory of the pip-installed tritonserver, which runs in this environment",
    )
    backends.add_argument("folder", type=Path)
    serve = commands.add_parser("serve", help="serve until SIGTERM or Ctrl-C")
    add = serve.add_argument
    add("--variant", choices=tuple(VARIANTS), help="default: what this machine has")
    add("--repository", type=Path, help="default: the models of this package")
    add(
        "--engine",
        help="auto, onnxruntime, openvino, openvino-bf16 or cuda; default: as the configuration says",
    )
    add("--threads", type=int, help="of the network on a CPU; default: one a core")
    add("--host", default="127.0.0.1")
    add("--grpc-port", type=int, default=8001)
    add("--http-port", type=int, default=8000)
    add("--metrics-port", type=int, default=8002)
    add("--start-timeout-s", type=float, default=120.0, help="until the first photo has come back")
    add("--canary-every-s", type=float, default=5.0, help="between test photos while no real one comes back")
    add(
        "--canary-timeout-s",
        type=float,
        default=5.0,
        help="without an answer, until the server counts as stuck",
    )
    add("--drain-s", type=float, default=10.0, help="that accepted requests get to finish at the end")
    add("--tls-cert", type=Path, help="PEM; gRPC only, HTTP stays plain")
    add("--tls-key", type=Path)
    add("--tls-clients", type=Path, help="PEM of the authority whose clients are let in")
    add("--admin-key", help="opens the administrative interfaces; default: one nobody knows")
    add("--trace-url", help="OpenTelemetry collector, OTLP over HTTP: http://host:4318/v1/traces")
    return parser


def _from_environment() -> list[str]:
    """Options of ``serve`` that the environment gives, as if they were written first on the command line."""
    given = {name: os.environ.get(f"BGSERVER_{name.upper().replace('-', '_')}") for name in SETTINGS}
    return [f"--{name}={value}" for name, value in given.items() if value]


def main() -> int:
    """Exit status 0, or 1 and one sentence on stderr."""
    parser = _parser()
    command, rest = sys.argv[1:2], sys.argv[2:]
    arguments = parser.parse_args([*command, *(_from_environment() if command == ["serve"] else []), *rest])
    try:
        if arguments.command == "install":
            print(install().binary)
        elif arguments.command == "backends":
            lay_out_backends(find_tritonserver(), arguments.folder)
            print(arguments.folder)
        elif arguments.command == "models":
            print(model_repository())
        elif arguments.command == "canary":
            canary.check(arguments.url, ("cutout",), timeout_s=arguments.timeout_s)
        else:
            try:
                tls = Tls.of(arguments.tls_cert, arguments.tls_key, arguments.tls_clients)
            except ValueError as error:
                parser.error(str(error))
            _serve(arguments, tls)
    except ServerError as error:
        print(error.message(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
