"""Traces: spans that go to an OpenTelemetry collector, and the trace's id, which goes wherever the work goes.

On where OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) names a collector; the SDK reads its other OTEL_… variables
itself. Off, the SDK is not even imported, and a span costs a function call. A trace that a client began is carried on
either way: into NATS headers, into log lines, and so to the end of the order.

Spans never record an exception's text: ours may quote what a client sent.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from halfdrop.runtime.semantics import ERROR_TYPE

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
TRACERESPONSE = "traceresponse"
"""The answer's counterpart of `traceparent` (W3C, Trace Context HTTP Response Headers Format)."""

FLUSH_S = 3.0
"""At the end, time to send what is left; a collector that is away must not hold up a stop."""

Value = str | int | float | bool
_W3C = TraceContextTextMapPropagator()
_NO_SPAN = nullcontext(INVALID_SPAN)


class Tracing:
    """Makes spans, or none. Made by `open_tracing`; `OFF` is for whoever has nothing to say."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer

    @property
    def is_on(self) -> bool:
        return self._tracer is not None

    def span(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Value] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Span]:
        """Time what happens in the block, as a part of what is going on, or of the trace that `headers` came with.

        An error that leaves the block marks the span with its kind. A cancellation is no error.
        """
        parent = None if headers is None else _W3C.extract(headers, context=Context())
        if self._tracer is not None:
            return _recorded(self._tracer, name, kind, attributes, parent)
        return _carried_on(parent) if parent else _NO_SPAN

    def note_past(
        self,
        name: str,
        *,
        began_at: float,
        ended_at: float,
        attributes: Mapping[str, Value],
        headers: Mapping[str, str],
    ) -> None:
        """Tell of something that is over, such as a wait in a queue; times in Unix seconds."""
        if self._tracer is not None:
            parent = _W3C.extract(headers, context=Context())
            span = self._tracer.start_span(name, parent, attributes=attributes, start_time=int(began_at * 1e9))
            span.end(int(max(began_at, ended_at) * 1e9))


OFF = Tracing(None)


@contextmanager
def open_tracing(service: str, instance: str) -> Iterator[Tracing]:
    """Yield spans' maker for this process, and send what is left at the end.

    service: "halfdrop-edge"; instance: which one of them. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before.
    """
    if not any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
        yield OFF
        return
    # A tenth of a second and 15 MB, only for those who want traces.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    release = version("halfdrop")
    named = {"service.name": service, "service.instance.id": instance, "service.version": release}
    resource = Resource.create(named).merge(OTELResourceDetector().detect())
    exporter = OTLPSpanExporter()
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Tracing(provider.get_tracer("halfdrop", release))
    finally:
        # The SDK itself would wait half a minute for a collector that is away.
        flush = threading.Thread(target=provider.shutdown, daemon=True)
        flush.start()
        flush.join(FLUSH_S)
        if flush.is_alive():
            exporter.shutdown()  # type: ignore[no-untyped-call]


def mark_failed(span: Span, error_type: str) -> None:
    """Say that what the span tells of failed, and with what kind of error."""
    span.set_attribute(ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR))


def carry(headers: dict[str, str] | None = None) -> dict[str, str]:
    """Return `headers` of a message, with the trace that is going on; as they were if there is none."""
    carried = headers or {}
    _W3C.inject(carried)
    return carried


def current_trace_id() -> str:
    """Return the trace's id as 32 hexadecimal digits; "" outside any trace."""
    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else ""


def traceresponse(span: Span) -> str:
    """Return the header that tells a client which trace its request was part of; "" for none."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{int(context.trace_flags):02x}"


@contextmanager
def _recorded(
    tracer: Tracer, name: str, kind: SpanKind, attributes: Mapping[str, Value] | None, parent: Context | None
) -> Iterator[Span]:
    with tracer.start_as_current_span(
        name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            mark_failed(span, type(error).__name__)
            raise


@contextmanager
def _carried_on(parent: Context) -> Iterator[Span]:
    """Be part of a trace without adding to it."""
    token = attach(parent)
    try:
        yield INVALID_SPAN
    finally:
        detach(token)
