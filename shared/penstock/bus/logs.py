"""Logs as JSON lines (or text for people) with structlog."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

    from penstock.settings import Settings


MAX_TEXT_LENGTH: Final = 4000
"""Characters of one value of a line."""


class _Stderr:
    """Standard error as it is when a line is written: loggers outlive a stream that somebody put there for a while."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def cut(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Bound a line, whatever it is about: a text somebody made up may be as long as a message."""
    for name, value in line.items():
        if isinstance(value, str) and len(value) > MAX_TEXT_LENGTH:
            half = MAX_TEXT_LENGTH // 2
            # The end of a traceback says most.
            line[name] = f"{value[:half]} ... ({len(value)} characters) ... {value[-half:]}"
    return line


def configure_logs(settings: Settings, service: str) -> None:
    """Send logs to stderr, one line each, with the service's name."""
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            cut,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
