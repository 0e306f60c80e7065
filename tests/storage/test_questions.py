"""Kept questions beside the other vectors of the truth."""

from __future__ import annotations

from array import array
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from tests.storage.samples import SPACE, exchange, save, vector

from knowledge_system.domain.errors import UsageError

if TYPE_CHECKING:
    from tests.storage.samples import HandClock

    from knowledge_system.storage.database import Database


async def test_releasing_leaves_the_vectors_that_something_else_refers_to(database: Database) -> None:
    truth, questions = database.truth(), database.cache_state().questions
    await save(truth, exchange("a"))
    await truth.vectors.put(SPACE, {"shared": vector()})
    await truth.vectors.refer({"xa": ["shared"]})
    await questions.keep(SPACE, {"shared": vector(), "own": vector(0.0, 1.0, 0.0, 0.0)})
    assert await questions.release() == 2
    assert list(await truth.vectors.get(SPACE, ["shared", "own"])) == ["shared"]


async def test_pruning_spares_what_is_kept_again_and_again(database: Database, clock: HandClock) -> None:
    truth, questions = database.truth(), database.cache_state().questions
    await questions.keep(SPACE, {"daily": vector(), "once": vector(0.0, 1.0, 0.0, 0.0)})
    clock.advance(days=40)
    await questions.keep(SPACE, {"daily": vector()})
    assert await truth.vectors.prune([SPACE], clock.now() - timedelta(days=30)) == 1
    assert list(await questions.kept(SPACE, 10)) == ["daily"]


async def test_a_damaged_vector_is_not_handed_out(database: Database) -> None:
    questions = database.cache_state().questions
    await questions.keep(SPACE, {"a": vector(), "b": vector(0.0, 1.0, 0.0, 0.0)})
    async with database.connections.write() as connection:
        await connection.execute(
            text("UPDATE knowledge_vectors SET embedding = substr(embedding, 1, 3) WHERE content_hash = 'a'")
        )
    assert list(await questions.kept(SPACE, 10)) == ["b"]


async def test_a_vector_of_another_dimension_is_refused_and_nothing_is_kept(database: Database) -> None:
    questions = database.cache_state().questions
    with pytest.raises(UsageError):
        await questions.keep(SPACE, {"a": array("f", [1.0])})
    assert await questions.count() == 0
