"""One line of JSON for everything a server says: the keeper's events and tritonserver's own log.

    {"time": "2026-11-22T19:05:56.123456Z", "level": "info", "source": "server.cc:676", "message": "..."}
    {"time": "2026-11-22T19:05:57.000001Z", "level": "info", "event": "ready", "http": 8000, ...}
    {"time": "2026-11-22T19:06:03.200000Z", "level": "info", "source": "serving.py:89",
     "model": "bgclient_preprocess", "request_id": "order-17", "outcome": "ok", "ms": 11.6}

What a model says as a JSON object becomes fields of the line. Lines that are not tritonserver's (a Python traceback,
the dynamic loader) keep the level "error" and have no source.
Neither photos nor options are ever logged by this project's models.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any, TypeVar

T = TypeVar("T")

LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "fatal", "V": "debug"}
_GLOG = re.compile(r"([IWEFV])(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d+) \d+ ([\w.]+:\d+)\] (.*)", re.DOTALL)
_EVENT_LEVELS = {"restarting": "warning", "failed": "fatal"}


def now() -> str:
    """UTC, RFC 3339, with microseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


def of_line(line: str) -> dict[str, Any]:
    """The fields of one line of tritonserver's log; its time has no year, so that of this machine's clock is taken."""
    found = _GLOG.match(line.strip())
    if not found:
        return {"time": now(), "level": "error", "message": line.rstrip()}
    level, month, day, time, source, message = found.groups()
    year = datetime.datetime.now(datetime.UTC).year
    said = _parsed(message, str, message)  # newer servers write their messages as JSON strings
    return {
        **_parsed(said, dict, {"message": said}),
        "time": f"{year}-{month}-{day}T{time}Z",
        "level": LEVELS[level],
        "source": source,
    }


def _parsed(text: str, kind: type[T], otherwise: T) -> T:
    """``text`` as JSON where it is a ``kind``."""
    try:
        value = json.loads(text)
    except ValueError:
        return otherwise
    return value if isinstance(value, kind) else otherwise


def of_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one of the keeper's events."""
    return {"time": now(), "level": _EVENT_LEVELS.get(event["event"], "info"), **event}


class JsonLog:
    """Where a ``Server`` can write its log (``path``) so that it leaves this process as JSON lines on ``out``."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._lock = threading.Lock()
        read, self._write = os.pipe()
        self.path = f"/dev/fd/{self._write}"
        self._thread = threading.Thread(
            target=self._translate, args=(read,), daemon=True, name="bgserver-log"
        )
        self._thread.start()

    def say(self, fields: Mapping[str, Any]) -> None:
        """Write one line. Safe from any thread."""
        with self._lock:
            print(json.dumps(fields), file=self._out, flush=True)

    def _translate(self, read: int) -> None:
        with open(read, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.strip():
                    self.say(of_line(line))

    def close(self) -> None:
        """Write what is still on its way; returns when every writer has ended."""
        os.close(self._write)
        self._thread.join(5.0)
