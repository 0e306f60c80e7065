"""Statements that run all the time must be answered from an index: no scan of a table, no sort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from tests.storage.samples import SPACE, exchange, item, minute, session, state, vector

from knowledge_system.domain.truth import IngestBatch, Learned
from knowledge_system.storage.hot_queries import COUNTS, HOT_QUERIES
from knowledge_system.storage.path_queries import PATH_HOT_QUERIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from knowledge_system.storage.database import Database

ROWS = 400


@pytest.fixture
async def filled(database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection to a database with rows of every kind, and statistics about them."""
    truth = database.truth()
    names = [f"{number:04}" for number in range(ROWS)]
    exchanges = [
        exchange(name, session_id=f"s{number % 20}", project=f"p{number % 7}", timestamp=minute(number))
        for number, name in enumerate(names)
    ]
    sessions = tuple(session(f"s{number}", started_at=minute(number), project=f"p{number % 7}") for number in range(20))
    await truth.ingest.save(IngestBatch(sessions, tuple(exchanges), state()))
    items = [
        item(name, name, created_at=minute(number), project=f"p{number % 7}", session_id=f"s{number % 20}")
        for number, name in enumerate(names)
    ]
    await truth.items.learn(Learned(judged={one.id: "item" for one in exchanges[:-9]}, created=tuple(items)))
    await truth.vectors.put(SPACE, {name: vector() for name in names})
    await truth.vectors.refer({one.id: [one.id[1:]] for one in exchanges})
    async with database.connections.write() as connection:
        await connection.execute(text("ANALYZE"))
    async with database.connections.read() as connection:
        yield connection


async def plan(connection: AsyncConnection, statement: Select[Any]) -> list[str]:
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    prefix = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN ANALYZE"
    rows = await connection.exec_driver_sql(f"{prefix} {compiled}".replace("%", "%%"))
    return [row[-1] for row in rows]


async def test_hot_queries_search_an_index_and_never_sort(filled: AsyncConnection) -> None:
    plans = {name: await plan(filled, build()) for name, build in {**HOT_QUERIES, **PATH_HOT_QUERIES}.items()}
    assert all(plans.values())
    if filled.dialect.name == "sqlite":  # PostgreSQL rightly prefers to scan tables this small
        bad = {name: lines for name, lines in plans.items() if any(_reads_too_much(line) for line in lines)}
        assert bad == {}


async def test_counts_read_an_index_only(filled: AsyncConnection) -> None:
    plans = {name: await plan(filled, build()) for name, build in COUNTS.items()}
    assert all(plans.values())
    if filled.dialect.name == "sqlite":
        bad = {name: lines for name, lines in plans.items() if not all("INDEX" in line for line in lines)}
        assert bad == {}


def _reads_too_much(line: str) -> bool:
    return line.startswith("SCAN") or "TEMP B-TREE" in line
