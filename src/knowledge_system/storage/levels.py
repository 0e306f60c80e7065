"""Levels only rise: that of an exchange when its meaning is judged, that of an item with every exchange behind it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from knowledge_system.domain.sensitivity import Sensitivity, highest
from knowledge_system.storage.erasing import drop_passages, drop_paths, present_items
from knowledge_system.storage.outbox import announce
from knowledge_system.storage.schema import evidence, exchanges, knowledge_items
from knowledge_system.storage.statements import chunks, present

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection


async def raise_levels(connection: AsyncConnection, levels: Mapping[str, Sensitivity]) -> set[str]:
    """Raise exchanges to at least these levels; return the items that rest on those named.

    What becomes secret loses its vectors, and the index hears of it: no model sees a secret text. What becomes more
    than internal must not be quoted by the trajectory of its session, which is erased and made again.
    """
    by_level: defaultdict[Sensitivity, list[str]] = defaultdict(list)
    for key, level in levels.items():
        by_level[level].append(key)
    for level, keys in by_level.items():
        if level.rank > Sensitivity.INTERNAL.rank:
            await drop_paths(connection, await _lower(connection, keys, level))
        await _at_least(connection, exchanges, keys, level)
    secret = await present(connection, exchanges.c.id, by_level[Sensitivity.SECRET])
    await drop_passages(connection, secret)
    await connection.run_sync(announce, sorted(secret))
    return await present_items(connection, levels)


async def follow_sources(connection: AsyncConnection, items: Iterable[str]) -> None:
    """Raise items to the strictest level among the exchanges that they rest on."""
    source = select(evidence.c.item_id, exchanges.c.sensitivity).distinct()
    source = source.join(exchanges, exchanges.c.id == evidence.c.exchange_id)
    found: defaultdict[str, list[Sensitivity]] = defaultdict(list)
    for part in chunks(items):
        for row in await connection.execute(source.where(evidence.c.item_id.in_(part))):
            found[row.item_id].append(Sensitivity(row.sensitivity))
    by_level: defaultdict[Sensitivity, list[str]] = defaultdict(list)
    for item, levels in found.items():
        by_level[highest(levels)].append(item)
    for level, keys in by_level.items():
        await _at_least(connection, knowledge_items, keys, level)


async def _lower(connection: AsyncConnection, keys: Iterable[str], level: Sensitivity) -> set[str]:
    """Return those exchanges that rise when they get at least `level`."""
    lower = [one.value for one in Sensitivity if one.rank < level.rank]
    found: set[str] = set()
    for part in chunks(keys):
        below = exchanges.c.id.in_(part) & exchanges.c.sensitivity.in_(lower)
        found.update(await connection.scalars(select(exchanges.c.id).where(below)))
    return found


async def _at_least(connection: AsyncConnection, table: Table, keys: Iterable[str], level: Sensitivity) -> None:
    lower = [one.value for one in Sensitivity if one.rank < level.rank]
    for part in chunks(keys if lower else ()):
        below = table.c.id.in_(part) & table.c.sensitivity.in_(lower)
        await connection.execute(update(table).where(below).values(sensitivity=level.value))
