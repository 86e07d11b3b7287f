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
from typing import Any

from bgserver import Server, ServerError, Tls, canary, install
from bgserver.logs import JsonLog, of_event
from bgserver.server import VARIANTS


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

    def option(name: str, default: Any, **more: Any) -> None:
        given = os.environ.get("BGSERVER_" + name.upper().replace("-", "_"))
        serve.add_argument(f"--{name}", default=given or default, **more)

    option("variant", None, choices=tuple(VARIANTS), help="default: what this machine has")
    option("repository", None, type=Path, help="default: the models of this package")
    option("host", "127.0.0.1")
    option("grpc-port", 8001, type=int)
    option("http-port", 8000, type=int)
    option("metrics-port", 8002, type=int)
    option("start-timeout-s", 120.0, type=float, help="until the first photo has come back")
    option("canary-every-s", 5.0, type=float, help="between test photos while no real one comes back")
    option(
        "canary-timeout-s", 5.0, type=float, help="until a test photo without an answer means a stuck server"
    )
    option("drain-s", 10.0, type=float, help="that accepted requests get to finish at the end")
    option("tls-cert", None, type=Path, help="PEM; gRPC only, HTTP stays plain")
    option("tls-key", None, type=Path)
    option("tls-clients", None, type=Path, help="authority whose clients are let in")
    option(
        "admin-key",
        "generate",
        help="closes the administrative interfaces; 'generate' makes one nobody knows",
    )
    return parser


def main() -> int:
    """Exit status 0, or 1 and one sentence on stderr."""
    parser = _parser()
    arguments = parser.parse_args()
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
