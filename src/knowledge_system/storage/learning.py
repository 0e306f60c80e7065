"""The outcome of learning, in one transaction: judged marks, items, evidence, what replaces what."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, select, update

from knowledge_system.storage import hot_queries
from knowledge_system.storage.erasing import drop_passages, erase_items, recount
from knowledge_system.storage.levels import follow_sources, raise_levels
from knowledge_system.storage.outbox import announce
from knowledge_system.storage.rows import evidence_of, evidence_rows, item_row, resting_on
from knowledge_system.storage.schema import evidence, exchanges, knowledge_items
from knowledge_system.storage.sessions import forgotten
from knowledge_system.storage.statements import chunks, erase, insert_new, present
from knowledge_system.storage.superseding import closes_circle, replace_item

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from knowledge_system.domain.knowledge import Evidence, KnowledgeItem
    from knowledge_system.domain.truth import Learned
    from knowledge_system.storage.rows import Row

HISTORY = frozenset({"id", "created_at", "status", "superseded_by", "valid_to"})
"""Columns of an item that stay when it is learned anew."""


async def store_learned(connection: AsyncConnection, learned: Learned, now: datetime) -> None:
    """Store everything that `learned` says, in the order: judged, withdrawn, created, reinforced, superseded, levels.

    Evidence in exchanges that are gone is dropped, and an item left without any is not created.
    """
    await _mark_judged(connection, learned, now)
    created = await _supported(connection, learned.created)
    again = {one.id for one in created} & set(learned.withdrawn)
    await _withdraw(connection, set(learned.withdrawn) - again, set(learned.judged), now)
    await _renew(connection, [one for one in created if one.id in again])
    await _create(connection, created, again, now)
    touched = [one.id for one in created]
    touched += await _reinforce(connection, learned.reinforced, now)
    changed = set(touched)
    for old, new in learned.superseded:
        touched += await _supersede(connection, old, new, now)
    await follow_sources(connection, changed | await raise_levels(connection, learned.levels))
    await connection.run_sync(announce, touched)


async def _mark_judged(connection: AsyncConnection, learned: Learned, now: datetime) -> None:
    columns = exchanges.c
    same = (columns.id == bindparam("judged_id")) & (
        columns.content_hash
        == func.coalesce(bindparam("version", type_=columns.content_hash.type), columns.content_hash)
    )
    statement = update(exchanges).where(same).values(learned_at=now, learn_outcome=bindparam("outcome"))
    rows = [
        {"judged_id": key, "outcome": outcome, "version": learned.versions.get(key)}
        for key, outcome in learned.judged.items()
    ]
    if rows:
        await connection.execute(statement, rows)


async def _supported(connection: AsyncConnection, items: Sequence[KnowledgeItem]) -> list[KnowledgeItem]:
    """Return the items that may be created, each with the evidence that still exists."""
    gone = await connection.run_sync(forgotten, "item", [item.id for item in items])
    living = await present(connection, exchanges.c.id, [one.exchange_id for item in items for one in item.evidence])
    kept = []
    for item in items:
        rests_on = tuple(dict.fromkeys(one for one in item.evidence if one.exchange_id in living))
        if item.id not in gone and rests_on:
            kept.append(resting_on(item, rests_on))
    return kept


async def _withdraw(connection: AsyncConnection, ids: Collection[str], judged: Collection[str], now: datetime) -> None:
    """Take the evidence of the judged exchanges from items; erase those that have no other."""
    others = set()
    for item in await present(connection, knowledge_items.c.id, ids):
        rows = (await connection.scalars(select(evidence.c.exchange_id).where(evidence.c.item_id == item))).all()
        if set(rows) & set(judged) and set(rows) - set(judged):
            others.add(item)
            lost = evidence.c.exchange_id.in_(set(rows) & set(judged))
            await connection.execute(delete(evidence).where(evidence.c.item_id == item, lost))
    await recount(connection, others, now)
    await connection.run_sync(announce, sorted(others))
    await erase_items(connection, set(ids) - others, now, revive=True, tombstone=False)


async def _renew(connection: AsyncConnection, items: Sequence[KnowledgeItem]) -> None:
    """Give items that were learned anew their new text, and keep their place in the history."""
    if not items:
        return
    rows = [{f"new_{name}": value for name, value in item_row(item).items()} for item in items]
    changed: dict[str, Any] = {
        column.name: bindparam(f"new_{column.name}") for column in knowledge_items.c if column.name not in HISTORY
    }
    await connection.execute(
        update(knowledge_items).where(knowledge_items.c.id == bindparam("new_id")).values(changed), rows
    )
    await erase(connection, evidence.c.item_id, [item.id for item in items])
    await drop_passages(connection, [item.id for item in items])


async def _create(
    connection: AsyncConnection, items: Sequence[KnowledgeItem], again: Collection[str], now: datetime
) -> None:
    """Insert items with their evidence; one that is there already keeps its text and gains what evidence is new."""
    known = await present(connection, knowledge_items.c.id, [item.id for item in items]) - set(again)
    await insert_new(connection, knowledge_items, [item_row(item) for item in items])
    grown = await _add_evidence(connection, {item.id: item.evidence for item in items})
    await recount(connection, grown & known, now)


async def _add_evidence(connection: AsyncConnection, added: Mapping[str, Iterable[Evidence]]) -> set[str]:
    """Append evidence that items do not have yet; return the items that gained any."""
    known: defaultdict[str, dict[Evidence, int]] = defaultdict(dict)
    for part in chunks(added):
        for row in (await connection.execute(hot_queries.evidence_of_items(part))).mappings():
            known[row["item_id"]][evidence_of(row)] = row["position"]
    rows: list[Row] = []
    for item, offered in added.items():
        new = [one for one in dict.fromkeys(offered) if one not in known[item]]
        rows += evidence_rows(item, new, max(known[item].values(), default=-1) + 1)
    await insert_new(connection, evidence, rows)
    return {row["item_id"] for row in rows}


async def _reinforce(
    connection: AsyncConnection, reinforced: Sequence[tuple[str, tuple[Evidence, ...], float]], now: datetime
) -> list[str]:
    living = await present(connection, knowledge_items.c.id, [item for item, _, _ in reinforced])
    spans = [one.exchange_id for _, added, _ in reinforced for one in added]
    exchanges_left = await present(connection, exchanges.c.id, spans)
    gained: defaultdict[str, list[Evidence]] = defaultdict(list)
    confidences: dict[str, float] = {}
    for item, added, confidence in reinforced:
        rests_on = [one for one in added if one.exchange_id in exchanges_left]
        if item in living and rests_on:
            gained[item] += rests_on
            confidences[item] = confidence
    await _add_evidence(connection, gained)
    if confidences:
        change = update(knowledge_items).where(knowledge_items.c.id == bindparam("item"))
        rows = [{"item": item, "value": confidence} for item, confidence in confidences.items()]
        await connection.execute(change.values(confidence=bindparam("value")), rows)
    await recount(connection, gained, now)
    return list(gained)


async def _supersede(connection: AsyncConnection, old: str, new: str, now: datetime) -> list[str]:
    """Let `new` take the place of `old` where both exist and `old` is not the newer one already."""
    columns = knowledge_items.c
    rows = await connection.execute(
        select(columns.id, columns.valid_from, columns.superseded_by).where(columns.id.in_((old, new)))
    )
    known = {row.id: row for row in rows}
    if len(known) < len({old, new}) or known[old].superseded_by == new or await closes_circle(connection, old, new):
        return []
    await replace_item(connection, old, new, known[new].valid_from, now)
    return [old, new]
