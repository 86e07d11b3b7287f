"""What a tritonserver knows, by its version: the one place that says so.

NVIDIA's releases are months (26.11), the server's own version counts them (2.75).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from bgserver.installation import TRITON, Installation

Version = tuple[int, int]

HISTOGRAM_LATENCIES: Version = (2, 65)
"""The first version that has them: 26.01 (NVIDIA's server#8580)."""
MAX_INFLIGHT_REQUESTS: Version = (2, 73)
"""26.09 is the oldest whose configuration was looked at (NVIDIA's core#455)."""


def parsed(text: str) -> Version:
    """``2.75.0`` as (2, 75). ``ValueError`` where the text is not a version."""
    found = re.match(r"(\d+)\.(\d+)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a version of tritonserver; write 2.75")
    return int(found[1]), int(found[2])


OLDEST = parsed(TRITON.partition("==")[2])
"""The pip-installed one; what is not known to be newer is treated as this."""


def of(installation: Installation) -> Version:
    """The version of a tritonserver; NVIDIA's container says it in its environment and in a file."""
    if installation.wheel is not None:
        return OLDEST
    file = installation.binary.parent.parent / "TRITON_VERSION"
    said = os.environ.get("TRITON_SERVER_VERSION") or (file.read_text() if file.is_file() else "")
    try:
        return parsed(said)
    except ValueError:
        return OLDEST


def arguments(version: Version, *, trace_url: str | None = None) -> Iterator[str]:
    """Of the command line, for what this version knows: latency histograms, and spans to an OpenTelemetry collector.

    Args:
        version: of the server.
        trace_url: the collector's address for OTLP over HTTP, ``http://host:4318/v1/traces``; None: no traces.
    """
    if version >= HISTOGRAM_LATENCIES:
        yield "--metrics-config=histogram_latencies=true"
    if trace_url:
        yield "--trace-config=mode=opentelemetry"
        yield f"--trace-config=opentelemetry,url={trace_url}"
        yield "--trace-config=opentelemetry,resource=service.name=tritonserver"
        yield "--trace-config=level=TIMESTAMPS"
        yield "--trace-config=rate=1"
