"""What Prometheus reads: the registry of this process, or the files of all that share a directory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from knowledge_system.operations.processes import fold, reading, shared_directory
from knowledge_system.operations.series import Series

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

ACCEPTED: Final = 512
"""Characters of an Accept header that are looked at."""


class Exposition:
    """A registry of its own with every series of `Series`, and those of the process itself (`process_*`, `python_*`).

    Whether processes share their counters is decided by the environment when prometheus-client is imported.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._shared = shared_directory()
        if self._shared is not None:
            fold(self._shared)
            MultiProcessCollector(self._registry, str(self._shared))  # type: ignore[no-untyped-call]
        self.series = Series(None if self._shared is not None else self._registry)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def add(self, collector: Collector) -> None:
        """Show what `collector` knows too; of this process only."""
        self._registry.register(collector)

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """Return every series and the content type: OpenMetrics where `accept` asks for it. Blocks for milliseconds."""
        encode, content_type = choose_encoder(accept[:ACCEPTED])
        with contextlib.nullcontext() if self._shared is None else reading(self._shared):
            return encode(self._registry), content_type
