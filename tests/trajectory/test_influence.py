"""What the path does for learning and ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.retrieval.nouns import item
from tests.trajectory import sessions

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.knowledge import Candidate, Episode, Evidence, KnowledgeType, Verdict
from knowledge_system.domain.search import SearchRequest
from knowledge_system.domain.sessions import Session, SourceState
from knowledge_system.domain.truth import IngestBatch, Page
from knowledge_system.extraction.learning import Learning, LearningOptions, LearningTally
from knowledge_system.retrieval.indexing import Indexer
from knowledge_system.retrieval.ranking import LEAST, MOST, _item_factor
from knowledge_system.testing.embedding import HashingEmbeddingModel
from knowledge_system.testing.index import MemoryIndex
from knowledge_system.testing.trajectory import MemoryTrajectories
from knowledge_system.testing.truth import memory_truth
from knowledge_system.testing.truth_store import Store
from knowledge_system.trajectory.intents import shipped_model
from knowledge_system.trajectory.tracking import Tracker

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_items_learned_doing_the_same_are_a_little_preferred_and_it_is_said() -> None:
    debugging = replace(item("k1", "a title"), intent="debugging")
    plain, _ = _item_factor(SearchRequest("why"), debugging, NOW)
    same, why = _item_factor(SearchRequest("why", for_intent="debugging"), debugging, NOW)
    other, said = _item_factor(SearchRequest("why", for_intent="testing"), debugging, NOW)
    assert plain == other < same < 1.05 * plain
    assert LEAST <= same <= MOST
    assert "learned while debugging, as now" in why
    assert all("as now" not in one for one in said)


def test_an_item_without_intent_and_a_search_without_one_do_not_match() -> None:
    bare = replace(item("k1", "a title"), intent=None)
    assert _item_factor(SearchRequest("why"), bare, NOW) == _item_factor(
        SearchRequest("why", for_intent="testing"), bare, NOW
    )


class Certain:
    """Finds an item of confidence 0.8 in every exchange."""

    version = "certain-1"

    async def judge(self, episodes: Sequence[Episode]) -> list[Verdict]:
        return [Verdict(one.exchange.id, (self._candidate(one),)) for one in episodes]

    def _candidate(self, episode: Episode) -> Candidate:
        one = episode.exchange
        evidence = (Evidence(one.id, "assistant", 0, len(one.assistant)),)
        return Candidate(KnowledgeType.BUG_SOLUTION, one.user, f"{one.user} {one.assistant}", 0.8, evidence)


@pytest.mark.parametrize("informed", [True, False], ids=["with-paths", "without"])
async def test_what_was_learned_while_blocked_is_less_sure_and_what_was_checked_surer(informed: bool) -> None:  # noqa: FBT001 -- a parameter
    clock, embedding = SystemClock(), HashingEmbeddingModel()
    store = Store(clock)
    truth, index, paths = memory_truth(clock, store), MemoryIndex(embedding.space), MemoryTrajectories(store)
    for name, story in (("a", sessions.blocked_loop()), ("b", sessions.fixed_bug())):
        made = tuple(sessions.renamed(story, name))
        state = SourceState(f"/logs/{name}.jsonl", "jsonl", 1, 1, "", len(made))
        session = Session(name, "shop", "coder", "jsonl", f"/logs/{name}.jsonl")
        await truth.ingest.save(IngestBatch((session,), made, state))
        points = Tracker(shipped_model()).track(made)
        await paths.save(points, {one.id: one.content_hash for one in made})

    options = LearningOptions(paths=paths if informed else None)
    learning = Learning(truth, index, Indexer(truth, index, embedding), Certain(), options)
    await learning.run(LearningTally(), clock, lambda _: None)

    found, _ = await truth.items.page(Page())
    sure = {one.evidence[0].exchange_id: one.confidence for one in found}
    assert sure["a-x000"] == 0.8
    assert (sure["a-x001"], sure["b-x001"]) == (pytest.approx((0.6, 0.84)) if informed else (0.8, 0.8))
    assert {one.intent for one in found} == {"debugging", None}
