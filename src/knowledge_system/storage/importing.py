"""Imports: records of another database, stored as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from knowledge_system.domain.knowledge import KnowledgeItem
from knowledge_system.domain.sessions import Exchange, Session
from knowledge_system.storage.ingest import save_exchanges
from knowledge_system.storage.outbox import announce
from knowledge_system.storage.rows import evidence_rows, item_row, resting_on
from knowledge_system.storage.schema import evidence, exchanges, knowledge_items, links, sessions
from knowledge_system.storage.sessions import forgotten, save_sessions
from knowledge_system.storage.statements import chunks, insert_new, present
from knowledge_system.storage.superseding import RELATION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection


async def load_records(
    connection: AsyncConnection, records: Sequence[KnowledgeItem | Exchange | Session], now: datetime
) -> tuple[int, int]:
    """Store records in whatever order they come; return how many were new and how many known or forgotten."""
    new = await _load_sessions(connection, [one for one in records if isinstance(one, Session)], now)
    imported = [one for one in records if isinstance(one, Exchange)]
    new += len((await connection.run_sync(save_exchanges, imported, now, grow=False)).new)
    new += await _load_items(connection, [one for one in records if isinstance(one, KnowledgeItem)], now)
    return new, len(records) - new


async def _load_sessions(connection: AsyncConnection, imported: Sequence[Session], now: datetime) -> int:
    """Store sessions; one that only stood in for its exchanges (it has no format) is filled."""
    known: set[str] = set()
    for part in chunks(one.id for one in imported):
        real = select(sessions.c.id).where(sessions.c.id.in_(part), sessions.c.format != "")
        known.update((await connection.scalars(real)).all())
    fresh = {one.id: one for one in reversed(imported) if one.id not in known}
    await connection.run_sync(save_sessions, fresh.values(), {}, now)
    return len(fresh)


async def _load_items(connection: AsyncConnection, imported: Sequence[KnowledgeItem], now: datetime) -> int:
    """Store items. Evidence may lie in exchanges that are not here, but not in forgotten ones."""
    ids = [one.id for one in imported]
    known = await present(connection, knowledge_items.c.id, ids) | await connection.run_sync(forgotten, "item", ids)
    spans = [one.exchange_id for item in imported for one in item.evidence]
    buried = await connection.run_sync(forgotten, "exchange", spans)
    fresh: dict[str, KnowledgeItem] = {}
    for item in imported:
        rests_on = tuple(one for one in item.evidence if one.exchange_id not in buried)
        if item.id not in known and item.id not in fresh and (rests_on or not item.evidence):
            fresh[item.id] = resting_on(item, rests_on)
    if not fresh:
        return 0
    here = await present(connection, exchanges.c.id, spans)
    rows = [row for item in fresh.values() for row in evidence_rows(item.id, item.evidence)]
    for row in rows:
        row["imported"] = int(row["exchange_id"] not in here)
    await connection.execute(insert(knowledge_items), [item_row(item) for item in fresh.values()])
    await insert_new(connection, evidence, rows)
    replaced = [
        {"source_id": item.superseded_by, "target_id": item.id, "relation": RELATION, "created_at": now}
        for item in fresh.values()
        if item.superseded_by
    ]
    await insert_new(connection, links, replaced)
    await connection.run_sync(announce, fresh)
    return len(fresh)
