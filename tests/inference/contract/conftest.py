"""Every implementation of the engine's shared state, under the same tests.

A world is one clock with the ledger, breakers and audit log that share it. Add an implementation by adding its name to
`WORLDS` and its world to `_built`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from tests.storage.conftest import migrated_postgres, migrated_sqlite, postgres, postgres_url, sqlite_url

from knowledge_system.domain.money import AuditLog, Breakers, BudgetLedger
from knowledge_system.storage.budget_standing import BudgetRules
from knowledge_system.storage.database import Database
from knowledge_system.testing.inference import MemoryAudit, MemoryBreakers, MemoryLedger

WORLDS = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
LIMIT = 1_000_000
DATABASES = (migrated_postgres, migrated_sqlite, postgres, postgres_url, sqlite_url)  # fixtures of the storage tests


class SettableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 5, 10, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def advance(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


@dataclass
class World:
    """The parts of one implementation; its ledger begins with `LIMIT`."""

    clock: SettableClock
    ledger: BudgetLedger
    breakers: Breakers
    audit: AuditLog


@asynccontextmanager
async def _built(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    clock = SettableClock()
    if request.param == "memory":
        audit = MemoryAudit()
        yield World(clock, MemoryLedger(clock, LIMIT, audit=audit), MemoryBreakers(clock, audit), audit)
        return
    database = await Database.open(request.getfixturevalue(f"{request.param}_url"), clock)
    state = database.engine_state(BudgetRules(LIMIT))
    yield World(clock, state.ledger, state.breakers, state.audit)
    await database.close()


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with _built(request) as built:
        yield built


@pytest.fixture
def clock(world: World) -> SettableClock:
    return world.clock


@pytest.fixture
def ledger(world: World) -> BudgetLedger:
    return world.ledger


@pytest.fixture
def breakers(world: World) -> Breakers:
    return world.breakers


@pytest.fixture
def audit(world: World) -> AuditLog:
    return world.audit
