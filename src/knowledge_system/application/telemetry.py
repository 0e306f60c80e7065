"""What a resident process tells of itself: metrics, traces, warnings. Everything is told by events and spans.

Only the service has it: a command that lives for a moment stays light.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from knowledge_system import __version__
from knowledge_system.application import logs
from knowledge_system.application.sources import RARE, Sources, provider_names
from knowledge_system.domain.capture import by_itself
from knowledge_system.domain.tracing import Tracer
from knowledge_system.operations.exporting import TraceExporter
from knowledge_system.operations.exposition import Exposition
from knowledge_system.operations.metrics import Metrics
from knowledge_system.operations.sampling import Sampling
from knowledge_system.operations.tracing import SlowRequests, TraceStore, fan_out

if TYPE_CHECKING:
    from collections.abc import Collection

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.events import Event, TracesExported
    from knowledge_system.domain.tracing import Sink
    from knowledge_system.settings import Configuration

SERVICE = "knowledge-system"


class Telemetry:
    """Metrics, traces and warnings of one process. Open it with `open_telemetry`.

    `store` keeps traces for whoever asks why something was slow.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._heard = parts.emit
        self._exposition = Exposition()
        self._names: tuple[Configuration | None, Collection[str]] = (None, ())
        self.metrics = Metrics(self._exposition.series, parts.clock, self._providers)
        self.store = TraceStore()
        self._losing = False
        self._alarms = logs.Alarms()
        self._sources = Sources(parts, self.metrics)
        self.sampling = Sampling(self._sources.all(), self.metrics.unreadable, RARE)
        self._exporter = self._collector()
        self._exposition.add(self.sampling)

    @property
    def tracer(self) -> Tracer:
        """What opens traces of this system."""
        return self._parts.tracer

    def emit(self, event: Event) -> None:
        """Count `event`, warn of it where somebody should know, and hand it on."""
        self.metrics.observe(event, realtime=by_itself.get())
        if not logs.is_alarming(event):
            self._heard(event)
        elif self._alarms.is_new(event):
            logs.alarm(event)

    def sink(self) -> Sink:
        """Return where traces go."""
        seconds = lambda: self._parts.settings.tree.telemetry.slow_request_ms / 1000  # noqa: E731 -- read each time
        slow = SlowRequests(seconds, self.metrics.slow, lambda facts: logs.warn("slow-request", facts))
        return fan_out(self.store, slow, *([] if self._exporter is None else [self._exporter]))

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return what Prometheus reads, and its content type: OpenMetrics where `accept` asks for it."""
        await self.sampling.refresh()
        return await asyncio.to_thread(self._exposition.expose, accept)

    async def close(self) -> None:
        """Stop reading, and send the traces that wait."""
        await self.sampling.close()
        self._sources.close()
        if self._exporter is not None:
            await asyncio.to_thread(self._exporter.close)

    def _providers(self) -> Collection[str]:
        tree = self._parts.settings.tree
        if self._names[0] is not tree:
            self._names = (tree, frozenset(provider_names(tree)))
        return self._names[1]

    def _collector(self) -> TraceExporter | None:
        endpoint = self._parts.settings.tree.telemetry.otlp_endpoint
        facts = {"service.name": SERVICE, "service.version": __version__}
        return TraceExporter(endpoint, facts, self._exported) if endpoint else None

    def _exported(self, event: TracesExported) -> None:
        """Count what became of traces; warn when the collector stops taking them, once."""
        self.metrics.observe(event)
        lost = event.outcome != "sent"
        if lost and not self._losing:
            logs.alarm(event)
        self._losing = lost


async def open_telemetry(parts: Parts) -> Telemetry:
    """Listen to `parts` from now on; ended when they are closed. Raises UsageError for a bad telemetry.otlpEndpoint."""
    logs.serve(parts.settings.tree.telemetry.log_format)
    database = await parts.database()
    telemetry = Telemetry(parts)
    parts.emit, parts.telemetry = telemetry.emit, telemetry
    parts.tracer = Tracer(telemetry.sink(), parts.clock)
    database.connections.activity.tell(telemetry.metrics.series.sqlite_queries.inc)
    parts.at_close(telemetry.close)
    parts.runtime().complain()
    return telemetry
