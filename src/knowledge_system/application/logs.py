"""Structured logs on stderr; events become log lines. Nothing here ever carries the text of an exchange."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import OrderedDict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import structlog

from knowledge_system.domain.events import (
    BreakerOpened,
    BudgetTierEntered,
    CaptureFailed,
    CaptureRefused,
    IndexRebuilt,
    IndexServerLost,
    MemoryHigh,
    OverridesIgnored,
    ProviderMisconfigured,
    SettlementFailed,
    SpaceBehind,
    UpkeepRan,
    discard,
)
from knowledge_system.domain.tracing import current_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from knowledge_system.domain.events import Emit, Event

_ALARMING = (
    BreakerOpened,
    BudgetTierEntered,
    CaptureFailed,
    CaptureRefused,
    IndexRebuilt,
    IndexServerLost,
    OverridesIgnored,
    ProviderMisconfigured,
    SettlementFailed,
    SpaceBehind,
)

TOLD_AGAIN: Final = 3600.0
"""Seconds after which the same warning is written again."""
MOST_TOLD: Final = 1000


def configure(*, verbose: bool) -> Emit:
    """Send log lines to stderr (from warnings on, from details on when `verbose`) and return the emitter of events."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.WARNING),
        processors=[*_facts(), structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logger = structlog.get_logger()

    def emit(event: Event) -> None:
        logger.debug(type(event).__name__, **asdict(event))

    return emit if verbose else discard


def serve(log_format: str) -> None:
    """Write JSON lines from now on where `log_format` asks for them: `json`, or `auto` without a terminal."""
    if log_format == "json" or (log_format == "auto" and not sys.stderr.isatty()):
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
        structlog.configure(
            processors=[*_facts(), structlog.processors.format_exc_info, renderer],
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
    root = logging.getLogger()
    if not any(isinstance(one, Forwarding) for one in root.handlers):
        root.addHandler(Forwarding(logging.WARNING))


class Forwarding(logging.Handler):
    """Writes what libraries log, an unexpected failure of a request above all, as lines of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; where nobody takes it, nothing else suffers."""
        facts = {"exc_info": record.exc_info} if record.exc_info else {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            structlog.get_logger().log(record.levelno, record.getMessage().strip(), logger=record.name, **facts)


def is_alarming(event: Event) -> bool:
    """Tell whether somebody who runs a service should read of it without asking for details."""
    if isinstance(event, MemoryHigh):  # once an hour: while memory is high it is told every minute
        return bool(event.snapshot)
    return isinstance(event, _ALARMING) or (isinstance(event, UpkeepRan) and event.outcome != "done")


class Alarms:
    """Knows what was warned of lately: what fails again for the same reason is a line an hour, not one each time."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def is_new(self, event: Event) -> bool:
        """Tell whether to warn of `event`, and remember it."""
        key: tuple[str, ...]
        match event:
            case CaptureRefused(path, reason) | CaptureFailed(path, reason) | IndexServerLost(path, reason):
                key = (type(event).__name__, path, reason)
            case UpkeepRan(job=job, outcome=outcome, reason=reason):
                key = (type(event).__name__, job, outcome, reason)
            case _:
                return True
        now = self._monotonic()
        told = self._told.pop(key, None)
        known = told is not None and now - told < TOLD_AGAIN
        self._told[key] = told if known and told is not None else now
        if len(self._told) > MOST_TOLD:
            self._told.popitem(last=False)
        return not known


def alarm(event: Event) -> None:
    """Log an event as a warning."""
    warn(type(event).__name__, asdict(event))


def warn(name: str, facts: Mapping[str, Any]) -> None:
    """Log a warning; where nobody takes it (standard error is gone), nothing else suffers."""
    with contextlib.suppress(OSError, ValueError):
        structlog.get_logger().warning(name, **facts)


def _facts() -> list[Any]:
    return [_add_trace, structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]


def _add_trace(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    trace = current_trace()
    if trace is not None:
        line.setdefault("trace_id", trace.id)
    return line
