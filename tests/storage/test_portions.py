"""Large exchanges are read in small portions, and none of them is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.storage.samples import exchange, minute, save

from knowledge_system.storage import hot_queries
from knowledge_system.storage.portions import MOST_CHARACTERS, portion

if TYPE_CHECKING:
    from knowledge_system.storage.database import Database


async def read(database: Database, limit: int, most: int) -> list[str]:
    statement = hot_queries.unlearned(limit)
    exchanges = await database.connections.look(lambda connection: portion(connection, statement, most))
    return [one.id for one in exchanges]


@pytest.fixture
async def filled(database: Database) -> Database:
    """A database with exchanges of 10, 200, 10 and 10 characters, oldest first."""
    sizes = {"a": 10, "b": 200, "c": 10, "d": 10}
    texts = [
        exchange(name, user="", assistant="x" * size, timestamp=minute(n))
        for n, (name, size) in enumerate(sizes.items())
    ]
    await save(database.truth(), *reversed(texts))
    return database


@pytest.mark.parametrize(
    ("limit", "most", "wanted"),
    [
        (9, MOST_CHARACTERS, ["xa", "xb", "xc", "xd"]),
        (3, MOST_CHARACTERS, ["xa", "xb", "xc"]),
        (9, 210, ["xa", "xb"]),
        (9, 209, ["xa"]),
        (9, 1, ["xa"]),
    ],
    ids=["all", "limit", "exactly", "just-not", "one-too-large"],
)
async def test_a_portion_is_the_beginning_that_fits(filled: Database, limit: int, most: int, wanted: list[str]) -> None:
    assert await read(filled, limit, most) == wanted


async def test_an_empty_backlog_is_an_empty_portion(database: Database) -> None:
    assert await read(database, 9, 100) == []


async def test_portion_after_portion_covers_everything_once(filled: Database) -> None:
    read_ids: list[str] = []
    while some := await read(filled, 9, 25):
        read_ids += some
        await filled.connections.change(
            lambda connection, some=some: [
                connection.exec_driver_sql(f"UPDATE exchanges SET learned_at = 'x' WHERE id = '{one}'") for one in some
            ]
        )
    assert read_ids == ["xa", "xb", "xc", "xd"]
