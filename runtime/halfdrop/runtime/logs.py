"""Logs are events with fields, one JSON object a line; on a terminal, the same as coloured text.

Prompts and secrets never appear in them: log a pattern's key and a job's id. A line that is written while a trace is
going on carries its id.
"""

import logging
import os
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from halfdrop.runtime.tracing import current_trace_id


def configure_logs(process: str) -> None:
    """Send structlog's and the standard library's records to stderr, each marked with `process`.

    HALFDROP_LOG=text or json overrides the choice; HALFDROP_LOG_LEVEL (default info) bounds what is written.
    """
    form = os.environ.get("HALFDROP_LOG") or ("text" if sys.stderr.isatty() else "json")
    level = logging.getLevelNamesMapping().get(os.environ.get("HALFDROP_LOG_LEVEL", "info").upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Never with the frames' local variables: they hold prompts.
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        if form == "json"
        else structlog.dev.set_exc_info,
    ]
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _add_process(process)],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
    )
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # A collector that is away costs one line for each batch that is lost, and none for each try.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)


def _add_trace_id(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if trace_id := current_trace_id():
        event.setdefault("trace_id", trace_id)
    return event


def _add_process(process: str) -> structlog.typing.Processor:
    # The standard library's records may come from threads that hold no context variables.
    def add(
        _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.setdefault("process", process)
        return event

    return add
