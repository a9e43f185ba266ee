"""How the programs themselves speak: one structlog chain for our lines and every library's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Redact = Callable[[Any], Any]
Format = Literal["auto", "console", "json"]

# httpx writes whole URLs, user and token included, at INFO (SEC-S04); the others are chatty:
# arq says each ring twice, uvicorn each look at /health.
QUIET = (
    "alembic",
    "arq",
    "asyncio",
    "httpcore",
    "httpx",
    "uvicorn.access",
    "watchfiles",
    "websockets",
)
BRING_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "arq", "arq.worker", "alembic")


def configure(
    program: str, *, look: Format = "auto", redact: Redact | None = None, level: str = "INFO"
) -> None:
    """Send all log lines of this process to standard error, as JSON or for people.

    `redact` receives every value of a line (event, fields, traceback) and gives it back with
    secrets masked. `auto` is for people on a terminal, JSON otherwise.
    """
    console = look == "console" or (look == "auto" and sys.stderr.isatty())
    before = _shared(None if console else program)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # To text before the mask, and plain: pretty tracebacks print local variables.
                structlog.processors.format_exc_info,
                *([_masked(redact)] if redact else []),
                _renderer(console=console),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # That the server is away is ours to tell, in one line; the pool tells it with a traceback.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    for name in BRING_HANDLERS:  # of their own; one chain is enough
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _shared(program: str | None) -> list[Processor]:
    """Name the steps every line goes through; on a console the reader knows the program."""

    def named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("program", program)
        return event

    def plain(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.pop("color_message", None)  # uvicorn says its lines a second time for terminals
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        plain,
        structlog.processors.TimeStamper(fmt="iso" if program else "%Y-%m-%dT%H:%M:%SZ", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
        *([named] if program else []),
    ]


def _masked(redact: Redact) -> Processor:
    def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> MutableMapping[str, Any]:
        return {key: redact(value) for key, value in event.items()}

    return mask


def _renderer(*, console: bool) -> Processor:
    if console:
        return structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.processors.JSONRenderer(default=str)
