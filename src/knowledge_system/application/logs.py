"""Structured logs on stderr; events become log lines. Nothing here ever carries the text of an exchange."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from knowledge_system.domain.events import Emit, Event


def configure(*, verbose: bool) -> Emit:
    """Send log lines to stderr (from warnings on, from details on when `verbose`) and return the emitter of events."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.WARNING),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logger = structlog.get_logger()

    def emit(event: Event) -> None:
        logger.debug(type(event).__name__, **asdict(event))

    return emit
