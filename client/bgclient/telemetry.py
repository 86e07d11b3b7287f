"""Observe a call: an id that client and server log, spans for OpenTelemetry."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from bgclient.errors import BgError

Attribute = str | int | float | bool

_given: ContextVar[str | None] = ContextVar("bgclient.request_id", default=None)
_ID = re.compile(r"[!-~]{1,128}")


@contextmanager
def request_id(given: str) -> Iterator[None]:
    """Calls inside carry this id, in every try: the server's log says under it what became of them.

    >>> with request_id("order-17"):
    ...     cut("me.jpg").timings.request_id
    'order-17'

    Raises:
        ValueError: it is not 1 to 128 visible ASCII characters.
    """
    if not _ID.fullmatch(given):
        raise ValueError(f"request_id({given[:128]!r}): use 1 to 128 visible ASCII characters")
    before = _given.set(given)
    try:
        yield
    finally:
        _given.reset(before)


def id_of_this_call() -> str:
    """The id that ``request_id`` gave, else a new one."""
    return _given.get() or uuid.uuid4().hex


class Span:
    """Something that lasts; this one is recorded nowhere."""

    def set(self, **attributes: Attribute) -> None:
        """Say more about it."""


class Hooks:
    """Called for every call ("bgclient.cut") and every request in it ("bgclient.ask"). These do nothing."""

    def span(self, name: str, **attributes: Attribute) -> AbstractContextManager[Span]:
        """Around the work; an exception that passes belongs to it."""
        return nullcontext(Span())

    def headers(self) -> Mapping[str, str]:
        """To send with a request, so that the server's trace continues this one."""
        return {}


class _OpenTelemetrySpan(Span):
    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, **attributes: Attribute) -> None:
        self._span.set_attributes({f"bgclient.{name}": value for name, value in attributes.items()})


class OpenTelemetryHooks(Hooks):
    """Spans and the ``traceparent`` header through the OpenTelemetry API (extra ``otel``).

    ``Client(hooks=OpenTelemetryHooks())`` uses the global tracer provider; photos, paths and texts are never
    recorded.
    """

    def __init__(self, tracer_provider: Any = None) -> None:
        self._provider = tracer_provider

    @contextmanager
    def span(self, name: str, **attributes: Attribute) -> Iterator[Span]:
        """A client span; an error of ours gives it the status and ``error.type``."""
        from opentelemetry import trace

        tracer = trace.get_tracer("bgclient", tracer_provider=self._provider)
        with tracer.start_as_current_span(
            name,
            kind=trace.SpanKind.CLIENT,
            attributes={f"bgclient.{key}": value for key, value in attributes.items()},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield _OpenTelemetrySpan(span)
            except BaseException as error:
                span.set_attribute(
                    "error.type", error.code if isinstance(error, BgError) else type(error).__name__
                )
                span.set_status(trace.StatusCode.ERROR)
                raise

    def headers(self) -> Mapping[str, str]:
        """W3C trace context of the current span."""
        from opentelemetry import propagate

        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier
