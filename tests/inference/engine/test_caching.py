"""What is cached, under which key, for how long, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.engine.actors import (
    FakeModel,
    Scene,
    SettableClock,
    after,
    answer,
    ask,
    failed,
    local,
    remote,
    scene,
    until,
)

from knowledge_system.domain.events import CacheConsulted
from knowledge_system.domain.inference import BudgetExhausted, EmbedCall, FailureKind, Message, NoProvider, Reply
from knowledge_system.domain.money import Hold
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.canonical import request
from knowledge_system.inference.memory_cache import MemoryCache
from knowledge_system.inference.options import EngineOptions
from knowledge_system.testing.inference import MemoryResponses

PURE = {"temperature": 0}


async def asked_twice(stage: Scene, first: Any, second: Any = None) -> bool:
    """Return whether the second call was answered from the cache."""
    await stage.engine.infer(first)
    return (await stage.engine.infer(second or first)).cached


async def test_a_hit_spends_nothing_sends_nothing_and_says_so() -> None:
    groq = FakeModel("groq", answer("once", data={"a": [1]}, confidence=0.5, message={"role": "assistant"}))
    stage = scene(remote(groq))
    first = await stage.engine.infer(ask(**PURE))
    spent = await stage.ledger.status()
    second = await stage.engine.infer(ask(**PURE))
    assert len(groq.seen) == 1
    assert (second.cached, second.cost_nano, second.attempts) == (True, 0, ())
    assert second.route == "cache l1; first providerPriority: groq (groq-model)"
    assert replace(second, cached=False, cost_nano=10, attempts=first.attempts, route=first.route) == first
    assert await stage.ledger.status() == spent
    assert len(stage.audit.rows) == 1


@pytest.mark.parametrize(
    ("fields", "cached"),
    [
        ({}, False),
        ({"temperature": 0}, True),
        ({"temperature": 0.0}, True),
        ({"temperature": 0.7}, True),
        ({"temperature": 0.7, "strategy": "latency-optimized"}, False),
        ({"temperature": 0, "strategy": "latency-optimized"}, True),
        ({"cacheable": True}, True),
        ({"temperature": 0, "cacheable": False}, False),
        ({"idempotency_key": "k"}, True),
    ],
)
async def test_t30_an_omitted_temperature_is_not_0(*, fields: dict[str, Any], cached: bool) -> None:
    assert await asked_twice(scene(remote(FakeModel("groq"))), ask(**fields)) == cached


@pytest.mark.parametrize(
    "reply", [answer("", message={}), answer(" "), answer("0", data=0), answer("null", data=False)]
)
async def test_falsy_answers_are_cached_like_any_other(reply: Reply) -> None:
    stage = scene(remote(FakeModel("groq", reply)))
    assert await asked_twice(stage, ask(**PURE))


@pytest.mark.parametrize("finish", ["length", "refusal", "content_filter", "unknown"])
async def test_t29_truncations_and_refusals_are_never_cached(finish: str) -> None:
    stage = scene(remote(FakeModel("groq", answer(finish=finish))))
    assert not await asked_twice(stage, ask(**PURE))


async def test_t29_errors_and_answers_without_the_data_that_was_asked_for_are_never_cached() -> None:
    groq = FakeModel("groq", failed(FailureKind.REFUSED), answer("no data"))
    stage = scene(remote(groq))
    with pytest.raises(NoProvider):
        await stage.engine.infer(ask(schema={}, **PURE))
    assert not await asked_twice(stage, ask(schema={}, **PURE))


DIFFERENT = [
    {"messages": (Message("user", "other"),)},
    {"messages": (Message("system", "hello"),)},
    {"messages": (Message("user", "hello", {"name": "bob"}),)},
    {"messages": (Message("user", ({"type": "text", "text": "hello"},)),)},
    {"operation": "title"},
    {"project": "web"},
    {"prompt_version": "2"},
    {"max_output": 7},
    {"temperature": 0.5},
    {"schema": {"type": "object"}},
    {"parameters": {"num_ctx": 8192}},
    {"parameters": {"unheard_of": None}},
    {"sensitivity": Sensitivity.INTERNAL},
    {"sensitivity": Sensitivity.CONFIDENTIAL},
    {"strategy": "quality-optimized"},
]


@pytest.mark.parametrize("change", DIFFERENT)
async def test_t27_requests_that_differ_in_any_field_never_meet(change: dict[str, Any]) -> None:
    stage = scene(local(FakeModel("local", answer("x", data={}))))
    assert not await asked_twice(stage, ask(**PURE), replace(ask(**PURE), **change))
    assert await asked_twice(stage, ask(**PURE))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.builds(
    ask,
    st.text(max_size=6),
    parameters=st.dictionaries(st.text(max_size=4), JSON, max_size=3),
    project=st.text(max_size=3),
    prompt_version=st.text(max_size=3),
)


@given(CALLS, CALLS)
def test_t27_equal_texts_mean_equal_requests(one: Any, other: Hold) -> None:
    same = repr((one.messages, one.project, one.prompt_version)) == repr(
        (other.messages, other.project, other.prompt_version)
    ) and canonical_equal(one.parameters, other.parameters)
    assert (request(one) == request(other)) == same


def canonical_equal(one: Any, other: Hold) -> bool:
    """Compare as JSON does: types matter, the order of keys does not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(canonical_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(canonical_equal, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


async def test_t28_an_answer_lies_under_the_model_that_gave_it() -> None:
    groq, openai = (
        FakeModel("groq", failed(FailureKind.SERVER), answer("groq's own")),
        FakeModel("openai", answer("fallback")),
    )
    stage = scene(remote(groq), remote(openai))
    assert (await stage.engine.infer(ask(**PURE))).text == "fallback"
    pinned = await stage.engine.infer(ask(provider="groq", **PURE))
    assert (pinned.text, pinned.cached) == ("groq's own", False)
    assert (await stage.engine.infer(ask(provider="openai", **PURE))).cached


async def test_the_key_is_the_asked_model_also_when_the_provider_calls_it_by_another_name() -> None:
    stage = scene(remote(FakeModel("groq", answer(model="groq-model-2026-05-01"))))
    assert await asked_twice(stage, ask(**PURE))


async def test_t31_levels_have_keyspaces_of_their_own() -> None:
    stage = scene(local(FakeModel("local")))
    for level in (Sensitivity.PUBLIC, Sensitivity.INTERNAL, Sensitivity.CONFIDENTIAL):
        assert not (await stage.engine.infer(ask(sensitivity=level, **PURE))).cached


async def test_an_idempotency_key_finds_the_first_result_and_no_other_call_does() -> None:
    groq = FakeModel("groq", answer("1"), answer("2"), answer("3"), answer("4"))
    stage = scene(remote(groq))
    texts = [
        (await stage.engine.infer(call)).text
        for call in (
            ask(idempotency_key="a"),
            ask(idempotency_key="a"),
            ask(idempotency_key="b"),
            ask(),
            ask("other words", idempotency_key="a"),
        )
    ]
    assert texts == ["1", "1", "2", "3", "4"]


async def test_concurrent_calls_with_one_idempotency_key_are_one_call() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq))
    await asyncio.gather(*(stage.engine.infer(ask(idempotency_key="a")) for _ in range(20)))
    assert len(groq.seen) == 1


async def test_32_equal_calls_at_once_are_one_request_and_one_bill() -> None:
    gate = asyncio.Event()
    groq = FakeModel("groq", after(gate))
    stage = scene(remote(groq))
    tasks = [asyncio.create_task(stage.engine.infer(ask(**PURE))) for _ in range(32)]
    await until(lambda: groq.seen)
    gate.set()
    replies = await asyncio.gather(*tasks)
    assert len(groq.seen) == 1
    assert sum(reply.cost_nano for reply in replies) == 10 == (await stage.ledger.status()).settled_nano
    assert sum(reply.cached for reply in replies) == 31


async def test_calls_that_are_not_cacheable_are_not_coalesced() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq))
    await asyncio.gather(*(stage.engine.infer(ask()) for _ in range(5)))
    assert len(groq.seen) == 5


async def test_t32_a_cancelled_leader_leaves_its_work_to_the_followers() -> None:
    gate = asyncio.Event()
    groq = FakeModel("groq", after(gate))
    stage = scene(remote(groq))
    leader, *followers = (asyncio.create_task(stage.engine.infer(ask(**PURE))) for _ in range(4))
    await until(lambda: groq.seen)
    leader.cancel()
    followers[0].cancel()
    await asyncio.gather(leader, followers[0], return_exceptions=True)
    gate.set()
    replies = await asyncio.gather(*followers[1:])
    assert [reply.text for reply in replies] == ["done", "done"]
    assert (len(groq.seen), groq.cancelled) == (1, 0)


async def test_t32_work_that_nobody_waits_for_any_more_is_cancelled() -> None:
    gate = asyncio.Event()
    groq = FakeModel("groq", after(gate), answer())
    stage = scene(remote(groq))
    tasks = [asyncio.create_task(stage.engine.infer(ask(**PURE))) for _ in range(3)]
    await until(lambda: groq.seen)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await stage.engine.infer(ask(**PURE))).text == "done"
    assert (groq.cancelled, len(groq.seen)) == (1, 2)


async def test_a_leaders_short_deadline_is_not_its_followers() -> None:
    gate = asyncio.Event()
    groq = FakeModel("groq", after(gate), answer())
    stage = scene(remote(groq))
    leader = asyncio.create_task(stage.engine.infer(ask(deadline=stage.clock.now() + timedelta(seconds=0.02), **PURE)))
    await until(lambda: groq.seen)
    follower = asyncio.create_task(stage.engine.infer(ask(**PURE)))
    with pytest.raises(NoProvider, match="deadline"):
        await leader
    assert (await follower).text == "done"


async def test_over_budget_a_stale_answer_is_better_than_none() -> None:
    groq = FakeModel("groq", answer("old", tokens=100))
    stage = scene(remote(groq), limit=100, tiers=(1.0, 1.0), options=EngineOptions(l1_ttl=10.0))
    await stage.engine.infer(ask(**PURE))
    stage.clock.advance(100)
    reply = await stage.engine.infer(ask(**PURE))
    assert (reply.text, reply.cached, reply.cost_nano) == ("old", True, 0)
    assert reply.route.startswith("stale cache")
    with pytest.raises(BudgetExhausted):
        await stage.engine.infer(ask("never asked", **PURE))


async def test_an_answer_that_aged_is_asked_for_anew_while_money_is_there() -> None:
    stage = scene(remote(FakeModel("groq")), options=EngineOptions(l1_ttl=10.0))
    await stage.engine.infer(ask(**PURE))
    stage.clock.advance(11)
    assert not (await stage.engine.infer(ask(**PURE))).cached


async def test_invalidation_hides_every_answer_also_the_stale_ones() -> None:
    stage = scene(remote(FakeModel("groq", answer(tokens=100))), limit=100, tiers=(1.0, 1.0))
    await stage.engine.infer(ask(**PURE))
    await stage.engine.invalidate()
    with pytest.raises(BudgetExhausted):
        await stage.engine.infer(ask(**PURE))


async def test_a_value_of_l2_moves_up_only_for_the_time_it_has_left() -> None:
    clock = SettableClock()
    shared = MemoryResponses(clock)
    stage = scene(
        remote(FakeModel("groq")), clock=clock, cache=shared, options=EngineOptions(l1_ttl=100.0, l2_ttl=50.0)
    )
    await stage.engine.infer(ask(**PURE))
    other = stage.another_process()
    clock.advance(40)
    assert (await other.infer(ask(**PURE))).route.startswith("cache l2")
    clock.advance(9)
    assert (await other.infer(ask(**PURE))).route.startswith("cache l1")
    clock.advance(2)
    assert not (await other.infer(ask(**PURE))).cached


async def test_each_request_is_counted_once_whichever_levels_it_asked() -> None:
    clock = SettableClock()
    stage = scene(remote(FakeModel("groq")), clock=clock, cache=MemoryResponses(clock))
    other = stage.another_process()
    await stage.engine.infer(ask(**PURE))
    await stage.engine.infer(ask(**PURE))
    await other.infer(ask(**PURE))
    await other.infer(ask())
    assert Counter(event.result for event in stage.told(CacheConsulted)) == {"miss": 1, "l1": 1, "l2": 1, "bypass": 1}
    stats = await stage.engine.cache_stats()
    assert (stats["miss"], stats["l1"], stats["l2"], stats["size"]) == (1, 1, 0, 1)
    assert stats["bytes"] > 100
    assert await stage.engine.clear_cache() == 1
    assert not (await stage.engine.infer(ask(**PURE))).cached


async def test_questions_are_embedded_once_and_backfills_are_not_kept() -> None:
    model = FakeModel("openai")
    stage = scene(remote(model, embeds=True))
    question = EmbedCall("embed-query", ("what?",), sensitivity=Sensitivity.PUBLIC)
    first, second = await stage.engine.embed(question), await stage.engine.embed(question)
    assert (second.vectors, second.cached, second.cost_nano) == (first.vectors, True, 0)
    assert not (await stage.engine.embed(replace(question, dimensions=2))).cached
    many = replace(question, texts=tuple(map(str, range(50))))
    await stage.engine.embed(many)
    assert not (await stage.engine.embed(many)).cached


async def test_embeddings_never_fall_back_to_another_model() -> None:
    first, second = FakeModel("openai", failed(FailureKind.SERVER)), FakeModel("groq")
    stage = scene(remote(first, embeds=True, model="m1"), remote(second, embeds=True, model="m2"))
    with pytest.raises(NoProvider):
        await stage.engine.embed(EmbedCall("embed-query", ("x",), sensitivity=Sensitivity.PUBLIC))
    assert not second.seen


async def test_the_memory_cache_holds_its_entries_and_bytes() -> None:
    moment = [0.0]
    cache = MemoryCache(3, 1000, lambda: moment[0])
    for key in "abc":
        await cache.put(key, b"x", 60)
    await cache.get("a")
    await cache.put("d", b"x", 60)
    assert [await cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    await cache.put("e", b"x" * 500, 60)
    assert (await cache.stats())["bytes"] <= 1000
    await cache.put("huge", b"x" * 1000, 60)
    await cache.put("none", b"x", 0)
    assert (await cache.get("huge"), await cache.get("none")) == (None, None)
    moment[0] = 61
    assert await cache.get("e") is None
    assert cache.stale("e") is not None


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 400)), max_size=60))
async def test_the_memory_cache_counts_its_bytes_right(puts: Any) -> None:
    cache = MemoryCache(4, 1500)
    for key, size in puts:
        await cache.put(key, b"x" * size, 60)
        stats = await cache.stats()
        assert stats["size"] <= 4
        assert stats["bytes"] <= 1500
    size = (await cache.stats())["size"]
    assert (await cache.clear(), (await cache.stats())["bytes"]) == (size, 0)
