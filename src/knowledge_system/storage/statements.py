"""Small pieces of SQL that both engines understand: chunked lookups, upserts, cursors."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from knowledge_system.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Column, Connection, Insert, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

CHUNK = 500
"""Values in one IN list: far below every engine's limit, and a statement that is worth caching."""


def chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """Yield the distinct `values` in order, `CHUNK` at a time."""
    distinct = iter(dict.fromkeys(values))
    while part := list(itertools.islice(distinct, CHUNK)):
        yield part


async def present(connection: AsyncConnection, column: Column[Any], values: Iterable[str]) -> set[str]:
    """Return those of `values` that occur in `column`."""
    found: set[str] = set()
    for part in chunks(values):
        found.update((await connection.scalars(select(column).where(column.in_(part)))).all())
    return found


async def erase(connection: AsyncConnection, column: Column[Any], values: Iterable[str]) -> int:
    """Delete the rows whose `column` is one of `values`; return how many."""
    count = 0
    for part in chunks(values):
        count += (await connection.execute(delete(column.table).where(column.in_(part)))).rowcount
    return count


def upserting(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can be given a conflict clause, for the engine of that name."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


async def insert_new(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving those alone that are there already."""
    if rows:
        await connection.execute(upserting(connection.dialect.name, table).on_conflict_do_nothing(), rows)


def insert_or_replace(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; one that is there already takes the new values."""
    if rows:
        connection.execute(_replacing(connection.dialect.name, table, tuple(rows[0])), rows)


@cache
def _replacing(dialect: str, table: Table, names: tuple[str, ...]) -> Insert:
    """Return the statement of `insert_or_replace`, built once: building costs as much as running it."""
    keys = [column.name for column in table.primary_key]
    statement = upserting(dialect, table)
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def write_cursor(*parts: str | int) -> str:
    """Return a position in a listing as opaque text."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def read_cursor(cursor: str, kinds: tuple[type, ...]) -> list[Any]:
    """Invert `write_cursor`. Raises UsageError when `cursor` is not one of ours for this listing."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise _no_cursor() from error
    if not isinstance(parts, list) or len(parts) != len(kinds):
        raise _no_cursor()
    if any(type(part) is not kind for part, kind in zip(parts, kinds, strict=True)):
        raise _no_cursor()
    return parts


def _no_cursor() -> UsageError:
    return UsageError("The cursor does not belong to this listing.", hint="start over without it")
