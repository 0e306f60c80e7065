"""Announcing that only marks changed: what waits for its vectors goes on waiting, all else starts from its words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.storage.samples import exchange, save

from knowledge_system.storage.outbox import announce, announce_marks

if TYPE_CHECKING:
    from knowledge_system.domain.truth import OutboxEntry
    from knowledge_system.storage.database import Database


async def entries(database: Database) -> list[OutboxEntry]:
    outbox = database.truth().outbox
    return [entry for stage in ("words", "vectors", "remote") for entry in await outbox.pending(stage, 10)]


@pytest.mark.parametrize(
    ("waits_at", "then"),
    [("words", "words"), ("vectors", "vectors"), ("remote", "words"), (None, "words")],
    ids=["words", "vectors", "another-space", "nothing"],
)
async def test_an_owner_keeps_waiting_for_its_vectors(database: Database, waits_at: str | None, then: str) -> None:
    truth = database.truth()
    await save(truth, exchange("a"))
    (before,) = await entries(database)
    if waits_at != "words":
        await truth.outbox.advance([before], waits_at)
    await database.connections.change(lambda writer: announce_marks(writer, [before.owner_id, before.owner_id]))
    (after,) = await entries(database)
    assert (after.owner_id, after.stage) == (before.owner_id, then)
    assert after.sequence > before.sequence
    await truth.outbox.advance([before], None)  # who had begun with the old marks has not finished it
    assert await entries(database) == [after]


async def test_a_changed_text_starts_from_its_words(database: Database) -> None:
    truth = database.truth()
    await save(truth, exchange("a"))
    await truth.outbox.advance(await entries(database), "vectors")
    await database.connections.change(lambda writer: announce(writer, []))
    (waiting,) = await entries(database)
    assert waiting.stage == "vectors"
    await database.connections.change(lambda writer: announce(writer, [waiting.owner_id]))
    (again,) = await entries(database)
    assert again.stage == "words"
