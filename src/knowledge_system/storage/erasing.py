"""Forgetting: erases what was asked for and everything that rests on it alone, and remembers only that it did."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, select, update

from knowledge_system.domain.knowledge import ItemStatus
from knowledge_system.domain.sessions import normalised
from knowledge_system.storage.outbox import announce
from knowledge_system.storage.path_schema import feedback, trajectory
from knowledge_system.storage.schema import (
    evidence,
    exchanges,
    knowledge_items,
    knowledge_vectors,
    links,
    passages,
    sessions,
    tombstones,
)
from knowledge_system.storage.statements import chunks, erase, insert_new, present

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection


async def bury(connection: AsyncConnection, kind: str, ids: Iterable[str], now: datetime) -> None:
    """Leave tombstones."""
    await insert_new(connection, tombstones, [{"id": one, "kind": kind, "forgotten_at": now} for one in ids])


async def erase_exchanges(connection: AsyncConnection, ids: Collection[str], now: datetime) -> int:
    """Erase exchanges, the items that rest on nothing else, and the sessions that have no other; return how many."""
    living = await present(connection, exchanges.c.id, ids)
    if not living:
        return 0
    touched = await present_items(connection, living)
    await erase(connection, evidence.c.exchange_id, living)
    ended, quoting = await _session_traces(connection, living)
    await drop_paths(connection, living)
    await erase(connection, exchanges.c.id, living)
    await _erase_sessions(connection, ended, quoting, now)
    await bury(connection, "exchange", sorted(living), now)
    left = await recount(connection, touched, now)
    await erase_items(connection, touched - left, now)
    await drop_passages(connection, living)
    await connection.run_sync(announce, [*sorted(living), *sorted(left)])
    return len(living)


async def drop_paths(connection: AsyncConnection, ids: Collection[str]) -> None:
    """Erase the trajectories of the sessions of exchanges, to be made again: later points quote earlier prompts."""
    column = exchanges.c.session_id
    sessions_of: set[str] = set()
    for part in chunks(ids):
        sessions_of.update(await connection.scalars(select(column).where(exchanges.c.id.in_(part)).distinct()))
    await erase(connection, trajectory.c.session_id, sessions_of)
    for part in chunks(sessions_of):
        await connection.execute(update(exchanges).where(column.in_(part)).values(tracked_at=None))


async def erase_items(
    connection: AsyncConnection, ids: Collection[str], now: datetime, *, revive: bool = False, tombstone: bool = True
) -> int:
    """Erase items and return how many.

    What they had replaced is replaced by their own successor; without one it is deprecated, or active again with
    `revive`, because its replacement turned out to be none.
    """
    living = await present(connection, knowledge_items.c.id, ids)
    if not living:
        return 0
    orphans = await _relink(connection, living, now, revive=revive)
    await erase(connection, evidence.c.item_id, living)
    await erase(connection, feedback.c.item_id, living)
    await erase(connection, links.c.source_id, living)
    await erase(connection, links.c.target_id, living)
    await erase(connection, knowledge_items.c.id, living)
    if tombstone:
        await bury(connection, "item", sorted(living), now)
    await drop_passages(connection, living)
    await connection.run_sync(announce, [*sorted(living), *sorted(orphans - living)])
    return len(living)


async def present_items(connection: AsyncConnection, exchange_ids: Iterable[str]) -> set[str]:
    """Return the items that rest on any of these exchanges."""
    found: set[str] = set()
    for part in chunks(exchange_ids):
        statement = select(evidence.c.item_id).distinct().where(evidence.c.exchange_id.in_(part))
        found.update((await connection.scalars(statement)).all())
    return found


async def recount(connection: AsyncConnection, item_ids: Iterable[str], now: datetime) -> set[str]:
    """Set the support of items to the exchanges behind them; return those that have any left."""
    support: dict[str, int] = {}
    columns = evidence.c
    for part in chunks(item_ids):
        distinct = func.count(columns.exchange_id.distinct())
        statement = select(columns.item_id, distinct).where(columns.item_id.in_(part)).group_by(columns.item_id)
        support.update({item: count for item, count in await connection.execute(statement)})  # noqa: C416 -- rows
    if support:
        same = knowledge_items.c.id == bindparam("item")
        change = update(knowledge_items).where(same).values(support=bindparam("count"), updated_at=now)
        await connection.execute(change, [{"item": item, "count": count} for item, count in support.items()])
    return set(support)


async def drop_passages(connection: AsyncConnection, owners: Iterable[str]) -> None:
    """Erase what owners refer to, and the vectors that nothing else refers to."""
    hashes: set[str] = set()
    for part in chunks(owners):
        statement = select(passages.c.content_hash).where(passages.c.owner_id.in_(part))
        hashes.update((await connection.scalars(statement)).all())
        await connection.execute(delete(passages).where(passages.c.owner_id.in_(part)))
    await erase(
        connection,
        knowledge_vectors.c.content_hash,
        hashes - await present(connection, passages.c.content_hash, hashes),
    )


async def _relink(connection: AsyncConnection, ids: Collection[str], now: datetime, *, revive: bool) -> set[str]:
    """Detach the items that `ids` had replaced from them; return them."""
    columns = knowledge_items.c
    both = select(columns.id, columns.superseded_by)
    successor: dict[str, str | None] = {}
    replaced: defaultdict[str, list[str]] = defaultdict(list)
    for part in chunks(ids):
        successor.update(
            {row.id: row.superseded_by for row in await connection.execute(both.where(columns.id.in_(part)))}
        )
        for row in await connection.execute(both.where(columns.superseded_by.in_(part))):
            replaced[row.superseded_by].append(row.id)
    for gone, orphans in replaced.items():
        heir = successor[gone]
        while heir in successor:
            heir = successor[heir]
        values = {"superseded_by": heir, "updated_at": now, **_standing(heir, revive=revive)}
        for part in chunks(orphans):
            await connection.execute(update(knowledge_items).where(columns.id.in_(part)).values(values))
    return {orphan for orphans in replaced.values() for orphan in orphans}


def _standing(heir: str | None, *, revive: bool) -> dict[str, str | None]:
    if heir is not None:
        return {}
    if revive:
        return {"status": ItemStatus.ACTIVE.value, "valid_to": None}
    return {"status": ItemStatus.DEPRECATED.value}


async def _session_traces(connection: AsyncConnection, ids: Collection[str]) -> tuple[set[str], set[str]]:
    """Return the sessions that consist of the exchanges `ids` alone, and those whose title quotes one of them."""
    prompts: defaultdict[str, list[str]] = defaultdict(list)
    for part in chunks(ids):
        texts = select(exchanges.c.session_id, exchanges.c.user_text).where(exchanges.c.id.in_(part))
        for row in await connection.execute(texts):
            prompts[row.session_id].append(normalised(row.user_text).casefold())
    ended: set[str] = set()
    quoting: set[str] = set()
    for part in chunks(prompts):
        counts = select(exchanges.c.session_id, func.count()).where(exchanges.c.session_id.in_(part))
        for session, count in await connection.execute(counts.group_by(exchanges.c.session_id)):
            if count == len(prompts[session]):
                ended.add(session)
        for row in await connection.execute(select(sessions.c.id, sessions.c.title).where(sessions.c.id.in_(part))):
            if _quotes(row.title, prompts[row.id]):
                quoting.add(row.id)
    return ended, quoting


async def _erase_sessions(
    connection: AsyncConnection, ended: Collection[str], quoting: Collection[str], now: datetime
) -> None:
    await bury(connection, "session", sorted({*ended, *quoting}), now)
    for part in chunks(quoting):
        await connection.execute(update(sessions).where(sessions.c.id.in_(part)).values(title=""))
    await erase(connection, sessions.c.id, ended)


def _quotes(title: str, prompts: Iterable[str]) -> bool:
    words = normalised(title).casefold().rstrip("….")
    return bool(words) and any(words in prompt for prompt in prompts)
