"""Stored knowledge items."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from knowledge_system.domain.clock import from_stored, to_stored
from knowledge_system.domain.errors import NotFound, UsageError
from knowledge_system.storage import hot_queries
from knowledge_system.storage.erasing import erase_items
from knowledge_system.storage.importing import load_records
from knowledge_system.storage.learning import store_learned
from knowledge_system.storage.outbox import announce
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.rows import evidence_of, item_of
from knowledge_system.storage.schema import knowledge_items
from knowledge_system.storage.statements import chunks, present, read_cursor, write_cursor
from knowledge_system.storage.superseding import closes_circle, deprecate_item, replace_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from knowledge_system.domain.knowledge import Evidence, KnowledgeItem
    from knowledge_system.domain.sessions import Exchange, Session
    from knowledge_system.domain.truth import Learned, Page


def _evidence(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[Evidence, ...]]:
    found: defaultdict[str, list[tuple[int, Evidence]]] = defaultdict(list)
    for part in chunks(ids):
        for row in connection.execute(hot_queries.evidence_of_items(part)).mappings():
            found[row["item_id"]].append((row["position"], evidence_of(row)))
    ordered = {item: sorted(rows, key=lambda row: row[0]) for item, rows in found.items()}
    return {item: tuple(one for _, one in rows) for item, rows in ordered.items()}


class SqlItems(SqlPort):
    """The port `Items` on SQL."""

    @uninterrupted
    async def get(self, ids: Sequence[str]) -> dict[str, KnowledgeItem]:
        """Return the items that exist, by id, in the order asked for, whatever their status."""

        def work(connection: Connection) -> dict[str, KnowledgeItem]:
            found: dict[str, KnowledgeItem] = {}
            evidence = _evidence(connection, ids)
            for part in chunks(ids):
                rows = connection.execute(hot_queries.items_by_id(part)).mappings()
                found.update((row["id"], item_of(row, evidence.get(row["id"], ()))) for row in rows)
            return found

        found = await self._connections.look(work)
        return {key: found[key] for key in ids if key in found}

    @uninterrupted
    async def page(self, page: Page) -> tuple[list[KnowledgeItem], str | None]:
        """Return one page, newest first, and the cursor of the next. Raises UsageError for a foreign cursor."""
        position: Sequence[Any] = hot_queries.LAST_PAIR
        if page.after is not None:
            moment, key = read_cursor(page.after, (str, str))
            position = (from_stored(moment), key)
        async with self._connections.read() as connection:
            rows = (await connection.execute(hot_queries.item_page(page, position))).mappings().all()
            shown, more = rows[: page.limit], len(rows) > page.limit
            evidence = await connection.run_sync(_evidence, [row["id"] for row in shown])
        cursor = write_cursor(to_stored(shown[-1]["created_at"]), shown[-1]["id"]) if more and shown else None
        return [item_of(row, evidence.get(row["id"], ())) for row in shown], cursor

    @uninterrupted
    async def learn(self, learned: Learned) -> None:
        """Store the outcome of learning in one transaction; the caller may repeat it after any failure."""
        async with self._connections.write() as connection:
            await store_learned(connection, learned, self._clock.now())
        if learned.withdrawn:
            await self._connections.checkpoint()

    @uninterrupted
    async def from_exchanges(self, exchange_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the ids of the items that rest on each exchange; exchanges without any are left out."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        async with self._connections.read() as connection:
            for part in chunks(exchange_ids):
                for exchange, item in await connection.execute(hot_queries.items_of_exchanges(part)):
                    found[exchange].add(item)
        return {exchange: sorted(items) for exchange, items in found.items()}

    @uninterrupted
    async def supersede(self, old: str, new: str, at: datetime) -> None:
        """Mark `old` as replaced by `new` at `at`. Raises NotFound, or UsageError when it would close a circle."""
        async with self._connections.write() as connection:
            missing = {old, new} - await present(connection, knowledge_items.c.id, (old, new))
            if missing:
                raise NotFound(f"No item {', '.join(sorted(missing))}.", hint="`knowledge list` shows the ids")
            if await closes_circle(connection, old, new):
                raise UsageError(f"{new} is itself replaced by {old}.", hint="swap the two ids, or forget one of them")
            await replace_item(connection, old, new, at, self._clock.now())
            await connection.run_sync(announce, (old, new))

    @uninterrupted
    async def believe(self, identity: str, confidence: float) -> None:
        """Give an item another confidence."""
        same = knowledge_items.c.id == identity
        async with self._connections.write() as connection:
            await connection.execute(
                update(knowledge_items).where(same).values(confidence=confidence, updated_at=self._clock.now())
            )
            await connection.run_sync(announce, (identity,))

    @uninterrupted
    async def deprecate(self, identity: str, at: datetime) -> None:
        """Let an active item no longer be found by default."""
        async with self._connections.write() as connection:
            await deprecate_item(connection, identity, at, self._clock.now())
            await connection.run_sync(announce, (identity,))

    @uninterrupted
    async def forget(self, ids: Sequence[str]) -> int:
        """Erase items, overwrite the place, and leave tombstones; return how many there were."""
        async with self._connections.write() as connection:
            count = await erase_items(connection, ids, self._clock.now())
        await self._connections.checkpoint()
        return count

    @uninterrupted
    async def load(self, records: Sequence[KnowledgeItem | Exchange | Session]) -> tuple[int, int]:
        """Store imported records as they are, known ids unchanged; return how many were new and how many known.

        What has been forgotten here counts as known and stays forgotten.
        """
        async with self._connections.write() as connection:
            return await load_records(connection, records, self._clock.now())
