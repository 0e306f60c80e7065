"""What processes share about their caches, in SQL: the generation that makes answers unreachable, and the counts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from knowledge_system.domain.caching import CacheCount, Holding
from knowledge_system.domain.clock import to_stored
from knowledge_system.storage.engine_queries import CACHE_GENERATION
from knowledge_system.storage.engine_schema import cache_generation, cache_holdings, cache_requests
from knowledge_system.storage.port import SqlPort, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Table

HEARD_WITHIN = timedelta(minutes=2)
"""A process that was not heard of for longer holds nothing: it notes what it holds every half minute."""
KEEP_DAYS = 400
"""Days whose counts are kept: a year can be compared with the one before."""
_ROW = 1


class SqlGeneration(SqlPort):
    """A number in the database: whoever advances it empties the caches of every process on this database."""

    @uninterrupted
    async def current(self) -> int:
        """Return the number, 0 before the first advance."""
        return await self._connections.look(lambda connection: connection.scalar(CACHE_GENERATION) or 0)

    @uninterrupted
    async def advance(self) -> int:
        """Add one for everybody; return the new number."""

        def apply(connection: Connection) -> int:
            now = self._clock.now()
            fresh = _insert(connection, cache_generation).values(id=_ROW, number=1, advanced_at=now)
            number = cache_generation.c.number + 1
            moved = fresh.on_conflict_do_update(index_elements=["id"], set_={"number": number, "advanced_at": now})
            connection.execute(moved)
            return int(connection.scalar(CACHE_GENERATION) or 0)

        return await self._connections.change(apply)


class SqlCacheBook(SqlPort):
    """The port `CacheBook` on SQL."""

    @uninterrupted
    async def add(self, process: str, counts: Sequence[CacheCount], holding: Holding | None) -> None:
        """Add counts to today's and note what a process holds, in one transaction."""

        def apply(connection: Connection) -> None:
            now = self._clock.now()
            _count(connection, counts, _day(now))
            _hold(connection, process, holding, now)

        await self._connections.change(apply)

    @uninterrupted
    async def counts(self, since: datetime | None = None) -> list[CacheCount]:
        """Return the sums by operation and result."""
        columns = cache_requests.c
        sums = func.sum(columns.requests), func.sum(columns.saved_nano)
        statement = select(columns.operation, columns.result, *sums).group_by(columns.operation, columns.result)
        if since is not None:
            statement = statement.where(columns.day >= _day(since))
        ordered = statement.order_by(columns.operation, columns.result)
        rows = await self._connections.look(lambda connection: connection.execute(ordered).all())
        return [CacheCount(operation, result, int(times), int(saved)) for operation, result, times, saved in rows]

    @uninterrupted
    async def holding(self) -> Holding:
        """Return the sums over the processes that were heard of within `HEARD_WITHIN`."""
        columns = cache_holdings.c
        sums = func.coalesce(func.sum(columns.entries), 0), func.coalesce(func.sum(columns.bytes), 0), func.count()
        statement = select(*sums).where(columns.seen_at > self._clock.now() - HEARD_WITHIN)
        row = await self._connections.look(lambda connection: connection.execute(statement).one())
        return Holding(*(int(value) for value in row))


def _count(connection: Connection, counts: Sequence[CacheCount], today: str) -> None:
    if not counts:
        return
    columns = cache_requests.c
    statement = _insert(connection, cache_requests)
    added = {name: columns[name] + statement.excluded[name] for name in ("requests", "saved_nano")}
    statement = statement.on_conflict_do_update(index_elements=["day", "operation", "result"], set_=added)
    names = ("operation", "result", "requests", "saved_nano")
    rows = [{"day": today, **{name: getattr(one, name) for name in names}} for one in counts]
    connection.execute(statement, rows)


def _hold(connection: Connection, process: str, holding: Holding | None, now: datetime) -> None:
    columns = cache_holdings.c
    connection.execute(delete(cache_holdings).where(columns.seen_at <= now - HEARD_WITHIN))
    connection.execute(delete(cache_requests).where(cache_requests.c.day < _day(now - timedelta(days=KEEP_DAYS))))
    if holding is None:
        connection.execute(delete(cache_holdings).where(columns.process == process))
        return
    values = {"entries": holding.entries, "bytes": holding.bytes, "seen_at": now}
    statement = _insert(connection, cache_holdings).values(process=process, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["process"], set_=values))


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can be given a conflict clause."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _day(moment: datetime) -> str:
    return to_stored(moment)[:10]
