"""How the index follows the truth: what is flushed when, embedded once, and what waits for what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.retrieval.nouns import World, exchange, item

from knowledge_system.domain.embedding import Vector
from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.retrieval.indexing import WORDS_PIECE, Indexer, exchange_document
from knowledge_system.testing.embedding import HashingEmbeddingModel


class HeldModel(HashingEmbeddingModel):
    """Embeds when it is let go, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.asked: list[str] = []
        self.missing = False

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.asked += texts
        self.begun.set()
        await self.go.wait()
        if self.missing:
            raise ModelUnavailable("no weights", hint="install them")
        return await super().embed(texts)


async def waiting(world: World, stage: str) -> list[str]:
    return [entry.owner_id for entry in await world.truth.outbox.pending(stage, 1000)]


async def test_words_of_many_are_flushed_once() -> None:
    world = World()
    await world.add(
        *(exchange(f"{number:03}", f"word{number}") for number in range(3 * WORDS_PIECE + 5)), indexed=False
    )
    assert await world.indexer.index_words() == 3 * WORDS_PIECE + 5
    assert world.index.flushes == 1
    assert len(await waiting(world, "vectors")) == 3 * WORDS_PIECE + 5
    assert await world.indexer.index_words() == 0


async def test_what_changed_is_finished_with_one_flush_and_the_rest_goes_on_waiting() -> None:
    world = World()
    await world.add(exchange("a", "an older question"), indexed=False)
    await world.indexer.index_words()
    before = world.index.flushes
    await world.add(item("b", "A newer item"), exchange("c", "secret", sensitivity=Sensitivity.SECRET), indexed=False)
    assert await world.indexer.index_new() == 2
    assert world.index.flushes == before + 1
    assert await waiting(world, "words") == []
    assert await waiting(world, "vectors") == [exchange("a", "").id]
    status = await world.index.status()
    assert status.points > status.vectors > 0


async def test_without_a_model_what_changed_is_found_by_words() -> None:
    model = HeldModel()
    model.missing = True
    model.go.set()
    world = World(model=model)
    await world.add(exchange("a", "a question"), indexed=False)
    with pytest.raises(ModelUnavailable):
        await world.indexer.index_new()
    assert await waiting(world, "words") == []
    assert (await world.index.status()).points == 1


async def test_a_text_that_is_being_embedded_is_not_embedded_again() -> None:
    model = HeldModel()
    world = World(model=model)
    passages = exchange_document(exchange("a", "Why?", "Because. " * 300)).passages
    first = asyncio.create_task(world.indexer.vectors(passages[:2]))
    second = asyncio.create_task(world.indexer.vectors(passages[1:]))
    await model.begun.wait()
    model.go.set()
    found = await first | await second
    assert set(found) == {one.content_hash for one in passages}
    assert sorted(model.asked) == sorted({one.text for one in passages})


@pytest.mark.parametrize("cancelled", [False, True], ids=["fails", "is-cancelled"])
async def test_who_waits_for_an_embedding_that_comes_to_nothing_makes_it(*, cancelled: bool) -> None:
    model = HeldModel()
    model.missing = not cancelled
    indexer: Indexer = World(model=model).indexer
    passages = exchange_document(exchange("a", "Why?", "Because.")).passages
    first = asyncio.create_task(indexer.vectors(passages))
    await model.begun.wait()
    second = asyncio.create_task(indexer.vectors(passages))
    if cancelled:
        first.cancel()
    model.go.set()
    with pytest.raises(asyncio.CancelledError if cancelled else ModelUnavailable):
        await first
    model.missing = False
    assert len(await second) == len({one.content_hash for one in passages})
