"""The front's log in the form of the server's: one JSON object a line.

    {"time": "2026-11-22T19:05:56.123456Z", "level": "info", "source": "bgclient.web",
     "message": "POST /v1.0/removebg 200", "request_id": "order-17", "method": "POST", "route": "/v1.0/removebg",
     "status": 200, "ms": 412.3}

Routes are patterns, errors are codes with their sentences; neither photos nor keys, addresses or options are logged.
"""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any


class JsonFormatter(logging.Formatter):
    """Fields are what a record was given as ``extra={"fields": {...}}``; a traceback is one of them."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        said: dict[str, Any] = {
            "time": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": {"critical": "fatal"}.get(level := record.levelname.lower(), level),
            "source": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said)


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "bgclient.web.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        for name in ("uvicorn", "bgclient.web")
    },
}
"""For uvicorn's ``log_config``; its own access log is off, the app's has the request's id."""
