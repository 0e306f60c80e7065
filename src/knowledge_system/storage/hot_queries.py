"""The statements that run all the time, in one place: a test asks the engine for the plan of each.

Listings compare the whole order key with a position, the end of all keys when there is none: one shape of statement,
served by an index from its first row on.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, and_, bindparam, func, select, tuple_

from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.truth import Page
from knowledge_system.storage.schema import (
    cost_tracking,
    evidence,
    exchanges,
    knowledge_items,
    knowledge_vectors,
    outbox,
    passages,
    search_logs,
    sessions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Select, Table

LAST_ID = "\U0010ffff"
"""Sorts after every identifier."""
FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
FIRST_EXCHANGE = (FIRST_MOMENT, -1, "")
LAST_EXCHANGE = (LAST_MOMENT, 2**31 - 1, LAST_ID)
LAST_PAIR = (LAST_MOMENT, LAST_ID)

EXCHANGE_KEY = (exchanges.c.ordered_at, exchanges.c.exchange_index, exchanges.c.id)
ITEM_KEY = (knowledge_items.c.created_at, knowledge_items.c.id)
SESSION_KEY = (sessions.c.ordered_at, sessions.c.id)


def _bound(columns: Sequence[Column[Any]], values: Sequence[Any]) -> ColumnElement[Any]:
    return tuple_(*(bindparam(None, value, type_=column.type) for column, value in zip(columns, values, strict=True)))


def before(key: Sequence[Column[Any]], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition `key < values`, as one comparison of rows."""
    return tuple_(*key) < _bound(key, values)


def after(key: Sequence[Column[Any]], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition `key > values`."""
    return tuple_(*key) > _bound(key, values)


def _newest(
    table_key: Sequence[Column[Any]], where: Sequence[ColumnElement[bool]], position: Sequence[Any], limit: int
) -> Select[Any]:
    table = table_key[0].table
    descending = [column.desc() for column in table_key]
    return select(table).where(*where, before(table_key, position)).order_by(*descending).limit(limit)


def exchanges_by_id(ids: Sequence[str], *, tools: bool = True) -> Select[Any]:
    """Exchanges by id; their tool calls, most of their bytes, only when wanted."""
    columns = [column for column in exchanges.c if tools or column is not exchanges.c.tools]
    return select(*columns).where(exchanges.c.id.in_(ids))


def items_by_id(ids: Sequence[str]) -> Select[Any]:
    """Items by id."""
    return select(knowledge_items).where(knowledge_items.c.id.in_(ids))


def evidence_of_items(ids: Sequence[str]) -> Select[Any]:
    """Evidence of items."""
    return select(evidence).where(evidence.c.item_id.in_(ids))


def evidence_with_places(ids: Sequence[str]) -> Select[Any]:
    """Evidence of items, and where the exchanges stand; NULL for those that are gone."""
    places = exchanges.c.path, exchanges.c.session_id, exchanges.c.exchange_index
    joined = evidence.outerjoin(exchanges, exchanges.c.id == evidence.c.exchange_id)
    return select(evidence, *places).select_from(joined).where(evidence.c.item_id.in_(ids))


def items_of_exchanges(ids: Sequence[str]) -> Select[Any]:
    """Which items rest on which exchanges."""
    return select(evidence.c.exchange_id, evidence.c.item_id).where(evidence.c.exchange_id.in_(ids))


def exchange_page(page: Page, position: Sequence[Any]) -> Select[Any]:
    """Newest exchanges before `position`."""
    where = []
    if page.session_id is not None:
        where.append(exchanges.c.session_id == page.session_id)
    if page.project is not None:
        where.append(exchanges.c.project == page.project)
    return _newest(EXCHANGE_KEY, where, position, page.limit + 1)


def item_page(page: Page, position: Sequence[Any]) -> Select[Any]:
    """Newest items before `position`."""
    where = []
    if page.session_id is not None:
        where.append(knowledge_items.c.session_id == page.session_id)
    if page.project is not None:
        where.append(knowledge_items.c.project == page.project)
    if page.type is not None:
        where.append(knowledge_items.c.type == page.type)
    if not page.include_inactive:
        where.append(knowledge_items.c.status == "active")
    return _newest(ITEM_KEY, where, position, page.limit + 1)


def session_page(page: Page, position: Sequence[Any]) -> Select[Any]:
    """Newest sessions before `position`."""
    where = [sessions.c.project == page.project] if page.project is not None else []
    return _newest(SESSION_KEY, where, position, page.limit + 1)


def neighbours(session_id: str, position: Sequence[Any], limit: int, *, following: bool) -> Select[Any]:
    """Exchanges of a session next to `position`, the nearest first."""
    return neighbours_of(limit, following=following).params(place_of(session_id, position))


@cache
def neighbours_of(limit: int, *, following: bool) -> Select[Any]:
    """The same, to be run with `place_of`: built once, for learning asks for every exchange."""
    place = tuple_(*(bindparam(f"place_{column.name}", type_=column.type) for column in EXCHANGE_KEY))
    key = tuple_(*EXCHANGE_KEY)
    order = [column.asc() if following else column.desc() for column in EXCHANGE_KEY]
    return (
        select(exchanges)
        .where(exchanges.c.session_id == bindparam("place_session"), key > place if following else key < place)
        .order_by(*order)
        .limit(limit)
    )


def place_of(session_id: str, position: Sequence[Any]) -> dict[str, Any]:
    """Return the parameters of `neighbours_of`."""
    values = {f"place_{column.name}": value for column, value in zip(EXCHANGE_KEY, position, strict=True)}
    return {"place_session": session_id, **values}


def unlearned(limit: int) -> Select[Any]:
    """Exchanges to be judged, oldest first."""
    return (
        select(exchanges)
        .where(exchanges.c.learned_at.is_(None), after(EXCHANGE_KEY, FIRST_EXCHANGE))
        .order_by(*EXCHANGE_KEY)
        .limit(limit)
    )


def pending(stage: str, limit: int) -> Select[Any]:
    """Outbox entries of a stage, oldest first.

    A range instead of an equality, because statistics taken while all entries stood in one stage argue for reading the
    whole table in its own order; in this form only the index has the order asked for.
    """
    same = outbox.c.stage >= stage, outbox.c.stage <= stage
    return select(outbox).where(*same).order_by(outbox.c.stage, outbox.c.sequence).limit(limit)


def vectors_by_hash(space: str, hashes: Sequence[str]) -> Select[Any]:
    """Vectors of one space."""
    columns = knowledge_vectors.c
    return select(columns.content_hash, columns.embedding, columns.last_used_at).where(
        columns.content_hash.in_(hashes), columns.space == space
    )


def passages_of(owners: Sequence[str]) -> Select[Any]:
    """Content hashes of the passages of owners, in order."""
    return (
        select(passages.c.owner_id, passages.c.content_hash)
        .where(passages.c.owner_id.in_(owners))
        .order_by(passages.c.owner_id, passages.c.ordinal)
    )


def _whole_in(space: str) -> ColumnElement[bool]:
    """Match the passage that is the whole text of an owner and has a vector in `space`."""
    columns = knowledge_vectors.c
    same = columns.content_hash == passages.c.content_hash, columns.space == space
    return and_(passages.c.ordinal == 0, select(columns.content_hash).where(*same).exists())


def covered_among(space: str, owners: Sequence[str]) -> Select[Any]:
    """Those of the owners whose whole text has a vector in a space."""
    return select(passages.c.owner_id).where(passages.c.owner_id.in_(owners), _whole_in(space))


def covered_count(space: str) -> Select[Any]:
    """Number of owners whose whole text has a vector in a space."""
    return select(func.count()).select_from(passages).where(_whole_in(space))


def first_of(space: str) -> Select[Any]:
    """One vector of a space, if there is any."""
    return select(knowledge_vectors.c.space).where(knowledge_vectors.c.space == space).limit(1)


def embeddable_among(table: Table, owners: Sequence[str]) -> Select[Any]:
    """Number of living owners of a table that a model may see at all."""
    return select(func.count()).where(table.c.id.in_(owners), table.c.sensitivity != Sensitivity.SECRET.value)


def embeddable_count(table: Table) -> Select[Any]:
    """Number of all rows of a table that a model may see at all."""
    return select(func.count()).where(table.c.sensitivity != Sensitivity.SECRET.value)


def ids_after(column: Column[Any], position: str, limit: int) -> Select[Any]:
    """Ids in ascending order."""
    return select(column).where(column > position).order_by(column).limit(limit)


def items_above(kind: str, confidence: float, limit: int) -> Select[Any]:
    """Newest items of a type from a confidence on (operations guide, query check)."""
    columns = knowledge_items.c
    return (
        select(columns.id, columns.title, columns.created_at)
        .where(and_(columns.type == kind, columns.confidence >= confidence))
        .order_by(columns.created_at.desc())
        .limit(limit)
    )


def cost_between(start: Any, end: Any) -> Select[Any]:
    """Money spent in a period."""
    columns = cost_tracking.c
    return select(func.coalesce(func.sum(columns.cost_nano), 0)).where(
        columns.created_at >= start, columns.created_at < end
    )


def cost_of_provider(provider: str, start: Any) -> Select[Any]:
    """Money and tokens of a provider since a moment, by operation."""
    columns = cost_tracking.c
    return (
        select(columns.operation, func.sum(columns.cost_nano), func.sum(columns.tokens))
        .where(columns.provider == provider, columns.created_at >= start)
        .group_by(columns.operation)
    )


def searches_since(start: Any) -> Select[Any]:
    """Number of searches since a moment."""
    return select(func.count()).select_from(search_logs).where(search_logs.c.created_at >= start)


def count_by(column: Column[Any]) -> Select[Any]:
    """Rows by value of an indexed column."""
    return select(column, func.count()).group_by(column)


def count(column: Column[Any]) -> Select[Any]:
    """All rows of a table."""
    return select(func.count()).select_from(column.table)


def unlearned_count() -> Select[Any]:
    """Number of exchanges to be judged."""
    return select(func.count()).select_from(exchanges).where(exchanges.c.learned_at.is_(None))


def last_exchange() -> Select[Any]:
    """When the newest exchange happened."""
    return select(func.max(exchanges.c.ordered_at))


HOT_QUERIES: dict[str, Callable[[], Select[Any]]] = {
    "exchanges by id": lambda: exchanges_by_id(["xa", "xb"]),
    "items by id": lambda: items_by_id(["ka", "kb"]),
    "evidence of items": lambda: evidence_of_items(["ka", "kb"]),
    "evidence of items with places": lambda: evidence_with_places(["ka", "kb"]),
    "items of exchanges": lambda: items_of_exchanges(["xa", "xb"]),
    "newest exchanges": lambda: exchange_page(Page(), LAST_EXCHANGE),
    "newest exchanges of a project": lambda: exchange_page(Page(project="api"), LAST_EXCHANGE),
    "newest exchanges of a session": lambda: exchange_page(Page(session_id="s1"), LAST_EXCHANGE),
    "newest items": lambda: item_page(Page(), LAST_PAIR),
    "newest items of any status": lambda: item_page(Page(include_inactive=True), LAST_PAIR),
    "newest items of a project": lambda: item_page(Page(project="api"), LAST_PAIR),
    "newest items of a type": lambda: item_page(Page(type="tool_usage"), LAST_PAIR),
    "newest items of a session": lambda: item_page(Page(session_id="s1"), LAST_PAIR),
    "newest items of a type in a project": lambda: item_page(Page(project="api", type="tool_usage"), LAST_PAIR),
    "newest sessions": lambda: session_page(Page(), LAST_PAIR),
    "newest sessions of a project": lambda: session_page(Page(project="api"), LAST_PAIR),
    "exchanges before one": lambda: neighbours("s1", LAST_EXCHANGE, 2, following=False),
    "exchanges after one": lambda: neighbours("s1", FIRST_EXCHANGE, 2, following=True),
    "exchanges to be learned": lambda: unlearned(64),
    "changes for the index": lambda: pending("words", 256),
    "vectors by hash": lambda: vectors_by_hash("model:384:1", ["h1", "h2"]),
    "passages of owners": lambda: passages_of(["xa", "ka"]),
    "owners covered in a space": lambda: covered_among("model:384:1", ["xa", "ka"]),
    "a vector of a space": lambda: first_of("model:384:1"),
    "exchanges that may be embedded": lambda: embeddable_among(exchanges, ["xa", "xb"]),
    "items that may be embedded": lambda: embeddable_among(knowledge_items, ["ka", "kb"]),
    "exchange ids in order": lambda: ids_after(exchanges.c.id, "x", 1000),
    "item ids in order": lambda: ids_after(knowledge_items.c.id, "k", 1000),
    "confident items of a type": lambda: items_above("tool_usage", 0.8, 10),
    "cost of a period": lambda: cost_between(FIRST_MOMENT, LAST_MOMENT),
    "cost of a provider by operation": lambda: cost_of_provider("groq", FIRST_MOMENT),
    "searches of a period": lambda: searches_since(FIRST_MOMENT),
    "newest moment": last_exchange,
}
"""What must never read a whole table or sort: name → the statement with sample values."""

COUNTS: dict[str, Callable[[], Select[Any]]] = {
    "sessions": lambda: count(sessions.c.id),
    "exchanges": lambda: count(exchanges.c.id),
    "evidence": lambda: count(evidence.c.item_id),
    "searches": lambda: count(search_logs.c.id),
    "exchanges to be learned": unlearned_count,
    "items by status": lambda: count_by(knowledge_items.c.status),
    "vectors by space": lambda: count_by(knowledge_vectors.c.space),
    "exchanges by sensitivity": lambda: count_by(exchanges.c.sensitivity),
    "changes for the index by stage": lambda: count_by(outbox.c.stage),
}
"""Counts: they read an index from end to end, but neither the rows nor a sort."""
