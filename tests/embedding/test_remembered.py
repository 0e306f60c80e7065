"""Questions that were asked before are not computed again."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest

from knowledge_system.domain.embedding import EmbeddingSpace, Vector
from knowledge_system.domain.errors import DependencyUnavailable, ModelUnavailable
from knowledge_system.domain.events import CacheConsulted, Event
from knowledge_system.embedding.remembered import RememberingModel, key_of
from knowledge_system.testing.caching import MemoryQuestions
from knowledge_system.testing.embedding import HashingEmbeddingModel


class Ears:
    """Hears how each question went."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def __call__(self, event: Event) -> None:
        assert isinstance(event, CacheConsulted)
        assert event.operation == "embed-query"
        self.results.append(event.result)


async def test_a_question_is_computed_once() -> None:
    inner, ears = HashingEmbeddingModel(), Ears()
    model = RememberingModel(inner, None, 10, ears)
    assert (model.space, model.max_tokens) == (inner.space, inner.max_tokens)
    first = await model.embed(["why?"])
    assert await model.embed(["why?"]) == first == [inner.vector("why?")]
    assert await model.embed(["why not?"]) == [inner.vector("why not?")]
    assert (inner.embedded, ears.results) == (2, ["miss", "l1", "miss"])


async def test_batches_are_neither_remembered_nor_counted() -> None:
    inner, ears = HashingEmbeddingModel(), Ears()
    model = RememberingModel(inner, None, 10, ears)
    for _ in range(2):
        assert await model.embed(["a", "b"]) == [inner.vector("a"), inner.vector("b")]
    assert await model.embed([]) == []
    assert (inner.embedded, ears.results) == (4, [])


async def test_what_another_process_kept_is_the_second_level_and_moves_up() -> None:
    inner, questions, ears = HashingEmbeddingModel(), MemoryQuestions(), Ears()
    await questions.keep(inner.space, {key_of("why?"): inner.vector("why?")})
    model = RememberingModel(inner, questions, 10, ears)
    for _ in range(2):
        assert await model.embed(["why?"]) == [inner.vector("why?")]
    assert (inner.embedded, ears.results) == (0, ["l2", "l1"])


async def test_vectors_of_another_space_are_not_found() -> None:
    inner, questions = HashingEmbeddingModel(), MemoryQuestions()
    await questions.keep(EmbeddingSpace("hashing", 384, "2"), {key_of("why?"): array("f", [0.0] * 384)})
    model = RememberingModel(inner, questions, 10)
    assert await model.embed(["why?"]) == [inner.vector("why?")]
    assert inner.embedded == 1


async def test_the_least_recently_asked_leaves_first() -> None:
    inner = HashingEmbeddingModel()
    model = RememberingModel(inner, None, 2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await model.embed([text])
    assert inner.embedded == 4
    assert await model.cache_stats() == {"size": 2, "bytes": 2 * 384 * 4}


async def test_without_room_nothing_is_remembered() -> None:
    inner, questions = HashingEmbeddingModel(), MemoryQuestions()
    await questions.keep(inner.space, {key_of("a"): inner.vector("a")})
    model = RememberingModel(inner, questions, 0)
    for _ in range(2):
        await model.embed(["a"])
    assert (inner.embedded, (await model.cache_stats())["size"]) == (2, 0)


async def test_preparing_is_not_asking() -> None:
    inner, ears = HashingEmbeddingModel(), Ears()
    model = RememberingModel(inner, None, 10, ears)
    assert await model.prepare("why?") == (inner.vector("why?"), False)
    assert await model.prepare("why?") == (inner.vector("why?"), True)
    await model.embed(["why?"])
    assert (inner.embedded, ears.results) == (1, ["l1"])


async def test_refreshing_finds_what_was_kept_since_and_forgetting_reads_again() -> None:
    inner, questions, ears = HashingEmbeddingModel(), MemoryQuestions(), Ears()
    model = RememberingModel(inner, questions, 10, ears)
    await model.refresh()
    await model.embed(["first"])
    await questions.keep(inner.space, {key_of("later"): inner.vector("later")})
    await model.refresh()
    await model.embed(["later"])
    await questions.release()
    model.forget()
    await model.embed(["later"])
    assert ears.results == ["miss", "l2", "miss"]


class Broken(MemoryQuestions):
    async def kept(self, space: EmbeddingSpace, limit: int) -> dict[str, Vector]:
        del space, limit
        raise DependencyUnavailable("gone", hint="none")


async def test_a_memory_that_cannot_be_read_is_no_error() -> None:
    inner = HashingEmbeddingModel()
    model = RememberingModel(inner, Broken(), 10)
    assert await model.embed(["why?"]) == [inner.vector("why?")]


class Unavailable(HashingEmbeddingModel):
    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        del texts
        raise ModelUnavailable("no weights", hint="install them")


async def test_a_model_that_fails_is_asked_again() -> None:
    model = RememberingModel(Unavailable(), None, 10)
    for _ in range(2):
        with pytest.raises(ModelUnavailable):
            await model.embed(["why?"])
    assert (await model.cache_stats())["size"] == 0
