"""Changes that the index has still to follow: one row per owner, renumbered whenever the owner changes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, literal, select, true, update

from knowledge_system.domain.truth import OutboxEntry
from knowledge_system.storage import hot_queries
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.schema import exchanges, knowledge_items, outbox
from knowledge_system.storage.statements import upserting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection


async def announce(connection: AsyncConnection, owners: Iterable[str]) -> None:
    """Enter owners that changed, in the transaction that changed them."""
    rows = [{"owner_id": owner, "stage": "words"} for owner in dict.fromkeys(owners)]
    if rows:
        statement = upserting(connection, outbox)
        fresh = {"sequence": statement.excluded.sequence, "stage": statement.excluded.stage}
        await connection.execute(statement.on_conflict_do_update(index_elements=["owner_id"], set_=fresh), rows)


class SqlOutbox(SqlPort):
    """The port `Outbox` on SQL."""

    @uninterrupted
    async def pending(self, stage: str, limit: int) -> list[OutboxEntry]:
        """Return the oldest entries of a stage."""
        async with self._connections.read() as connection:
            rows = (await connection.execute(hot_queries.pending(stage, limit))).all()
        return [OutboxEntry(row.sequence, row.owner_id, row.stage) for row in rows]

    @uninterrupted
    async def advance(self, entries: Sequence[OutboxEntry], to: str | None) -> None:
        """Move entries to stage `to`, or remove them when `to` is None; entries that changed meanwhile stay."""
        if not entries:
            return
        same = (outbox.c.sequence == bindparam("entry")) & (outbox.c.owner_id == bindparam("owner"))
        rows = [{"entry": one.sequence, "owner": one.owner_id} for one in entries]
        statement = delete(outbox).where(same) if to is None else update(outbox).where(same).values(stage=to)
        async with self._connections.write() as connection:
            await connection.execute(statement, rows)

    @uninterrupted
    async def depth(self) -> dict[str, int]:
        """Return the number of entries by stage."""
        async with self._connections.read() as connection:
            rows = await connection.execute(hot_queries.count_by(outbox.c.stage))
            return {stage: count for stage, count in rows}  # noqa: C416 -- rows are no tuples to the type checker

    @uninterrupted
    async def fill(self, stage: str) -> int:
        """Enter every living owner at `stage`; one that still waits for its words keeps waiting."""
        count = 0
        async with self._connections.write() as connection:
            for owner in (exchanges.c.id, knowledge_items.c.id):
                living = select(owner, literal(stage)).where(true())
                statement = upserting(connection, outbox).from_select(["owner_id", "stage"], living)
                fresh = {"sequence": statement.excluded.sequence, "stage": statement.excluded.stage}
                waiting = outbox.c.stage == "words"
                await connection.execute(
                    statement.on_conflict_do_update(index_elements=["owner_id"], set_=fresh, where=~waiting)
                )
                count += await connection.scalar(hot_queries.count(owner)) or 0
        return count
