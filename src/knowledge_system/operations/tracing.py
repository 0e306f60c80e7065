"""What becomes of traces that ended: kept for a while, told when slow, exported when somebody collects them."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from knowledge_system.domain.clock import to_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from knowledge_system.domain.tracing import Sink, Span, Trace

RECENT: Final = 100
"""Traces kept, the newest."""
SLOWEST: Final = 20
"""Traces kept because they took longest."""
DURATIONS: Final = 1000
"""Durations kept of each kind of span."""
TOLD: Final = 30
"""Slow requests logged a minute."""
MOST_NAMES: Final = 200
"""Kinds of spans whose durations are kept."""


class TraceStore:
    """The traces of this process that are worth looking at, in memory. Safe to use from any thread."""

    def __init__(self, recent: int = RECENT, slowest: int = SLOWEST) -> None:
        self._recent: deque[Trace] = deque(maxlen=recent)
        self._most = slowest
        self._slowest: list[tuple[float, int, Trace]] = []
        self._durations: dict[str, deque[float]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __call__(self, trace: Trace) -> None:
        """Keep `trace`."""
        with self._lock:
            self._recent.append(trace)
            if trace.interactive:
                heapq.heappush(self._slowest, (trace.seconds, next(self._numbers), trace))
                if len(self._slowest) > self._most:
                    heapq.heappop(self._slowest)
            for span in trace.spans:
                self._note(span)

    def recent(self) -> list[Trace]:
        """Return the newest traces, newest first."""
        with self._lock:
            return list(reversed(self._recent))

    def slowest(self) -> list[Trace]:
        """Return the traces of requests that took longest since the start, longest first."""
        with self._lock:
            return [trace for _, _, trace in sorted(self._slowest, reverse=True)]

    def durations(self, name: str) -> list[float]:
        """Return the last durations in seconds of spans called `name`, oldest first; an operation is a span too."""
        with self._lock:
            return list(self._durations.get(name, ()))

    def names(self) -> list[str]:
        """Return the names that `durations` knows."""
        with self._lock:
            return sorted(self._durations)

    def _note(self, span: Span) -> None:
        if math.isnan(span.seconds):
            return
        kept = self._durations.get(span.name)
        if kept is None:
            if len(self._durations) >= MOST_NAMES:
                return
            kept = self._durations[span.name] = deque(maxlen=DURATIONS)
        kept.append(span.seconds)


class SlowRequests:
    """Tells of every interactive trace that took at least `seconds`: counted, and logged as a whole.

    On a machine that is overloaded every request is slow, and telling of each would load it more: beyond `TOLD` a
    minute they are counted only, and the first of another minute says how many were left out.
    """

    def __init__(
        self, seconds: Callable[[], float], count: Callable[[str], None], log: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._seconds = seconds
        self._count = count
        self._log = log
        self._minute = -1
        self._told = 0
        self._left_out = 0

    def __call__(self, trace: Trace) -> None:
        """Look at `trace`."""
        if not trace.interactive or trace.seconds < self._seconds():
            return
        self._count(trace.operation)
        minute = int((trace.started.timestamp() + trace.seconds) // 60)
        if minute != self._minute:
            self._minute, self._told = minute, 0
        if self._told >= TOLD:
            self._left_out += 1
            return
        self._told += 1
        left_out, self._left_out = self._left_out, 0
        self._log({**trace_document(trace), **({"left_out": left_out} if left_out else {})})


def fan_out(*sinks: Sink) -> Sink:
    """Return a sink that hands each trace to all of them."""

    def sink(trace: Trace) -> None:
        for one in sinks:
            one(trace)

    return sink


def trace_document(trace: Trace) -> dict[str, Any]:
    """Return a trace as JSON: times of the spans in milliseconds from its start. It has no content, as no span has."""
    return {
        "trace_id": trace.id,
        "operation": trace.operation,
        "started": to_stored(trace.started),
        "seconds": round(trace.seconds, 6),
        "status": trace.root.status,
        "error": trace.root.error,
        "spans": [_span_document(span) for span in trace.spans],
        "dropped": trace.dropped,
    }


def _span_document(span: Span) -> dict[str, Any]:
    return {
        "id": span.id,
        "parent": span.parent or None,
        "name": span.name,
        "at_ms": round(1000 * span.began, 3),
        "ms": None if math.isnan(span.seconds) else round(1000 * span.seconds, 3),
        "status": span.status,
        **({"error": span.error} if span.error else {}),
        **({"attributes": span.attributes} if span.attributes else {}),
    }
