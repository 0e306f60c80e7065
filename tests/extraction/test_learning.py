"""The flow of learning over fakes: who is asked, what becomes of the answers, what is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.extraction.scripted_model import ScriptedModel, asked

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.inference import Call
from knowledge_system.domain.knowledge import Candidate, Episode, Evidence, ItemStatus, KnowledgeType, Verdict
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange, Session, SourceState
from knowledge_system.domain.truth import IngestBatch, Page
from knowledge_system.extraction.learning import Learning, LearningOptions, LearningTally
from knowledge_system.extraction.model_duplicates import DuplicateJudge, DuplicateOptions
from knowledge_system.extraction.model_use import ModelUse
from knowledge_system.retrieval.indexing import Indexer
from knowledge_system.testing.embedding import HashingEmbeddingModel
from knowledge_system.testing.index import MemoryIndex
from knowledge_system.testing.truth import memory_truth

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
REDIS = "The worker keeps its jobs in Redis lists because Redis runs here anyway and jobs are few and short"
POSTGRES = "The worker keeps its jobs in PostgreSQL rows because Redis is gone, and jobs are few and short now"
STATED = "because Redis is gone"
SAME_AGAIN = "The worker keeps its jobs in Redis lists because Redis runs here already, and jobs are few and tiny"
OTHER = "Dialog colours come from the theme, so a palette change needs no rebuild of any window at all"


class Copying:
    """Makes an item of every answer."""

    version = "copying-1"

    def __init__(self) -> None:
        self.seen: list[Episode] = []

    async def judge(self, episodes: Sequence[Episode]) -> list[Verdict]:
        self.seen += episodes
        return [Verdict(one.exchange.id, (self._candidate(one.exchange),)) for one in episodes]

    def _candidate(self, exchange: Exchange) -> Candidate:
        evidence = (Evidence(exchange.id, "assistant", 0, len(exchange.assistant)),)
        own = {"extractor": "extract-1+copying-1"} if exchange.user == "by a model" else {}
        return Candidate(KnowledgeType.ARCHITECTURAL_DECISION, exchange.user, exchange.assistant, 0.7, evidence, own)


def exchange(number: int, assistant: str, user: str = "Where do jobs live?", **changes: Any) -> Exchange:
    one = Exchange(
        f"x{number}", "s", number, "/logs/s.jsonl", "shop", "coder", user, assistant, f"h{number}",
        timestamp=MOMENT + timedelta(days=number),
    )  # fmt: skip
    return replace(one, **changes)


class World:
    """Learning over fakes."""

    def __init__(self, model: ScriptedModel | None = None, **options: Any) -> None:
        embedding = HashingEmbeddingModel()
        self.truth, self.index = memory_truth(SystemClock()), MemoryIndex(embedding.space)
        self.use = ModelUse(model, SystemClock()) if model else None
        judge = DuplicateJudge(self.use, DuplicateOptions(lowest=0.5)) if self.use else None
        self.extractor = Copying()
        self.learning = Learning(
            self.truth,
            self.index,
            Indexer(self.truth, self.index, embedding),
            self.extractor,
            LearningOptions(duplicate_at=0.97, duplicates=judge, **options),
        )

    async def learn(self, *exchanges: Exchange) -> LearningTally:
        session = Session("s", "shop", "coder", "jsonl", "/logs/s.jsonl")
        state = SourceState("/logs/s.jsonl", "jsonl", 1, 1, "", len(exchanges))
        await self.truth.ingest.save(IngestBatch((session,), exchanges, state, ()))
        tally = LearningTally()
        await self.learning.run(tally, SystemClock(), lambda _: None)
        return tally

    async def items(self) -> dict[str, Any]:
        found, _ = await self.truth.items.page(Page(include_inactive=True))
        return {one.evidence[0].exchange_id: one for one in found}


def says(relation: str, quote: str = "") -> ScriptedModel:
    def answer(_: int, call: Call) -> Mapping[str, Any]:
        (marker,) = re.findall(r"\AThe marker is (\w+)\.", asked(call))
        shown = [int(n) for n in re.findall(rf"(?m)^<<<{marker} PAIR (\d+)>>>$", asked(call))]
        return {"pairs": [{"index": n, "relation": relation, "quote": quote} for n in shown]}

    return ScriptedModel(answer)


@pytest.mark.parametrize("together", [True, False])
async def test_two_tellings_become_one_item_when_the_model_says_so(together: bool) -> None:  # noqa: FBT001 -- a parameter
    world = World(says("same"))
    if together:
        tally = await world.learn(exchange(1, REDIS), exchange(2, SAME_AGAIN))
    else:
        await world.learn(exchange(1, REDIS))
        tally = await world.learn(exchange(2, SAME_AGAIN))

    (item,) = (await world.items()).values()
    assert (item.content, item.support) == (REDIS, 2)
    assert tally.merged == 1


async def test_without_a_model_both_stay() -> None:
    world = World()
    await world.learn(exchange(1, REDIS), exchange(2, SAME_AGAIN))
    assert len(await world.items()) == 2


@pytest.mark.parametrize("together", [True, False])
async def test_an_item_takes_the_place_of_another_when_it_says_so(together: bool) -> None:  # noqa: FBT001 -- a parameter
    world = World(says("supersedes", STATED))
    if together:
        await world.learn(exchange(1, REDIS), exchange(2, POSTGRES))
    else:
        await world.learn(exchange(1, REDIS))
        await world.learn(exchange(2, POSTGRES))

    items = await world.items()
    assert items["x1"].status is ItemStatus.SUPERSEDED
    assert items["x1"].superseded_by == items["x2"].id
    assert items["x2"].metadata["replaces_by"] == {
        "prompt": "judge-duplicate-1",
        "provider": "scripted",
        "model": "m-1",
    }


async def test_what_was_true_later_is_not_replaced_by_what_is_learned_later() -> None:
    world = World(says("supersedes", STATED))
    await world.learn(exchange(5, REDIS))
    await world.learn(exchange(2, POSTGRES))
    assert {one.status for one in (await world.items()).values()} == {ItemStatus.ACTIVE}


async def test_a_refusing_model_leaves_both() -> None:
    world = World(ScriptedModel(lambda *_: ""))
    await world.learn(exchange(1, REDIS), exchange(2, SAME_AGAIN))
    assert len(await world.items()) == 2


async def test_one_chunk_makes_one_call_at_most_and_far_items_none() -> None:
    model = says("different")
    world = World(model)
    await world.learn(exchange(1, REDIS), exchange(2, SAME_AGAIN), exchange(3, POSTGRES), exchange(4, OTHER))
    assert len(model.calls) == 1
    assert "Dialog colours" not in asked(model.calls[0])
    model.calls.clear()
    await World(model).learn(exchange(1, REDIS), exchange(4, OTHER))
    assert model.calls == []


async def test_equal_items_need_no_call() -> None:
    model = says("different")
    world = World(model)
    tally = await world.learn(exchange(1, REDIS), exchange(2, REDIS.upper()))
    assert (model.calls, tally.merged) == ([], 1)


async def test_items_say_who_made_them() -> None:
    world = World()
    await world.learn(exchange(1, REDIS), exchange(2, OTHER, user="by a model"))
    items = await world.items()
    assert items["x1"].metadata["extractor"] == "copying-1"
    assert items["x2"].metadata["extractor"] == "extract-1+copying-1"


async def test_the_extractor_sees_what_was_learned_from_an_exchange_before() -> None:
    world = World()
    await world.learn(exchange(1, REDIS))
    await world.truth.exchanges.reconsider(["x1"])
    await world.learn()
    first, second = world.extractor.seen
    assert first.learned == ()
    assert [one.content for one in second.learned] == [REDIS]
    assert len(await world.items()) == 1


async def test_items_joined_in_one_chunk_have_the_stricter_level() -> None:
    world = World()
    await world.learn(exchange(1, REDIS), exchange(2, REDIS, sensitivity=Sensitivity.CONFIDENTIAL))
    (item,) = (await world.items()).values()
    assert (item.support, item.sensitivity) == (2, Sensitivity.CONFIDENTIAL)


@given(st.lists(st.sampled_from([REDIS, POSTGRES, SAME_AGAIN, OTHER]), min_size=1, max_size=6), st.data())
async def test_whatever_a_model_says_every_exchange_is_judged_once_and_no_evidence_is_lost(
    texts: list[str], data: st.DataObject
) -> None:
    relations = st.sampled_from(["same", "supersedes", "different"])
    world = World(says(data.draw(relations), STATED))
    tally = await world.learn(*(exchange(n, text) for n, text in enumerate(texts)))

    items = (await world.truth.items.page(Page(include_inactive=True)))[0]
    assert tally.judged == len(texts)
    assert {one.exchange_id for item in items for one in item.evidence} == {f"x{n}" for n in range(len(texts))}
    assert all(one.superseded_by in {other.id for other in items} for one in items if one.superseded_by)
