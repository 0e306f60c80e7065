"""The port `Census` on SQL: reads of an index or of the items, on the readers of the search."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, select, text

from knowledge_system.domain.census import Counts, Flow, Stock, Storage
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.storage import hot_queries
from knowledge_system.storage.port import SqlPort
from knowledge_system.storage.schema import (
    REVISIONS,
    exchanges,
    knowledge_items,
    knowledge_vectors,
    outbox,
    passages,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select

_LAST = datetime.max.replace(tzinfo=UTC)


class SqlCensus(SqlPort):
    """Counts of one database."""

    @property
    def _file(self) -> str:
        return self._connections.place if self._connections.sqlite else ""

    async def counts(self, since: Sequence[datetime]) -> Counts:
        """Return what is cheap, with what was spent since each of the moments.

        One read: several at once would take turns with the interpreter, and longer.
        """

        def read(connection: Connection) -> Counts:
            spent = (connection.scalar(hot_queries.cost_between(one, _LAST)) or 0 for one in since)
            return Counts(_stock(connection), _flow(connection), _storage(connection, self._file), tuple(spent))

        return await self._connections.look(read)

    async def flow(self) -> Flow:
        """Return what waits."""
        return await self._connections.look(_flow)

    async def storage(self) -> Storage:
        """Return size and schema."""
        return await self._connections.look(lambda connection: _storage(connection, self._file))

    async def embedded(self, space: str) -> dict[str, int]:
        """Return the items by type whose whole text has a vector in a space; empty for a space not in use. Slower."""

        def read(connection: Connection) -> dict[str, int]:
            used = connection.scalar(hot_queries.first_of(space)) is not None
            return _counts(connection, embedded_by_type(space)) if used else {}

        return await self._connections.look(read)

    async def older(self, moment: datetime) -> int:
        """Return how many active items were learned before a moment. Slower."""
        old = knowledge_items.c.status == "active", knowledge_items.c.valid_from < moment
        statement = select(func.count()).select_from(knowledge_items).where(*old)
        return await self._connections.look(lambda connection: connection.scalar(statement) or 0)


def embedded_by_type(space: str) -> Select[Any]:
    """Items by type whose whole text has a vector in `space`."""
    columns = knowledge_vectors.c
    same = columns.content_hash == passages.c.content_hash, columns.space == space
    whole = passages.c.owner_id == knowledge_items.c.id, passages.c.ordinal == 0
    found = exists().where(*whole, exists().where(*same))
    return select(knowledge_items.c.type, func.count()).where(found).group_by(knowledge_items.c.type)


def _stock(connection: Connection) -> Stock:
    kind, owner = knowledge_items.c.type, knowledge_items.c.id
    waiting = select(kind, func.count()).join_from(outbox, knowledge_items, outbox.c.owner_id == owner)
    unheard = outbox.c.stage.in_(("words", "vectors"))
    secret = select(kind).where(knowledge_items.c.sensitivity == Sensitivity.SECRET.value)
    indexed = owner.not_in(select(outbox.c.owner_id).where(unheard))
    return Stock(
        types=_counts(connection, hot_queries.count_by(kind)),
        bare=Counter(_counts(connection, waiting.where(unheard).group_by(kind)))
        + Counter(connection.scalars(secret.where(indexed)).all()),
        statuses=_counts(connection, hot_queries.count_by(knowledge_items.c.status)),
    )


def _flow(connection: Connection) -> Flow:
    return Flow(
        outbox=_counts(connection, hot_queries.count_by(outbox.c.stage)),
        unlearned=connection.scalar(hot_queries.unlearned_count()) or 0,
        points=_points(connection),
    )


def _points(connection: Connection) -> int:
    """Return how many points the index should hold.

    One a passage; one alone for an owner that waits for its vectors, and for a secret one, which never gets any.
    """
    waiting = select(outbox.c.owner_id).where(outbox.c.stage == "vectors")
    of_waiting = select(func.count()).select_from(passages).where(passages.c.owner_id.in_(waiting))
    alone = [select(func.count()).select_from(outbox).where(outbox.c.stage == "vectors")]
    unindexed = select(outbox.c.owner_id).where(outbox.c.stage == "words")
    for table in (exchanges, knowledge_items):
        secret = table.c.sensitivity == Sensitivity.SECRET.value
        alone.append(select(func.count()).select_from(table).where(secret, table.c.id.not_in(unindexed)))
    every = connection.scalar(hot_queries.count(passages.c.owner_id)) or 0
    return every - (connection.scalar(of_waiting) or 0) + sum(connection.scalar(one) or 0 for one in alone)


def _counts(connection: Connection, statement: Select[Any]) -> dict[str, int]:
    return {str(value): int(count) for value, count in connection.execute(statement)}


def _storage(connection: Connection, place: str) -> Storage:
    revision = str(connection.scalar(text("SELECT version_num FROM alembic_version")))
    behind = len(REVISIONS) - 1 - REVISIONS.index(revision) if revision in REVISIONS else 0
    return Storage(_size(place) if place else None, behind)


def _size(place: str) -> int:
    """Return the bytes of the database and of what is written and not folded in yet."""
    files = (Path(place), Path(f"{place}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
