"""Traces to a collector over OTLP/HTTP, from a thread of its own: a collector that is slow or gone delays nothing.

What waits is bounded; what does not fit, or is not taken, is dropped and counted.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.events import TracesExported
from knowledge_system.domain.tracing import ERROR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from knowledge_system.domain.tracing import Span, Trace

WAITING: Final = 512
"""Traces that may wait for the collector."""
AT_ONCE: Final = 64
"""Traces of one request."""
SECONDS: Final = 5.0
"""How long the collector may take for one request, with everything tried again; and how long closing waits."""
PATH: Final = "/v1/traces"

_NANO: Final = 1_000_000_000


class TraceExporter:
    """A sink that never blocks. `close` sends what waits, as far as that takes no longer than a request may."""

    def __init__(
        self,
        endpoint: str,
        service: Mapping[str, str],
        announce: Callable[[TracesExported], None],
        seconds: float = SECONDS,
    ) -> None:
        self._endpoint = full_endpoint(endpoint)
        self._service = dict(service)
        self._announce = announce
        self._seconds = seconds
        self._waiting: queue.Queue[Trace | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def __call__(self, trace: Trace) -> None:
        """Let `trace` wait for its turn; drop it when too many wait."""
        try:
            self._waiting.put_nowait(trace)
        except queue.Full:
            self._announce(TracesExported("dropped", 1))

    def close(self) -> None:
        """End the thread; blocks for a few seconds at most."""
        try:
            self._waiting.put(None, timeout=self._seconds)
        except queue.Full:
            return
        self._thread.join(self._seconds)

    def _run(self) -> None:
        exporter: Any = None
        ended = False
        while not ended:
            taken = self._taken()
            traces = [one for one in taken if one is not None]
            ended = len(traces) < len(taken)
            if traces:
                exporter, trouble = self._send(exporter, traces)
                self._announce(TracesExported("failed" if trouble else "sent", len(traces), trouble))
        if exporter is not None:
            exporter.shutdown()

    def _taken(self) -> list[Trace | None]:
        """Wait for something, and return it with what is there besides; None stands for the end."""
        taken = [self._waiting.get()]
        while taken[-1] is not None and len(taken) < AT_ONCE and not self._waiting.empty():
            taken.append(self._waiting.get())
        return taken

    def _exporter(self) -> Any:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 -- 0.3 s

        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # told by our own event
        return OTLPSpanExporter(endpoint=self._endpoint, timeout=self._seconds)

    def _send(self, exporter: Any, traces: Sequence[Trace]) -> tuple[Any, str]:
        """Send traces with the exporter, made at the first; return it, and why they are lost: empty if they are not."""
        try:
            from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 -- as above

            exporter = exporter or self._exporter()
            spans = [span for trace in traces for span in readable(trace, self._service)]
            taken = exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 -- the edge of the thread: told with the traces that are lost
            return exporter, f"{type(error).__name__}: {error}"
        return exporter, "" if taken else "the collector did not take them"


def full_endpoint(endpoint: str) -> str:
    """Return the address that traces are sent to: a base address gets the path of OTLP. Raises UsageError."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"telemetry.otlpEndpoint {endpoint!r} is no address", hint="http://127.0.0.1:4318")
    return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + PATH


def readable(trace: Trace, service: Mapping[str, str]) -> list[Any]:
    """Return the spans of a trace as the SDK exports them."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 -- as above
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 -- as above
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415 -- as above

    resource = Resource(dict(service))
    start = int(trace.started.timestamp() * _NANO)

    def context(span_id: str) -> SpanContext:
        return SpanContext(int(trace.id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))

    def made(span: Span) -> ReadableSpan:
        began = start + int(span.began * _NANO)
        failed = span.status == ERROR
        ended = 0.0 if math.isnan(span.seconds) else span.seconds
        return ReadableSpan(
            name=span.name,
            context=context(span.id),
            parent=context(span.parent) if span.parent else None,
            resource=resource,
            attributes={**span.attributes, **({"error.type": span.error} if span.error else {})},
            kind=SpanKind.SERVER if span is trace.root else _kind(span, SpanKind),
            status=Status(StatusCode.ERROR, span.error) if failed else Status(StatusCode.UNSET),
            start_time=began,
            end_time=began + int(ended * _NANO),
        )

    return [made(span) for span in trace.spans]


def _kind(span: Span, kinds: Any) -> Any:
    return kinds.CLIENT if "gen_ai.provider.name" in span.attributes else kinds.INTERNAL
