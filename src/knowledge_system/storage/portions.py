"""Exchanges in portions that fit into memory: some have kilobytes, some have megabytes of tool output."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from knowledge_system.storage import hot_queries
from knowledge_system.storage.rows import exchange_of
from knowledge_system.storage.schema import exchanges
from knowledge_system.storage.statements import chunks

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

    from knowledge_system.domain.sessions import Exchange

MOST_CHARACTERS: Final = 8_000_000
"""Characters of a portion, unless a single exchange has more; reading takes about four times as many bytes."""


def portion(connection: Connection, statement: Select[Any], most: int = MOST_CHARACTERS) -> list[Exchange]:
    """Return the first exchanges that `statement` selects, in its order: at least one, then as many as fit."""
    sizes = connection.execute(statement.with_only_columns(exchanges.c.id, exchanges.c.text_length)).all()
    ends = accumulate(size for _, size in sizes)
    ids = [key for place, ((key, _), end) in enumerate(zip(sizes, ends, strict=True)) if end <= most or not place]
    found: dict[str, Exchange] = {}
    for part in chunks(ids):
        rows = connection.execute(hot_queries.exchanges_by_id(part)).mappings()
        found.update((row["id"], exchange_of(row)) for row in rows)
    return [found[key] for key in ids]
