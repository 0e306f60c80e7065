"""Is the truth sound? The engine's own check, and what must hold between our rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from knowledge_system.domain.clock import from_stored
from knowledge_system.storage.columns import StoredTime
from knowledge_system.storage.schema import metadata

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

SHOWN = 5
"""Examples named for each problem."""


def _without(table: str, column: str, other: str, key: str = "id") -> str:
    return f"SELECT t.{column} FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM {other} o WHERE o.{key} = t.{column})"


def _raised(kind: str, table: str) -> str:
    return f"SELECT t.id FROM tombstones t JOIN {table} o ON o.id = t.id WHERE t.kind = '{kind}'"


_INVARIANTS = {
    "evidence points to an exchange that is not there": (
        _without("evidence", "exchange_id", "exchanges") + " AND t.imported = 0"
    ),
    "evidence belongs to no item": _without("evidence", "item_id", "knowledge_items"),
    "item has no evidence": _without("knowledge_items", "id", "evidence", "item_id"),
    "exchange belongs to no session": _without("exchanges", "session_id", "sessions"),
    "status and successor of an item contradict each other": (
        "SELECT id FROM knowledge_items WHERE (status = 'superseded') <> (superseded_by IS NOT NULL)"
    ),
    "vector has the wrong length": (
        "SELECT content_hash FROM knowledge_vectors WHERE length(embedding) <> 4 * dimension"
    ),
    "forgotten exchange is still there": _raised("exchange", "exchanges"),
    "forgotten item is still there": _raised("item", "knowledge_items"),
}


async def problems(connection: AsyncConnection) -> list[str]:
    """Return one line for each kind of problem, with examples; empty when all is sound."""
    found = await _engine(connection) if connection.dialect.name == "sqlite" else []
    for name, query in _INVARIANTS.items():
        found += _line(name, list((await connection.scalars(text(query))).all()))
    found += _line("replacements go in a circle", await _circles(connection))
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, StoredTime):
                found += await _times(connection, table.name, column.name)
    return found


async def _engine(connection: AsyncConnection) -> list[str]:
    answers = list((await connection.scalars(text("PRAGMA integrity_check"))).all())
    found = [] if answers == ["ok"] else [f"integrity check: {answer}" for answer in answers[:SHOWN]]
    broken = (await connection.execute(text("PRAGMA foreign_key_check"))).all()
    return found + _line("row points nowhere", [f"{row[0]}:{row[1]}" for row in broken])


def _line(name: str, examples: list[str]) -> list[str]:
    if not examples:
        return []
    return [f"{name}: {len(examples)} ({', '.join(map(str, examples[:SHOWN]))})"]


async def _circles(connection: AsyncConnection) -> list[str]:
    rows = await connection.execute(
        text("SELECT id, superseded_by FROM knowledge_items WHERE superseded_by IS NOT NULL")
    )
    successor: dict[str, str] = {old: new for old, new in rows}  # noqa: C416 -- rows are no tuples to the type checker
    sound: set[str] = set()
    circles = []
    for start in successor:
        path: dict[str, None] = {}
        step = start
        while step in successor and step not in sound and step not in path:
            path[step] = None
            step = successor[step]
        if step in path:
            circles.append(step)
        sound.update(path)
    return circles


async def _times(connection: AsyncConnection, table: str, column: str) -> list[str]:
    """Find moments that are not in the stored form: they would sort wrongly without anybody noticing."""
    pattern = "____-__-__T__:__:__.______Z"
    query = text(f"SELECT {column} FROM {table} WHERE {column} NOT LIKE :form")  # names come from our schema
    odd = [value for value in (await connection.scalars(query, {"form": pattern})).all() if not _is_moment(value)]
    return _line(f"{table}.{column} is not in the stored form", odd)


def _is_moment(value: str) -> bool:
    try:
        from_stored(value)
    except ValueError:
        return False
    return True
