"""What is checked, over the parts of a running system; `operations/health.py` says how.

Nothing here asks a provider: its breaker knows from real calls how it is, and costs nothing to look at.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from knowledge_system.domain.clock import to_public
from knowledge_system.domain.money import BreakerPhase
from knowledge_system.operations.diagnosis import LOW_DISK_BYTES
from knowledge_system.operations.health import Check, Checked, Entries, Grade, Report, Watch
from knowledge_system.operations.thresholds import BUDGET_TIERS, metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from knowledge_system.application.compose import Parts
    from knowledge_system.settings import Configuration

_T = TypeVar("_T")
Document = dict[str, Any]

READ_WITHIN, LOCK_WITHIN = 0.5, 0.3
"""Seconds that the database has for a read, and for its write lock: ten to a hundred times what a busy one takes."""
_TRUTH_WITHIN, _INDEX_WITHIN, _WITHIN = 0.9, 1.6, 0.8
"""Seconds for a check: the truth, the index, and what is asked of the truth afterwards; together less than two."""
WARNS_FROM = next(tier.share for tier in BUDGET_TIERS if tier.name == "warning")
HIT_RATE_FROM = metric("cache-hit-rate").alert
MEASURED_FROM = 100
"""Requests of a day below which the share of hits says nothing: caches begin empty."""
DRIFT_SHARE = 0.01
"""Share of its points by which the index may differ from the truth: what is under way while it is counted."""


class Health:
    """The three answers: alive, ready, and how everything is; `patience` as in `Watch`."""

    def __init__(self, parts: Parts, patience: float = 1.0) -> None:
        self._parts = parts
        self._read_within = READ_WITHIN * patience
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="health")
        self._usable: tuple[Configuration, dict[str, str]] | None = None
        sqlite = Check("sqlite", self._truth, _down, _TRUTH_WITHIN)
        qdrant = Check("qdrant", self._index, _index_down, _INDEX_WITHIN)
        reads = Check("sqlite", self._readable, _down, _TRUTH_WITHIN)
        self._ready = Watch([reads, qdrant], patience=patience)
        self._all = Watch(
            [
                sqlite,
                qdrant,
                Check("providers", self._providers, self._no_providers, _WITHIN, ("sqlite",)),
                Check("budget", self._budget, _unknown("budget"), _WITHIN, ("sqlite",)),
                Check("cache", self._cache, _unknown("cache"), _WITHIN, ("sqlite",)),
                Check("capture", self._capture, _unknown("capture"), _WITHIN, ("sqlite",)),
                Check("index_drift", self._drift, _unknown("index_drift"), _WITHIN, ("sqlite", "qdrant")),
                Check("disk", self._disk, _unknown("disk"), _WITHIN),
                Check("memory", self._memory, _unknown("memory"), _WITHIN),
            ],
            patience=patience,
        )

    async def ready(self) -> Report:
        """Return whether the next request can be answered: the truth can be read, the index is open and answers."""
        return await self._ready.report()

    async def report(self) -> Report:
        """Return how everything is."""
        return await self._all.report()

    def now(self) -> str:
        """Return the time for a document."""
        return to_public(self._parts.clock.now())

    async def close(self) -> None:
        """Give up what is being checked."""
        await self._ready.close()
        await self._all.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _apart(self, work: Callable[[], _T]) -> _T:
        """Run blocking work in threads of our own: what hangs there holds up nothing else."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _readable(self) -> Entries:
        from sqlalchemy import text

        from knowledge_system.storage import probing

        connections = (await self._parts.database()).connections
        began = time.perf_counter()
        if connections.sqlite:
            await self._apart(lambda: probing.answers(connections.place, self._read_within))
        else:
            await connections.look(lambda connection: connection.scalar(text("SELECT 1")))
        return {"sqlite": Checked({"status": "up", "latency": _ms(began), "error": None})}

    async def _truth(self) -> Entries:
        """Check that the truth can be read, and on SQLite that it can be written by whoever comes next."""
        from knowledge_system.storage import probing

        connections = (await self._parts.database()).connections
        fields: Document = {"engine": "sqlite" if connections.sqlite else "postgresql"}
        grade: Grade = "ok"
        if connections.sqlite:
            place = connections.place
            probed = await self._apart(lambda: probing.probe(place, self._read_within, LOCK_WITHIN))
            fields |= {"latency": round(probed.seconds * 1000, 3), "writeLock": "free"}
            if probed.write_lock is None:
                fields |= {"writeLock": "held", "error": f"the write lock was not free for {LOCK_WITHIN:g} s"}
                grade = "degraded"
        else:
            fields |= (await self._readable())["sqlite"].fields
        fields["longestTransaction"] = round(connections.transactions.longest(), 3)
        return {"sqlite": Checked({"status": "up", "error": None, **fields}, grade)}

    async def _index(self) -> Entries:
        index = await self._parts.index()
        began = time.perf_counter()
        status = await index.status()
        fields: Document = {
            "status": "up",
            "latency": _ms(began),
            "error": None if status.healthy else "it is incomplete until it is rebuilt",
            "backend": status.backend,
            "points": status.points,
        }
        return {"qdrant": Checked(fields, "ok" if status.healthy else "degraded")}

    async def _providers(self) -> Entries:
        from knowledge_system.application.engine import engine_state

        breakers = {one.provider: one.phase for one in await (await engine_state(self._parts)).breakers.status()}
        problems = await self._problems()
        named = {*self._parts.settings.tree.inference.provider_priority, *self._parts.settings.tree.inference.providers}
        shown = {name: problem for name, problem in problems.items() if name in named or not problem}
        return {f"provider_{name}": self._provider(name, breakers, problem) for name, problem in shown.items()}

    def _provider(self, name: str, breakers: dict[str, BreakerPhase], problem: str) -> Checked:
        """Return one provider. One that nobody has set up is shown, and does not count."""
        phase = breakers.get(name, BreakerPhase.CLOSED)
        sound = phase is BreakerPhase.CLOSED and not problem
        fields = {"status": "up" if sound else "degraded", "circuitBreaker": phase.value, "error": problem or None}
        wanted = not problem or name in self._parts.settings.tree.inference.providers
        return Checked(fields, "ok" if sound else "degraded", wanted)

    def _no_providers(self, why: str) -> Entries:
        from knowledge_system.application.engine import named_providers

        fields = {"status": "degraded", "circuitBreaker": None, "error": why}
        return {f"provider_{name}": Checked(fields, "degraded") for name in named_providers(self._parts.settings.tree)}

    async def _problems(self) -> dict[str, str]:
        """Return what keeps each provider from being used; made once for each configuration."""
        from knowledge_system.application.engine import named_providers, provider_of

        tree = self._parts.settings.tree
        if self._usable is None or self._usable[0] is not tree:
            made = [provider_of(tree, name) for name in named_providers(tree)]
            for one in made:
                await one.aclose()
            self._usable = (tree, {one.name: one.problem for one in made})
        return self._usable[1]

    async def _budget(self) -> Entries:
        from knowledge_system.application.engine import budget_document, engine_state

        document = budget_document(await (await engine_state(self._parts)).ledger.status())
        warns = document["limit"] > 0 and document["percentage"] > 100 * WARNS_FROM
        fields = {key: document[key] for key in ("spend", "reserved", "limit", "percentage", "tier", "frozen")}
        return {"budget": Checked({"status": "warning" if warns else "ok", **fields}, "degraded" if warns else "ok")}

    async def _cache(self) -> Entries:
        """Return today's share of hits, and what all processes hold; a shared cache that does not answer degrades.

        A low share is shown and does not count: nothing is missing, and who asks new questions is not ill.
        """
        from knowledge_system.domain.caching import HITS

        caches = await self._parts.caches()
        counts = await caches.state.book.counts(self._parts.clock.now())
        asked = sum(one.requests for one in counts if one.result != "bypass")
        hits = sum(one.requests for one in counts if one.result in HITS)
        rate = round(hits / asked, 4) if asked else None
        shared = None if caches.l2 is None else await caches.l2.answers()
        low = rate is not None and asked >= MEASURED_FROM and rate <= HIT_RATE_FROM
        wrong = low or shared is False
        fields = {
            "status": "degraded" if wrong else "ok",
            "hitRate": rate,
            "size": (await caches.state.book.holding()).entries,
            "shared": "off" if shared is None else "up" if shared else "down",
        }
        return {"cache": Checked(fields, "degraded" if shared is False else "ok")}

    async def _capture(self) -> Entries:
        from knowledge_system.application.capturing import last_measured

        measured = await last_measured(self._parts)
        alarms = len(measured["alarms"])
        fields = {"status": "warning" if alarms else "ok", "alarms": alarms, "measured": measured["measured_at"]}
        return {"capture": Checked(fields, "degraded" if alarms else "ok")}

    async def _drift(self) -> Entries:
        """Compare the points that the index should hold by now with those it holds."""
        database = await self._parts.database()
        expected = (await database.census().flow()).points
        held = (await (await self._parts.index()).status()).points
        drift = abs(expected - held)
        wrong = drift > max(1, DRIFT_SHARE * expected)
        fields = {"status": "warning" if wrong else "ok", "expected": expected, "held": held, "drift": drift}
        return {"index_drift": Checked(fields, "degraded" if wrong else "ok")}

    async def _disk(self) -> Entries:
        usage = await self._apart(lambda: shutil.disk_usage(self._parts.settings.home))
        low = usage.free < LOW_DISK_BYTES
        fields = {"status": "warning" if low else "ok", "free": usage.free, "size": usage.total}
        return {"disk": Checked(fields, "degraded" if low else "ok")}

    async def _memory(self) -> Entries:
        monitor = self._parts.memory()
        rss = await self._apart(monitor.resident)
        high = rss > monitor.limit
        fields = {"status": "warning" if high else "ok", "rss": rss, "limit": monitor.limit}
        return {"memory": Checked(fields, "degraded" if high else "ok")}


def report_document(health: Health, report: Report, *, detailed: bool) -> Document:
    """Return a report as JSON; without details only what a load balancer needs."""
    document: Document = {"timestamp": health.now(), "status": report.status}
    return {**document, "checks": report.document()} if detailed else document


def _down(why: str) -> Entries:
    return {"sqlite": Checked({"status": "down", "latency": None, "error": why}, "failed")}


def _index_down(why: str) -> Entries:
    return {"qdrant": Checked({"status": "down", "latency": None, "error": why}, "failed")}


def _unknown(name: str) -> Callable[[str], Entries]:
    return lambda why: {name: Checked({"status": "unknown", "error": why}, "degraded")}


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
