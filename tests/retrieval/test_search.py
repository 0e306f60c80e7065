from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.retrieval.nouns import ANSWER, NOW, StandingClock, World, days_ago, exchange, ids, item, open_scrub

from knowledge_system.domain.errors import DependencyUnavailable, ModelUnavailable, UsageError
from knowledge_system.domain.events import SearchAnswered
from knowledge_system.domain.knowledge import Evidence, ItemStatus, KnowledgeType
from knowledge_system.domain.search import Accuracy, Scope, SearchRequest, SearchResponse
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.retrieval.candidates import UNKNOWN_TIME
from knowledge_system.retrieval.excerpts import EXCERPT_CHARACTERS
from knowledge_system.retrieval.search import DEFAULT_THRESHOLD, MANY, Searcher, query_hash
from knowledge_system.testing.embedding import HashingEmbeddingModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.index import IndexHits, IndexQuery
    from knowledge_system.testing.index import MemoryIndex

DEADLOCK = "The migration deadlocks because two workers take the locks in a different order; take them sorted."
COLOURS = "The palette widget uses the theme colours; set them in the stylesheet of the dialog window."


class BreakableModel(HashingEmbeddingModel):
    broken = False

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if self.broken:
            raise ModelUnavailable("no weights", hint="install them")
        return await super().embed(texts)


async def ask(world: World, query: str = "migration deadlocks workers locks", **values: Any) -> SearchResponse:
    return await world.searcher.search(SearchRequest(query, **{"threshold": 0.0, **values}))


@pytest.fixture
async def world() -> World:
    world = World(model=BreakableModel())
    await world.add(
        exchange("lock", "Why does the migration hang?", DEADLOCK, index=3),
        exchange("colour", "How do I change the palette?", COLOURS),
        item("lock", "Take locks in sorted order", DEADLOCK, type=KnowledgeType.BUG_SOLUTION, intent="debugging"),
        item("colour", "Set colours in the stylesheet", COLOURS, type=KnowledgeType.CODING_PATTERN, project="ui"),
    )
    return world


class TestScopes:
    async def test_everything(self, world: World) -> None:
        assert ids(await ask(world))[0] == "klock"

    @pytest.mark.parametrize(
        ("scope", "first", "kinds"), [("items", "klock", {"item"}), ("exchanges", "xlock", {"exchange"})]
    )
    async def test_one_kind(self, world: World, scope: str, first: str, kinds: set[str]) -> None:
        response = await ask(world, scope=Scope(scope))
        assert response.results[0].id == first
        assert {hit.kind for hit in response.results} == kinds

    async def test_the_exchange_behind_a_leading_item_stands_at_the_end(self, world: World) -> None:
        found = ids(await ask(world))
        assert found.index("klock") < found.index("kcolour") < found.index("xlock")


class TestFilters:
    async def test_type_leaves_items_of_that_type_only(self, world: World) -> None:
        assert ids(await ask(world, types=("coding_pattern",))) == ["kcolour"]

    async def test_project(self, world: World) -> None:
        response = await ask(world, projects=("ui",))
        assert ids(response) == ["kcolour"]
        assert "same project" in response.results[0].why

    async def test_intent(self, world: World) -> None:
        assert ids(await ask(world, intents=("debugging",))) == ["klock"]

    async def test_limit(self, world: World) -> None:
        assert len(ids(await ask(world, limit=1))) == 1

    async def test_since_and_as_of(self) -> None:
        world = World()
        await world.add(*(exchange(str(days), f"deadlock {days}", timestamp=days_ago(days)) for days in (1, 50, 300)))
        assert set(ids(await ask(world, "deadlock", since=days_ago(60)))) == {"x1", "x50"}
        assert set(ids(await ask(world, "deadlock", as_of=days_ago(40)))) == {"x50", "x300"}
        assert ids(await ask(world, "deadlock", since=days_ago(60), as_of=days_ago(40))) == ["x50"]

    async def test_replaced_items_are_hidden_unless_asked_for(self) -> None:
        world = World()
        old = item(
            "old",
            "Lock the table",
            status=ItemStatus.SUPERSEDED,
            superseded_by="knew",
            valid_to=days_ago(5),
            valid_from=days_ago(90),
            evidence=(),
        )
        new = item("new", "Lock the row", valid_from=days_ago(5), evidence=())
        await world.add(new, old)
        assert ids(await ask(world, "lock the table")) == ["knew"]
        both = await ask(world, "lock the table", include_deprecated=True)
        assert ids(both) == ["knew", "kold"]
        assert both.results[1].superseded_by == "knew"

    async def test_looking_back_shows_what_was_known_then(self) -> None:
        world = World()
        old = item(
            "old",
            "Lock the table",
            status=ItemStatus.SUPERSEDED,
            superseded_by="knew",
            valid_to=days_ago(5),
            valid_from=days_ago(90),
            evidence=(),
        )
        new = item("new", "Lock the row", valid_from=days_ago(5), evidence=())
        await world.add(new, old)
        back = await ask(world, "lock the table", as_of=days_ago(30))
        assert ids(back) == ["kold"]
        assert back.results[0].superseded_by is None

    async def test_conditions_hold_on_the_truth_even_when_the_index_is_behind(self, world: World) -> None:
        await world.truth.items.load([item("moved", "migration deadlocks", project="elsewhere", evidence=())])
        await world.add(item("here", "migration deadlocks here", evidence=()))
        stale = [point for point in world.index._points.values() if point.point.owner_id == "kmoved"]
        for point in stale:
            assert point.point.payload["project"] == "elsewhere"
        await world.truth.items.supersede("khere", "kmoved", NOW)
        assert "khere" not in ids(await ask(world, "migration deadlocks here"))


class TestHits:
    async def test_an_exchange(self, world: World) -> None:
        hit = (await ask(world, scope=Scope.EXCHANGES)).results[0]
        assert (hit.kind, hit.type, hit.confidence, hit.superseded_by) == ("exchange", None, None, None)
        assert hit.title == "Why does the migration hang?"
        assert hit.content == DEADLOCK
        assert hit.freshness == "fresh"
        (source,) = hit.source
        assert (source.path, source.session_id, source.exchange_index) == ("/logs/lock.jsonl", "s-lock", 3)

    async def test_the_reasons_name_meaning_words_and_age(self, world: World) -> None:
        why = (await ask(world, scope=Scope.EXCHANGES)).results[0].why
        assert any(reason.startswith("matches by meaning (0.") and "rank 1" in reason for reason in why)
        assert "matches the words: migration, deadlocks, workers, locks" in why
        assert "from 10 days ago" in why

    async def test_an_item_names_the_exchanges_it_rests_on(self, world: World) -> None:
        evidence = (
            Evidence("xlock", "assistant", 0, 9),
            Evidence("xgone", "user", 0, 3),
            Evidence("xlock", "user", 0, 3),
        )
        await world.add(item("multi", "migration deadlocks often", evidence=evidence))
        hit = next(hit for hit in (await ask(world)).results if hit.id == "kmulti")
        assert [one.path for one in hit.source] == ["/logs/lock.jsonl"]
        assert hit.confidence == 0.8
        assert hit.type == "bug_solution"

    async def test_a_long_answer_is_shown_where_it_matches(self) -> None:
        world = World()
        await world.add(exchange("long", "Report", f"{COLOURS} " * 60 + DEADLOCK + f" {COLOURS}" * 60))
        hit = (await ask(world)).results[0]
        assert "deadlocks because" in hit.content
        assert len(hit.content) <= EXCERPT_CHARACTERS

    async def test_an_exchange_without_a_time(self) -> None:
        world = World()
        await world.add(exchange("a", "deadlock", timestamp=None))
        hit = (await ask(world, "deadlock")).results[0]
        assert hit.created_at == UNKNOWN_TIME
        assert hit.freshness == "unknown"
        assert ids(await ask(world, "deadlock", since=days_ago(9_000))) == []

    async def test_an_exchange_without_a_prompt_or_an_answer(self) -> None:
        world = World()
        await world.add(
            exchange("mute", "", f"deadlock explained\n{ANSWER}"), exchange("open", "deadlock unexplained", "")
        )
        found = {hit.id: hit for hit in (await ask(world, "deadlock")).results}
        assert found["xmute"].title == "deadlock explained"
        assert found["xopen"].content == "deadlock unexplained"
        assert any("hardly any answer" in reason for reason in found["xopen"].why)

    async def test_scores_and_similarities_are_in_range_and_ordered(self, world: World) -> None:
        results = (await ask(world)).results
        assert all(0 <= hit.score <= 1 and 0 <= hit.similarity <= 1 for hit in results)
        shown = [hit for hit in results if not any("told by" in reason for reason in hit.why)]
        assert [hit.score for hit in shown] == sorted((hit.score for hit in shown), reverse=True)


class TestThreshold:
    async def test_the_default_hides_what_has_nothing_to_do_with_the_question(self, world: World) -> None:
        assert ids(await ask(world, "knitting woollen scarves", threshold=None)) == []
        assert ids(await ask(world, threshold=None))[0] == "klock"

    async def test_zero_hides_nothing_and_one_everything(self, world: World) -> None:
        assert len(ids(await ask(world, "knitting woollen scarves", threshold=0.0))) == 4
        assert ids(await ask(world, "knitting woollen scarves", threshold=1.0)) == []

    async def test_every_hit_reaches_the_threshold(self, world: World) -> None:
        response = await ask(world, threshold=0.3)
        assert response.results
        assert all(hit.score >= 0.3 for hit in response.results)
        assert 0 < DEFAULT_THRESHOLD < 0.3


class TestDegraded:
    async def test_texts_without_vectors_are_found_by_words(self) -> None:
        world = World()
        await world.add(exchange("a", "deadlock"), indexed=False)
        await world.indexer.index_words()
        response = await ask(world, "deadlock", threshold=None)
        assert ids(response) == ["xa"]
        assert response.results[0].similarity == 0
        assert "embedding-backlog" in response.degraded

    async def test_what_is_not_indexed_at_all_is_remarked_too(self, world: World) -> None:
        await world.add(exchange("late", "deadlock"), indexed=False)
        assert (await ask(world)).degraded == ("embedding-backlog",)

    async def test_no_backlog_no_remark(self, world: World) -> None:
        assert (await ask(world)).degraded == ()

    async def test_without_a_model_the_words_find(self, world: World) -> None:
        world.model.broken = True
        response = await ask(world, threshold=None)
        assert ids(response)[0] == "klock"
        assert response.degraded == ("embedding-unavailable",)

    async def test_high_accuracy_is_not_there_yet(self, world: World) -> None:
        response = await ask(world, accuracy=Accuracy.HIGH)
        assert response.degraded == ("accuracy-high-unavailable",)
        assert response.results

    async def test_hits_without_a_living_row_are_dropped_and_counted(self, world: World) -> None:
        await world.truth.items.forget(["klock"])
        response = await ask(world)
        assert "klock" not in ids(response)
        assert response.dropped == 1

    async def test_the_next_candidates_take_the_place_of_dropped_ones(self) -> None:
        world = World()
        await world.add(*(exchange(f"{n:03}", f"deadlock number {n}") for n in range(60)))
        await world.truth.exchanges.forget([f"x{n:03}" for n in range(50)])
        response = await ask(world, "deadlock", limit=10)
        assert len(response.results) == 10

    async def test_a_broken_index_is_an_error(self, world: World) -> None:
        world.index.broken = "gone"
        with pytest.raises(DependencyUnavailable):
            await ask(world)


@pytest.mark.parametrize("head_start", [Searcher.head_start, 0.0])
class TestSideBySide:
    async def test_words_are_looked_up_while_the_question_is_embedded(self, head_start: float) -> None:
        model = PatientModel()
        world = World(model=model)
        await world.add(exchange("a", "deadlock"))
        model.said = asyncio.Event()
        index = TellingIndex(world.index, model.said)
        searcher = Searcher(world.truth, index, model, StandingClock(), world.events.append, open_scrub)  # type: ignore[arg-type]
        searcher.head_start = head_start
        async with asyncio.timeout(10):
            assert ids(await searcher.search(SearchRequest("deadlock", threshold=0))) == ["xa"]

    async def test_a_defect_of_the_model_is_not_hidden_by_the_words(self, world: World, head_start: float) -> None:
        model = PatientModel()
        model.defect = RuntimeError("a defect")
        searcher = Searcher(world.truth, world.index, model, StandingClock(), world.events.append, open_scrub)
        searcher.head_start = head_start
        with pytest.raises(RuntimeError, match="a defect"):
            await searcher.search(SearchRequest("deadlock"))


class TestManyAtOnce:
    async def test_the_index_is_asked_once_a_search_and_finds_the_same(self) -> None:
        model = PatientModel()
        world = World(model=model)
        await world.add(*(exchange(f"{n:02}", f"deadlock number {n} of the migration") for n in range(30)))
        questions = [SearchRequest(f"deadlock number {n}", threshold=0.0) for n in range(2 * MANY)]
        alone = [await world.searcher.search(one) for one in questions]
        index = CountingIndex(world.index)
        searcher = Searcher(world.truth, index, model, StandingClock(), world.events.append, open_scrub)  # type: ignore[arg-type]
        model.said = asyncio.Event()
        searches = [asyncio.create_task(searcher.search(one)) for one in questions]
        async with asyncio.timeout(10):
            await index.asked(MANY - 1)
            model.said.set()
            together = await asyncio.gather(*searches)
        assert [(ids(one), [hit.score for hit in one.results]) for one in together] == [
            (ids(one), [hit.score for hit in one.results]) for one in alone
        ]
        assert sorted(index.sizes) == [1] * 2 * (MANY - 1) + [2] * (MANY + 1)

    async def test_the_words_find_without_a_model(self, world: World) -> None:
        world.model.broken = True
        found = await asyncio.gather(*(ask(world, threshold=None) for _ in range(2 * MANY)))
        assert {(ids(one)[0], one.degraded) for one in found} == {("klock", ("embedding-unavailable",))}


class TestBadInput:
    @pytest.mark.parametrize("query", ["", "   ", "\n\t", "\x00\x01", "\u200b"])
    async def test_an_empty_question(self, world: World, query: str) -> None:
        with pytest.raises(UsageError) as caught:
            await ask(world, query)
        assert caught.value.hint

    @pytest.mark.parametrize(
        "values",
        [
            {"limit": 0},
            {"limit": 100_000},
            {"threshold": -0.1},
            {"threshold": 1.5},
            {"since": NOW, "as_of": days_ago(3)},
        ],
    )
    async def test_impossible_options(self, world: World, values: dict[str, Any]) -> None:
        with pytest.raises(UsageError) as caught:
            await ask(world, **values)
        assert caught.value.hint

    async def test_a_huge_question_is_answered(self, world: World) -> None:
        assert ids(await ask(world, "migration deadlocks workers " * 4_000))[0] == "klock"

    async def test_control_characters_and_lone_surrogates_do_no_harm(self, world: World) -> None:
        assert ids(await ask(world, "migration\x00\x1b[31m deadlocks\ud800 workers"))[0] == "klock"

    @given(query=st.text(max_size=60))
    async def test_any_text_is_answered_or_refused_politely(self, query: str) -> None:
        world = World()
        await world.add(exchange("a", "deadlock"))
        with contextlib.suppress(UsageError):
            assert (await ask(world, query)).took_ms >= 0


class TestRecord:
    async def test_a_search_is_announced_and_logged(self, world: World) -> None:
        response = await ask(world, projects=("api",), since=days_ago(30))
        (event,) = world.events
        assert isinstance(event, SearchAnswered)
        assert (event.scope, event.results) == ("all", len(response.results))
        (entry,) = await logged(world)
        assert entry.query == "migration deadlocks workers locks"
        assert entry.query_hash == query_hash("migration  deadlocks workers locks\n")
        assert entry.filters == {"projects": "api", "since": "2026-05-02T00:00:00.000000Z", "threshold": "0"}
        assert entry.top_score == response.results[0].score
        assert (await world.truth.ledger.totals()).searches == 1

    async def test_the_text_of_a_sensitive_question_is_not_logged(self) -> None:
        world = World(scrub=lambda text: (text.replace("hunter2", "[secret:password#1]"), Sensitivity.CONFIDENTIAL))
        await world.add(exchange("a", "the password is wrong"))
        await ask(world, "password hunter2 wrong")
        (entry,) = await logged(world)
        assert entry.query is None
        assert len(entry.query_hash) == 32

    async def test_secrets_in_a_question_reach_neither_the_model_nor_the_words(self) -> None:
        world = World(scrub=lambda text: (text.replace("hunter2", "[secret:password#1]"), Sensitivity.INTERNAL))
        await world.add(
            exchange("a", "hunter2 is no word to search for", "nothing"), exchange("b", "wrong password", ANSWER)
        )
        assert ids(await ask(world, "hunter2 password wrong"))[0] == "xb"
        assert "hunter2" not in str(await logged(world))


class PatientModel(HashingEmbeddingModel):
    """Embeds a question only once something else has happened, when `said` is given."""

    said: asyncio.Event | None = None
    defect: Exception | None = None

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if self.defect is not None:
            raise self.defect
        if self.said is not None:
            await self.said.wait()
        return await super().embed(texts)


class TellingIndex:
    """Tells when it is asked by words."""

    def __init__(self, inner: MemoryIndex, said: asyncio.Event) -> None:
        self._inner = inner
        self._said = said

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        if any(query.words for query in queries):
            self._said.set()
        return await self._inner.query(queries)


class CountingIndex:
    """Keeps how many queries came together each time it was asked."""

    def __init__(self, inner: MemoryIndex) -> None:
        self._inner = inner
        self._was_asked = asyncio.Condition()
        self.sizes: list[int] = []

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        self.sizes.append(len(queries))
        async with self._was_asked:
            self._was_asked.notify_all()
        return await self._inner.query(queries)

    async def asked(self, times: int) -> None:
        async with self._was_asked:
            await self._was_asked.wait_for(lambda: len(self.sizes) >= times)


async def logged(world: World) -> list[Any]:
    await world.searcher.settled()
    return world.truth.ledger._store.searches  # type: ignore[attr-defined]
