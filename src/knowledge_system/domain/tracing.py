"""Traces: what one operation did, step by step, with durations. Standard library only; attributes never carry content.

A `Tracer` opens the root; `span` opens a step of whatever trace is under way in this task, and costs a look at a
context variable when there is none. Identifiers are those of W3C Trace Context, so that a trace may begin elsewhere.
"""

from __future__ import annotations

import math
import os
import re
import time
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from knowledge_system.domain.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

    from knowledge_system.domain.clock import Clock

MOST_SPANS: Final = 512
"""Spans kept of one trace; further ones are counted in `Trace.dropped`."""
SUCCESS: Final = "success"
ERROR: Final = "error"
CANCELLED: Final = "cancelled"

Attribute: TypeAlias = "str | int | float | bool"
"""Facts: names, counts, levels. Never text of a user, an agent or a document."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class Caller(NamedTuple):
    """The trace and the span that somebody else continues here."""

    trace_id: str
    span_id: str


def parse_traceparent(header: str) -> Caller | None:
    """Return what a `traceparent` header names; None for one that is missing or not valid (W3C Trace Context, 3.2)."""
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None:
        return None
    version, trace_id, span_id, _, more = found.groups()
    known = version != "ff" and not (version == "00" and more)
    return Caller(trace_id, span_id) if known and trace_id != _NO_TRACE and span_id != _NO_SPAN else None


@dataclass(slots=True, eq=False)
class Span:
    """One step: `began` seconds after the trace did, `seconds` long (NaN until the end).

    `status` is `success`, `error` or `cancelled`; `error` the class of what was raised, never its message.
    """

    trace: Trace
    id: str
    parent: str
    name: str
    began: float
    attributes: dict[str, Attribute]
    seconds: float = math.nan
    status: str = SUCCESS
    error: str = ""

    def set(self, **attributes: Attribute) -> None:
        """Add facts that became known on the way."""
        self.attributes.update(attributes)

    def end(self, error: BaseException | None = None) -> None:
        """Close the span; only the first time counts."""
        if math.isnan(self.seconds):
            self.seconds = time.perf_counter() - self.trace.zero - self.began
            if error is not None:
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Say that it failed, by the class of the error; giving up because nobody waits any more is no failure."""
        self.error = type(error).__name__
        self.status = CANCELLED if self.error in _GIVEN_UP else ERROR


_GIVEN_UP = frozenset({"CancelledError", "GeneratorExit", "ClientGone"})


@dataclass(slots=True, eq=False)
class Trace:
    """One operation as it was: `spans` in the order they began, the root first.

    `interactive`: somebody waits for it, so it can be too slow. `zero` is its start on the monotonic clock.
    """

    id: str
    operation: str
    started: datetime
    zero: float
    interactive: bool = True
    spans: list[Span] = field(default_factory=list)
    dropped: int = 0
    finished: bool = False

    @property
    def root(self) -> Span:
        """The span of the whole."""
        return self.spans[0]

    @property
    def seconds(self) -> float:
        """Duration of the whole."""
        return self.root.seconds

    @property
    def traceparent(self) -> str:
        """The header that lets others continue this trace below its root."""
        return f"00-{self.id}-{self.root.id}-01"

    def add(self, parent: str, name: str, attributes: dict[str, Attribute]) -> Span:
        """Begin a span; one beyond `MOST_SPANS` is counted and not kept."""
        span = Span(self, os.urandom(8).hex(), parent, name, time.perf_counter() - self.zero, attributes)
        if len(self.spans) < MOST_SPANS:
            self.spans.append(span)
        else:
            self.dropped += 1
        return span


class Sink(Protocol):
    """Takes traces that ended. Never blocks, never raises."""

    def __call__(self, trace: Trace) -> None:
        """Keep, count or export `trace`."""
        ...


_current: ContextVar[Span | None] = ContextVar("knowledge_span", default=None)


class _Nothing(AbstractContextManager["Step"]):
    """What stands for a span where nobody traces."""

    __slots__ = ()

    def __enter__(self) -> Step:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, **attributes: Attribute) -> None:
        """Do nothing."""

    def end(self, error: BaseException | None = None) -> None:
        """Do nothing."""

    def fail(self, error: BaseException) -> None:
        """Do nothing."""


class Step(Protocol):
    """What is done with a span, whether somebody traces or not."""

    def set(self, **attributes: Attribute) -> None:
        """Add facts."""

    def end(self, error: BaseException | None = None) -> None:
        """Close it before its block ends."""

    def fail(self, error: BaseException) -> None:
        """Say that it failed although nothing is raised."""


_NOTHING = _Nothing()


class _Open(AbstractContextManager["Step"]):
    """A span that is the current one of its task until the block ends."""

    __slots__ = ("_sink", "_span", "_token")

    def __init__(self, span: Span, sink: Sink | None = None) -> None:
        self._span = span
        self._sink = sink
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> Step:
        self._token = _current.set(self._span)
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        self._span.end(error)
        if self._sink is not None:
            self._span.trace.finished = True
            self._sink(self._span.trace)


def span(name: str, **attributes: Attribute) -> AbstractContextManager[Step]:
    """Return a block that is a step of the trace under way, or nothing at all where none is."""
    current = _current.get()
    if current is None or current.trace.finished:
        return _NOTHING
    return _Open(current.trace.add(current.id, name, attributes))


def detached(name: str, **attributes: Attribute) -> Step:
    """Return a step to be ended by hand and never current: for generators, which have no task of their own.

    What runs while it is open is not below it.
    """
    current = _current.get()
    if current is None or current.trace.finished:
        return _NOTHING
    return current.trace.add(current.id, name, attributes)


def current_trace() -> Trace | None:
    """Return the trace under way in this task."""
    current = _current.get()
    return None if current is None or current.trace.finished else current.trace


def traceparent() -> str | None:
    """Return the header that continues the trace under way below the current span, None where nobody traces."""
    current = _current.get()
    return None if current is None or current.trace.finished else f"00-{current.trace.id}-{current.id}-01"


class Tracer:
    """Opens traces and hands those that ended to its sink. Without a sink it opens none."""

    def __init__(self, sink: Sink | None = None, clock: Clock | None = None) -> None:
        self.sink = sink
        self._clock = clock or SystemClock()

    def trace(
        self,
        operation: str,
        caller: Caller | None = None,
        *,
        interactive: bool = True,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> AbstractContextManager[Step]:
        """Return a block that is a trace of its own; below another trace it is a span of that one."""
        if current_trace() is not None or self.sink is None:
            return span(operation, **(attributes or {}))
        trace_id, parent = caller or (os.urandom(16).hex(), "")
        trace = Trace(trace_id, operation, self._clock.now(), time.perf_counter(), interactive)
        return _Open(trace.add(parent, operation, dict(attributes or {})), self.sink)
