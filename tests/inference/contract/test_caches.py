"""What the shared state of caches promises: generation, counts, kept questions; in memory and on both engines."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.inference.contract.conftest import WORLDS, SettableClock

from knowledge_system.domain.caching import AskedQuestion, CacheBook, CacheCount, Holding, Questions
from knowledge_system.domain.embedding import EmbeddingSpace, Vector
from knowledge_system.domain.search import SearchLogEntry
from knowledge_system.inference.generation import Generation, OwnGeneration
from knowledge_system.storage.database import Database
from knowledge_system.testing.caching import MemoryCacheBook, MemoryQuestions

SPACE = EmbeddingSpace("small", 2, "1")
OTHER = EmbeddingSpace("small", 2, "2")


@dataclass
class Common:
    """One implementation of what caches share, and its clock."""

    clock: SettableClock
    generation: Generation
    book: CacheBook
    questions: Questions
    database: Database | None = None
    searches: list[SearchLogEntry] = field(default_factory=list)

    async def search(self, query: str | None, query_hash: str = "") -> None:
        """Log a search as it would be logged: without its text when that is sensitive."""
        entry = SearchLogEntry(self.clock.now(), query, query_hash or f"hash of {query}", "all")
        self.searches.append(entry)
        if self.database is not None:
            await self.database.truth().ledger.log_search(entry)


@pytest.fixture(params=WORLDS)
async def common(request: pytest.FixtureRequest) -> AsyncIterator[Common]:
    clock = SettableClock()
    if request.param == "memory":
        searches: list[SearchLogEntry] = []
        book, questions = MemoryCacheBook(clock), MemoryQuestions(searches)
        yield Common(clock, OwnGeneration(), book, questions, searches=searches)
        return
    database = await Database.open(request.getfixturevalue(f"{request.param}_url"), clock)
    state = database.cache_state()
    yield Common(clock, state.generation, state.book, state.questions, database)
    await database.close()


async def test_the_generation_begins_at_nothing_and_only_grows(common: Common) -> None:
    assert await common.generation.current() == 0
    assert await common.generation.advance() == 1
    assert await common.generation.current() == 1


async def test_no_advance_is_lost_among_many(common: Common) -> None:
    numbers = await asyncio.gather(*(common.generation.advance() for _ in range(10)))
    assert sorted(numbers) == list(range(1, 11))
    assert await common.generation.current() == 10


async def test_counts_of_all_processes_add_up(common: Common) -> None:
    await common.book.add("a", [CacheCount("extract", "l1", 2, 30), CacheCount("extract", "miss", 1)], None)
    await common.book.add("b", [CacheCount("extract", "l1", 3, 10), CacheCount("title", "l2", 1, 5)], None)
    await common.book.add("b", [], None)
    assert await common.book.counts() == [
        CacheCount("extract", "l1", 5, 40),
        CacheCount("extract", "miss", 1, 0),
        CacheCount("title", "l2", 1, 5),
    ]


async def test_counts_belong_to_days(common: Common) -> None:
    yesterday = common.clock.now()
    await common.book.add("a", [CacheCount("extract", "l1", 1, 1)], None)
    common.clock.advance(days=1)
    await common.book.add("a", [CacheCount("extract", "l1", 10, 10)], None)
    assert await common.book.counts(yesterday) == [CacheCount("extract", "l1", 11, 11)]
    assert await common.book.counts(common.clock.now()) == [CacheCount("extract", "l1", 10, 10)]
    common.clock.advance(days=1)
    assert await common.book.counts(common.clock.now()) == []


async def test_a_process_is_counted_as_long_as_it_is_heard_of(common: Common) -> None:
    assert await common.book.holding() == Holding(0, 0, 0)
    await common.book.add("a", [], Holding(5, 500))
    await common.book.add("b", [], Holding(1, 100))
    await common.book.add("a", [], Holding(7, 700))
    assert await common.book.holding() == Holding(8, 800, 2)
    common.clock.advance(seconds=90)
    await common.book.add("b", [], Holding(2, 200))
    common.clock.advance(seconds=31)
    assert await common.book.holding() == Holding(2, 200, 1)
    await common.book.add("b", [], None)
    assert await common.book.holding() == Holding(0, 0, 0)


COUNTS = st.lists(
    st.builds(
        CacheCount,
        st.sampled_from(["extract", "title", "ébauche"]),
        st.sampled_from(["l1", "l2", "miss"]),
        st.integers(0, 2**31),
        st.integers(0, 2**40),
    ),
    max_size=6,
    unique_by=lambda one: (one.operation, one.result),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(COUNTS, max_size=4))
async def test_the_book_agrees_with_arithmetic(common: Common, batches: list[list[CacheCount]]) -> None:
    """The book is one for all examples; each has days of its own."""
    common.clock.advance(days=3)
    since, requests, saved = common.clock.now(), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for batch in batches:
        await common.book.add("a", batch, None)
        common.clock.advance(hours=7)
        for one in batch:
            requests[one.operation, one.result] += one.requests
            saved[one.operation, one.result] += one.saved_nano
    found = {(one.operation, one.result): one for one in await common.book.counts(since)}
    assert {key: (one.requests, one.saved_nano) for key, one in found.items()} == {
        key: (requests[key], saved[key]) for key in requests
    }


def vector(value: float) -> Vector:
    return array("f", [value, 0.0])


async def test_kept_vectors_come_back_newest_first_by_space(common: Common) -> None:
    for number, key in enumerate("abc"):
        await common.questions.keep(SPACE, {key: vector(number)})
        common.clock.advance(seconds=1)
    await common.questions.keep(OTHER, {"d": vector(9)})
    assert await common.questions.kept(SPACE, 10) == {"c": vector(2), "b": vector(1), "a": vector(0)}
    assert list(await common.questions.kept(SPACE, 2)) == ["c", "b"]
    assert await common.questions.kept(SPACE, 0) == {}
    assert await common.questions.count() == 4


async def test_keeping_again_makes_it_the_newest_and_keeps_the_vector(common: Common) -> None:
    await common.questions.keep(SPACE, {"a": vector(1)})
    common.clock.advance(seconds=1)
    await common.questions.keep(SPACE, {"b": vector(2)})
    common.clock.advance(seconds=1)
    await common.questions.keep(SPACE, {"a": vector(1)})
    assert await common.questions.kept(SPACE, 1) == {"a": vector(1)}
    assert await common.questions.count() == 2


async def test_released_questions_are_gone(common: Common) -> None:
    await common.questions.keep(SPACE, {"a": vector(1), "b": vector(2)})
    assert await common.questions.release() == 2
    assert (await common.questions.kept(SPACE, 10), await common.questions.count()) == ({}, 0)
    assert await common.questions.release() == 0
    await common.questions.keep(SPACE, {})
    assert await common.questions.count() == 0


async def test_the_most_asked_come_first_and_sensitive_ones_only_as_a_number(common: Common) -> None:
    begin = common.clock.now()
    await common.search("too old")
    common.clock.advance(days=1)
    for query in ("twice", "once", "thrice", "twice", "thrice", "also once", "thrice"):
        await common.search(query)
    for query_hash in ("s1", "s2", "s1"):
        await common.search(None, query_hash)
    found, hidden = await common.questions.most_asked(begin + timedelta(hours=1), 3)
    assert found == [AskedQuestion("thrice", 3), AskedQuestion("twice", 2), AskedQuestion("also once", 1)]
    assert hidden == 2
    assert await common.questions.most_asked(common.clock.now() + timedelta(seconds=1), 3) == ([], 0)
