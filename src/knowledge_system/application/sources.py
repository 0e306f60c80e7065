"""Where the gauges of a scrape are read: the truth, the index, the machine. Each on its own; see `sampling`."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

from knowledge_system import __version__
from knowledge_system.application.engine import budget_rules, named_providers
from knowledge_system.application.index_server import is_away, is_used
from knowledge_system.application.larger import larger_space
from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.operations import gauges
from knowledge_system.operations.sampling import RARELY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from prometheus_client.core import Metric

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.census import Counts
    from knowledge_system.operations.metrics import Metrics
    from knowledge_system.settings import Configuration
    from knowledge_system.storage.database import EngineState

    Source = Callable[[], Awaitable[Iterable[Metric]]]

HEALTH_AFTER = 0.5
"""Seconds after a scrape at which the health is looked at for the next one: its checks read the same sources."""
HEALTH_WITHIN = 0.5
"""Seconds that the first scrape waits for a report of health."""
RARE = frozenset({"objects", "ages"})
"""Sources that are read once a minute."""


class Sources:
    """Reads one running system. `all` names every source."""

    def __init__(self, parts: Parts, metrics: Metrics) -> None:
        self._parts = parts
        self._metrics = metrics
        self._state: tuple[Configuration, EngineState] | None = None
        self._disk_thread = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._status = ""
        self._looking: asyncio.Task[None] | None = None
        self._larger: tuple[float, Mapping[str, int]] = (0.0, {})
        self._counting: asyncio.Future[Counts] | None = None

    def all(self) -> dict[str, Source]:
        """Return the sources by the name that `knowledge_scrape_errors_total` gives them."""
        return {
            "build": self._build,
            "items": self._items,
            "ages": self._ages,
            "outbox": self._outbox,
            "index": self._index,
            "budget": self._budget,
            "spend": self._spend,
            "breakers": self._breakers,
            "database": self._database,
            "cache": self._cache,
            "capture": self._capture,
            "memory": self._memory,
            "objects": self._objects,
            "disk": self._disk,
            "health": self._health,
        }

    def close(self) -> None:
        """Let go of the thread, and of what is not finished."""
        if self._looking is not None:
            self._looking.cancel()
        self._disk_thread.shutdown(wait=False, cancel_futures=True)

    async def _build(self) -> Iterable[Metric]:
        return [gauges.labelled("build_info", [((__version__,), 1.0)])]

    async def _items(self) -> Iterable[Metric]:
        now = time.monotonic()
        if now >= self._larger[0]:
            space = larger_space(self._parts.settings.tree).key
            self._larger = (now + RARELY, await (await self._parts.database()).census().embedded(space))
        return gauges.of_stock((await self._counts()).stock, self._larger[1])

    async def _ages(self) -> Iterable[Metric]:
        before = self._parts.clock.now() - timedelta(days=gauges.STALE_DAYS)
        return gauges.of_age(await (await self._parts.database()).census().older(before))

    async def _outbox(self) -> Iterable[Metric]:
        return gauges.of_flow((await self._counts()).flow)

    async def _index(self) -> Iterable[Metric]:
        index = self._parts.open_index_if_any()
        if index is None or is_away(self._parts):  # nothing has needed it yet, or its server is gone: health says so
            return []
        counts, status = await asyncio.gather(self._counts(), index.status())
        return gauges.of_drift(counts.flow, status.points)

    async def _budget(self) -> Iterable[Metric]:
        return gauges.of_budget(await (await self._engine()).ledger.status())

    async def _spend(self) -> Iterable[Metric]:
        return gauges.of_spend((await self._counts()).spent)

    async def _breakers(self) -> Iterable[Metric]:
        statuses = await (await self._engine()).breakers.status()
        return gauges.of_breakers(provider_names(self._parts.settings.tree), statuses)

    async def _database(self) -> Iterable[Metric]:
        database = await self._parts.database()
        longest = database.connections.transactions.longest()
        return gauges.of_storage((await self._counts()).storage, longest)

    async def _cache(self) -> Iterable[Metric]:
        share = self._metrics.hit_rate.share()
        return [] if share is None else [gauges.family("cache_hit_rate", share)]

    async def _capture(self) -> Iterable[Metric]:
        measured = self._metrics.captured
        return [] if measured is None else gauges.of_capture(measured)

    async def _memory(self) -> Iterable[Metric]:
        from knowledge_system.application import model_process
        from knowledge_system.application.index_process import documents

        apart = model_process.document(self._parts)
        own, computes = gauges.resident_bytes(), None if apart is None else apart["rss_bytes"]
        if is_used(self._parts):  # the server tells its own memory to Prometheus
            return gauges.of_memory(own, computes, {})
        holding = [one["rss_bytes"] or 0 for one in documents(self._parts)]
        return gauges.of_memory(own, computes, {"process": sum(holding) if holding else own})

    async def _objects(self) -> Iterable[Metric]:
        return gauges.of_objects()

    async def _disk(self) -> Iterable[Metric]:
        home = self._parts.home().path
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._disk_thread, lambda: list(gauges.of_disk(home)))

    async def _health(self) -> Iterable[Metric]:
        """Return the last report, and let the next one be made after this scrape; only the first is waited for."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(HEALTH_AFTER if self._status else 0.0))
        if not self._status:
            await asyncio.wait({self._looking}, timeout=HEALTH_WITHIN)
        return [gauges.family("health_status", gauges.HEALTH[self._status])] if self._status else []

    async def _look(self, after: float) -> None:
        await asyncio.sleep(after)
        try:
            self._status = (await self._parts.health().report()).status
        except KnowledgeError:  # what cannot even be asked is not as it was when it last could
            self._status = "unhealthy"

    async def _counts(self) -> Counts:
        """Return what the database counts; those who ask at once share one read."""
        if self._counting is None or self._counting.done():
            now = self._parts.clock.now()
            since = [now - timedelta(seconds=seconds) for seconds in gauges.WINDOWS.values()]
            self._counting = asyncio.ensure_future((await self._parts.database()).census().counts(since))
        return await asyncio.shield(self._counting)

    async def _engine(self) -> EngineState:
        """Return the shared state of model calls; it remembers sums, so it is made anew only for other settings."""
        tree = self._parts.settings.tree
        if self._state is None or self._state[0] is not tree:
            self._state = (tree, (await self._parts.database()).engine_state(budget_rules(tree)))
        return self._state[1]


def provider_names(tree: Configuration) -> list[str]:
    """Return the configured providers: those that may be asked, and the one of the larger space."""
    return list(dict.fromkeys([*named_providers(tree), tree.embeddings.remote.provider]))
