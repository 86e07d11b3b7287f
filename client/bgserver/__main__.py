"""``python -m bgserver install``: fetch the pip-installable tritonserver; ``serve``: run it; ``canary``: test one.

``bgclient serve`` has the comfortable form; this one needs nothing but this package, as a container's entry point does.
Every option of ``serve`` can come from the environment: ``--drain-s`` from BGSERVER_DRAIN_S, and so on.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from bgserver import Server, ServerError, Tls, canary, install
from bgserver.logs import JsonLog, of_event
from bgserver.server import VARIANTS


SETTINGS = (
    "VARIANT REPOSITORY HOST GRPC_PORT HTTP_PORT METRICS_PORT START_TIMEOUT_S CANARY_EVERY_S CANARY_TIMEOUT_S DRAIN_S "
    "TLS_CERT TLS_KEY TLS_CLIENTS ADMIN_KEY"
).split()
"""Names of the options after BGSERVER_."""


def _end(number: int, _: object) -> None:
    """The first signal ends the server in its own time, also while it starts; more of them change nothing."""
    for known in (signal.SIGTERM, signal.SIGINT):
        signal.signal(known, signal.SIG_IGN)
    sys.exit(0)


def _serve(arguments: argparse.Namespace) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    tls = None
    if arguments.tls_cert:
        tls = Tls(certificate=arguments.tls_cert, key=arguments.tls_key, clients=arguments.tls_clients)
    log = JsonLog()
    server = Server(
        arguments.variant,
        arguments.repository,
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
    serve = commands.add_parser("serve", help="serve until SIGTERM or Ctrl-C")

    serve.add_argument("----variant", default=choices=tuple(VARIANTS), help="default: what this machine has")
    serve.add_argument("----repository", default=type=Path, help="default: the models of this package")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--grpc-port", default=8001, type=int)
    serve.add_argument("--http-port", default=8000, type=int)
    serve.add_argument("--metrics-port", default=8002, type=int)
    serve.add_argument("--start-timeout-s", default=120.0, type=float, help="until the first photo has come back")
    serve.add_argument("--canary-every-s", default=5.0, type=float, help="between test photos while no real one comes back")
    serve.add_argument(
        "canary-timeout-s", 5.0, type=float, help="until a test photo without an answer means a stuck server"
    )
    serve.add_argument("--drain-s", default=10.0, type=float, help="that accepted requests get to finish at the end")
    serve.add_argument("----tls-cert", default=type=Path, help="PEM; gRPC only, HTTP stays plain")
    serve.add_argument("----tls-key", default=type=Path)
    serve.add_argument("----tls-clients", default=type=Path, help="authority whose clients are let in")
    serve.add_argument(
        "admin-key",
        "generate",
        help="closes the administrative interfaces; 'generate' makes one nobody knows",
    )
    return parser


def _from_environment() -> list[str]:
    """Options of ``serve`` that the environment gives, as if they were written first on the command line."""
    return [
        f"--{name.lower().replace('_', '-')}={os.environ[variable]}"
        for name in SETTINGS
        if os.environ.get(variable := f"BGSERVER_{name}")
    ]


def main() -> int:
    """Exit status 0, or 1 and one sentence on stderr."""
    parser = _parser()
    command, rest = sys.argv[1:2], sys.argv[2:]
    arguments = parser.parse_args([*command, *(_from_environment() if command == ["serve"] else []), *rest])
    if arguments.command == "serve" and bool(arguments.tls_cert) != bool(arguments.tls_key):
        parser.error("--tls-cert and --tls-key belong together")
    try:
        if arguments.command == "install":
            print(install().binary)
        elif arguments.command == "canary":
            canary.check(arguments.url, ("cutout",), timeout_s=arguments.timeout_s)
        else:
            _serve(arguments)
    except ServerError as error:
        print(error.message(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
