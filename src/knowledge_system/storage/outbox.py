"""Changes that the index has still to follow: one row per owner, renumbered whenever the owner changes again."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, case, delete, literal, select, true, update

from knowledge_system.domain.truth import OutboxEntry
from knowledge_system.storage import hot_queries
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.schema import exchanges, knowledge_items, outbox
from knowledge_system.storage.statements import upserting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Insert


def announce(connection: Connection, owners: Iterable[str]) -> None:
    """Enter owners that changed, in the transaction that changed them."""
    rows = [{"owner_id": owner, "stage": "words"} for owner in dict.fromkeys(owners)]
    if rows:
        connection.execute(_entering(connection.dialect.name), rows)


def announce_marks(connection: Connection, owners: Iterable[str]) -> None:
    """Enter owners of which only marks changed, such as the intent: one that waits for its vectors goes on waiting.

    It gets its marks with the vectors, and its words need not be indexed twice. It is renumbered nevertheless: whoever
    is indexing it now has read the old marks.
    """
    rows = [{"owner_id": owner, "stage": "words"} for owner in dict.fromkeys(owners)]
    if rows:
        connection.execute(_entering(connection.dialect.name, keep="vectors"), rows)


@cache
def _entering(dialect: str, keep: str = "") -> Insert:
    """Return the statement that enters owners or renumbers them; those at stage `keep` stay at it."""
    statement = upserting(dialect, outbox)
    stage = case((outbox.c.stage == keep, outbox.c.stage), else_=statement.excluded.stage)
    fresh = {"sequence": statement.excluded.sequence, "stage": stage}
    return statement.on_conflict_do_update(index_elements=["owner_id"], set_=fresh)


class SqlOutbox(SqlPort):
    """The port `Outbox` on SQL."""

    @uninterrupted
    async def pending(self, stage: str, limit: int) -> list[OutboxEntry]:
        """Return the oldest entries of a stage."""
        statement = hot_queries.pending(stage, limit)
        rows = await self._connections.look(lambda connection: connection.execute(statement).all())
        return [OutboxEntry(row.sequence, row.owner_id, row.stage) for row in rows]

    @uninterrupted
    async def advance(self, entries: Sequence[OutboxEntry], to: str | None) -> None:
        """Move entries to stage `to`, or remove them when `to` is None; entries that changed meanwhile stay."""
        if not entries:
            return
        same = (outbox.c.sequence == bindparam("entry")) & (outbox.c.owner_id == bindparam("owner"))
        rows = [{"entry": one.sequence, "owner": one.owner_id} for one in entries]
        statement = delete(outbox).where(same) if to is None else update(outbox).where(same).values(stage=to)
        await self._connections.change(lambda connection: connection.execute(statement, rows))

    @uninterrupted
    async def depth(self) -> dict[str, int]:
        """Return the number of entries by stage."""
        statement = hot_queries.count_by(outbox.c.stage)
        rows = await self._connections.look(lambda connection: connection.execute(statement).all())
        return {stage: count for stage, count in rows}  # noqa: C416 -- rows are no tuples to the type checker

    @uninterrupted
    async def fill(self, stage: str) -> int:
        """Enter every living owner at `stage`; one that still waits for its words keeps waiting."""
        count = 0
        async with self._connections.write() as connection:
            for owner in (exchanges.c.id, knowledge_items.c.id):
                living = select(owner, literal(stage)).where(true())
                statement = upserting(connection.dialect.name, outbox).from_select(["owner_id", "stage"], living)
                fresh = {"sequence": statement.excluded.sequence, "stage": statement.excluded.stage}
                waiting = outbox.c.stage == "words"
                await connection.execute(
                    statement.on_conflict_do_update(index_elements=["owner_id"], set_=fresh, where=~waiting)
                )
                count += await connection.scalar(hot_queries.count(owner)) or 0
        return count
