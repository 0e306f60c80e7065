"""The rest of the truth: search log, events, totals, checks."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, insert, text

from knowledge_system.domain.errors import IntegrityFailure
from knowledge_system.domain.truth import Totals
from knowledge_system.storage import hot_queries
from knowledge_system.storage.checks import problems
from knowledge_system.storage.finding import found
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.schema import (
    events,
    evidence,
    exchanges,
    knowledge_items,
    knowledge_vectors,
    search_logs,
    sessions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncConnection

    from knowledge_system.domain.search import SearchLogEntry
    from knowledge_system.domain.truth import Found


class SqlLedger(SqlPort):
    """The port `Ledger` on SQL."""

    async def found(self, owners: Sequence[str]) -> Found:
        """Return the living rows of `owners`, exchanges without their tool calls, all of one moment."""
        # Not `uninterrupted`: the read runs to its end in its thread, whoever waits for it.
        return await self._connections.look(lambda connection: found(connection, owners))

    @uninterrupted
    async def log_search(self, *entries: SearchLogEntry) -> None:
        """Append to the search log, in one transaction."""
        rows = [
            {
                "created_at": entry.created_at,
                "query": entry.query,
                "query_hash": entry.query_hash,
                "scope": entry.scope,
                "filters": entry.filters,
                "results": entry.results,
                "top_score": entry.top_score,
                "took_ms": entry.took_ms,
                "dropped": entry.dropped,
            }
            for entry in entries
        ]
        if rows:
            await self._connections.change(lambda connection: connection.execute(insert(search_logs), rows))

    @uninterrupted
    async def record_event(self, kind: str, payload: Mapping[str, str | int | float]) -> None:
        """Append to the event log."""
        row = {"kind": kind, "payload": dict(payload), "created_at": self._clock.now()}
        async with self._connections.write() as connection:
            await connection.execute(insert(events), [row])

    @uninterrupted
    async def totals(self) -> Totals:
        """Return counts over the whole database, all of one moment."""
        async with self._connections.read() as connection:
            return Totals(
                sessions=await _count(connection, sessions.c.id),
                exchanges=await _count(connection, exchanges.c.id),
                items=await _count_by(connection, knowledge_items.c.status),
                unlearned=await connection.scalar(hot_queries.unlearned_count()) or 0,
                evidence=await _count(connection, evidence.c.item_id),
                searches=await _count(connection, search_logs.c.id),
                vectors=await _count_by(connection, knowledge_vectors.c.space),
                sensitivity=await _count_by(connection, exchanges.c.sensitivity),
                bytes_on_disk=await self._bytes(connection),
                last_exchange_at=await connection.scalar(hot_queries.last_exchange()),
            )

    @uninterrupted
    async def check(self) -> list[str]:
        """Return the problems found by the engine's integrity check and by our own invariants; empty when sound."""
        try:
            async with self._connections.read() as connection:
                return await problems(connection)
        except IntegrityFailure as error:  # so broken that the check itself cannot read it
            return [error.message]

    @uninterrupted
    async def owners(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return ids of living items and exchanges in ascending order, after `after`."""
        async with self._connections.read() as connection:
            parts = [
                (await connection.scalars(hot_queries.ids_after(column, after, limit))).all()
                for column in (exchanges.c.id, knowledge_items.c.id)
            ]
        return list(heapq.merge(*parts))[:limit]

    async def _bytes(self, connection: AsyncConnection) -> int:
        if not self._connections.sqlite:
            return int(await connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
        files = (Path(f"{self._connections.place}{suffix}") for suffix in ("", "-wal", "-shm"))
        return sum(file.stat().st_size for file in files if file.exists())


async def _count(connection: AsyncConnection, column: Column[Any]) -> int:
    return await connection.scalar(hot_queries.count(column)) or 0


async def _count_by(connection: AsyncConnection, column: Column[Any]) -> dict[str, int]:
    rows = await connection.execute(hot_queries.count_by(column))
    return {value: count for value, count in rows}  # noqa: C416 -- rows are no tuples to the type checker
