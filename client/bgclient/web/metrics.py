"""What the app counts, in Prometheus's text format."""

from __future__ import annotations

from functools import partial
from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One app's numbers. Labels are routes, statuses, codes and phases: never what a caller sent."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self._registry), partial(Gauge, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        self.requests = counter("bgclient_web_requests", "Requests answered", ["route", "method", "status"])
        self.seconds = histogram(
            "bgclient_web_request_seconds",
            "Seconds from a request's first byte to its answer's last",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self.in_flight = gauge("bgclient_web_requests_in_flight", "Requests being answered")
        self.waiting = gauge(
            "bgclient_web_requests_waiting", "Requests that wait at the gate for their turn to be cut"
        )
        self.wait_seconds = histogram(
            "bgclient_web_wait_seconds",
            "Seconds that a request waited at the gate, whether its turn came or not",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.refusals = counter(
            "bgclient_web_refusals", "Requests refused, by the error body's code", ["code"]
        )
        self.phases = histogram(
            "bgclient_web_cut_phase_seconds",
            "Seconds of a cut-out's phases that happen in the front: ask, and where it finishes itself the others",
            ["phase"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.upload_bytes = histogram(
            "bgclient_web_photo_bytes",
            "Size of the photos received",
            buckets=[2.0**n for n in range(12, 26)],
        )
        self.canary = gauge("bgclient_web_canary_up", "1 when the last canary came back through the server")
        build = Info("bgclient_web_build", "Version of this software", registry=self._registry)
        build.info({"version": metadata.version("bgclient")})

    def exposition(self) -> bytes:
        """Everything, as text."""
        return generate_latest(self._registry)
