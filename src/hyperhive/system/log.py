"""The log: one event a line on standard error, JSON unless a person watches, without secrets and control characters."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# Anthropic's keys and tokens, the hive's own login tokens in URLs, and its API tokens.
_SECRET = re.compile(r"(sk-ant-[a-z0-9]+-|token=|[Bb]earer |\bhive_)[A-Za-z0-9_-]{8,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def configure_log() -> None:
    """Sets up structlog and the logging of libraries. Called once, by the program's assembly."""
    person = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.dev.ConsoleRenderer(colors=False) if person else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()])


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Takes secrets and control characters out of every text of a log line."""
    return {key: redact_text(value) if isinstance(value, str) else value for key, value in event.items()}


def redact_text(text: str) -> str:
    """`text` without credentials (their kind stays visible) and control characters other than line ends and tabs."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _SECRET.sub(r"\1[redacted]", text))


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
