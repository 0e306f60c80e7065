"""Chains of replaced items: each has at most one successor, and no chain returns to its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from knowledge_system.domain.knowledge import ItemStatus
from knowledge_system.storage.schema import knowledge_items, links
from knowledge_system.storage.statements import insert_new

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

RELATION = "supersedes"


async def closes_circle(connection: AsyncConnection, old: str, new: str) -> bool:
    """Tell whether `new` is `old`, or is replaced by it through any number of steps."""
    seen: set[str] = set()
    step: str | None = new
    while step is not None and step not in seen:
        if step == old:
            return True
        seen.add(step)
        step = await connection.scalar(select(knowledge_items.c.superseded_by).where(knowledge_items.c.id == step))
    return False


async def deprecate_item(connection: AsyncConnection, identity: str, at: datetime, now: datetime) -> None:
    """Let an active item be valid until `at` only, with nothing in its place."""
    columns = knowledge_items.c
    active = columns.id == identity, columns.status == ItemStatus.ACTIVE.value
    begun = await connection.scalar(select(columns.valid_from).where(*active))
    values = {
        "status": ItemStatus.DEPRECATED.value,
        "valid_to": max(at, begun) if begun else at,
        "updated_at": now,
    }
    await connection.execute(update(knowledge_items).where(*active).values(values))


async def replace_item(connection: AsyncConnection, old: str, new: str, at: datetime, now: datetime) -> None:
    """Let `new` take the place of `old`: valid until `at`, never shorter than from its own beginning."""
    columns = knowledge_items.c
    begun = await connection.scalar(select(columns.valid_from).where(columns.id == old))
    values = {
        "status": ItemStatus.SUPERSEDED.value,
        "superseded_by": new,
        "valid_to": max(at, begun) if begun else at,
        "updated_at": now,
    }
    await connection.execute(update(knowledge_items).where(columns.id == old).values(values))
    link = {"source_id": new, "target_id": old, "relation": RELATION, "created_at": now}
    await insert_new(connection, links, [link])
