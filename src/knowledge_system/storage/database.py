"""The truth in SQL: opens a database, brings it up to date, and hands out the ports."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from sqlalchemy import select

from knowledge_system.domain.truth import Truth
from knowledge_system.storage.audit_log import SqlAuditLog
from knowledge_system.storage.breaker_state import SqlBreakers
from knowledge_system.storage.budget_ledger import SqlBudgetLedger
from knowledge_system.storage.cache_state import SqlCacheBook, SqlGeneration
from knowledge_system.storage.census import SqlCensus
from knowledge_system.storage.connections import Connections, parse_url
from knowledge_system.storage.cost_report import SqlCostReport
from knowledge_system.storage.exchanges import SqlExchanges
from knowledge_system.storage.ingest import SqlIngestLog
from knowledge_system.storage.injections import SqlFeedback, SqlInjections
from knowledge_system.storage.items import SqlItems
from knowledge_system.storage.ledger import SqlLedger
from knowledge_system.storage.outbox import SqlOutbox
from knowledge_system.storage.questions import SqlQuestions
from knowledge_system.storage.schema import instance
from knowledge_system.storage.setting_changes import SqlSettingChanges
from knowledge_system.storage.trajectories import SqlTrajectories
from knowledge_system.storage.upgrade import bring_to_head
from knowledge_system.storage.vectors import SqlVectors

if TYPE_CHECKING:
    from knowledge_system.domain.caching import CacheBook, Questions
    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.feedback import FeedbackLog
    from knowledge_system.domain.injection import Injections
    from knowledge_system.domain.money import AuditLog, Breakers, BudgetLedger
    from knowledge_system.domain.trajectory import Trajectories
    from knowledge_system.storage.budget_standing import BudgetRules


@dataclass(frozen=True, slots=True)
class EngineState:
    """What all processes that call models share."""

    ledger: BudgetLedger
    breakers: Breakers
    audit: AuditLog


@dataclass(frozen=True, slots=True)
class CacheState:
    """What all processes that cache share."""

    generation: SqlGeneration
    book: CacheBook
    questions: Questions


@dataclass(frozen=True, slots=True)
class PathState:
    """What happens around knowledge: where sessions stand, what they were shown, what was said about it."""

    trajectories: Trajectories
    injections: Injections
    feedback: FeedbackLog


class Database:
    """An open database. Use `open`; `close` when done."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self.connections = connections
        self._clock = clock

    @classmethod
    async def open(cls, url: str, clock: Clock) -> Self:
        """Open the database at `url` (`sqlite:////path/analytics.db`, `postgresql://…`), created or migrated as needed.

        Raises UsageError (address), NewerSchema, IntegrityFailure (not a sound database of ours),
        DependencyUnavailable (full or read-only disk, no server), Busy (another process holds it).
        """
        parsed = parse_url(url)
        connections = Connections(parsed)
        await asyncio.to_thread(bring_to_head, parsed, connections.place)
        return cls(connections, clock)

    def truth(self) -> Truth:
        """Return the ports."""
        parts = (self.connections, self._clock)
        return Truth(
            ingest=SqlIngestLog(*parts),
            exchanges=SqlExchanges(*parts),
            items=SqlItems(*parts),
            vectors=SqlVectors(*parts),
            outbox=SqlOutbox(*parts),
            ledger=SqlLedger(*parts),
        )

    def engine_state(self, rules: BudgetRules | None = None) -> EngineState:
        """Return the engine's shared state. Without `rules` nothing may be spent until somebody sets a limit."""
        parts = (self.connections, self._clock)
        return EngineState(SqlBudgetLedger(*parts, rules), SqlBreakers(*parts), SqlAuditLog(*parts))

    def cache_state(self) -> CacheState:
        """Return what processes share about their caches."""
        parts = (self.connections, self._clock)
        return CacheState(SqlGeneration(*parts), SqlCacheBook(*parts), SqlQuestions(*parts))

    def path_state(self) -> PathState:
        """Return trajectories, injections and feedback."""
        parts = (self.connections, self._clock)
        return PathState(SqlTrajectories(*parts), SqlInjections(*parts), SqlFeedback(*parts))

    def setting_changes(self) -> SqlSettingChanges:
        """Return settings changed at run time."""
        return SqlSettingChanges(self.connections, self._clock)

    def cost_report(self) -> SqlCostReport:
        """Return what reports costs."""
        return SqlCostReport(self.connections, self._clock)

    def census(self) -> SqlCensus:
        """Return what counts the truth cheaply."""
        return SqlCensus(self.connections, self._clock)

    async def instance_id(self) -> str:
        """Return the random identity this database got when it was created; copies share it."""
        async with self.connections.read() as connection:
            return str(await connection.scalar(select(instance.c.value).where(instance.c.key == "instance_id")))

    async def close(self) -> None:
        """Close all connections. Calling it twice is fine."""
        await self.connections.close()
