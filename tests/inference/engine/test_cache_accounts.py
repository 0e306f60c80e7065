"""What a cache saved, which generation an answer belongs to, and that nothing older is ever served."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.engine.actors import FakeModel, after, answer, ask, failed, remote, scene, until

from knowledge_system.domain.errors import DependencyUnavailable
from knowledge_system.domain.events import CacheConsulted
from knowledge_system.domain.inference import BudgetExhausted, Delta, EmbedReply, FailureKind, NoProvider, Reply
from knowledge_system.inference.envelopes import packed, unpacked
from knowledge_system.inference.generation import OwnGeneration, RememberedGeneration
from knowledge_system.inference.options import EngineOptions
from knowledge_system.testing.inference import MemoryResponses

PURE = {"temperature": 0}


async def streamed(stream: Any) -> list[Delta]:
    return [delta async for delta in stream]


async def test_a_hit_saves_what_its_answer_cost() -> None:
    stage = scene(remote(FakeModel("groq", answer(tokens=70))))
    for _ in range(3):
        await stage.engine.infer(ask(**PURE))
    await streamed(stage.engine.stream(ask(**PURE)))
    heard = [(event.result, event.saved_nano) for event in stage.told(CacheConsulted)]
    assert heard == [("miss", 0), ("l1", 70), ("l1", 70), ("l1", 70)]
    assert (await stage.engine.cache_stats())["saved_nano"] == 210


async def test_the_cost_travels_with_the_answer_to_other_processes() -> None:
    stage = scene(remote(FakeModel("groq", answer(tokens=70))))
    stage.cache = MemoryResponses(stage.clock)
    await stage.another_process().infer(ask(**PURE))
    other = stage.another_process()
    for _ in range(2):
        await other.infer(ask(**PURE))
    assert [event.saved_nano for event in stage.told(CacheConsulted)] == [0, 70, 70]


async def test_those_who_wait_for_anothers_call_save_its_cost() -> None:
    gate = asyncio.Event()
    groq = FakeModel("groq", after(gate, answer(tokens=70)))
    stage = scene(remote(groq))
    tasks = [asyncio.create_task(stage.engine.infer(ask(**PURE))) for _ in range(3)]
    await until(lambda: groq.seen)
    gate.set()
    await asyncio.gather(*tasks)
    heard = sorted((event.result, event.saved_nano) for event in stage.told(CacheConsulted))
    assert heard == [("miss", 0), ("shared", 70), ("shared", 70)]


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_request_that_fails_was_a_miss(*, streaming: bool) -> None:
    stage = scene(remote(FakeModel("groq", failed(FailureKind.BAD_REQUEST))))
    with pytest.raises(NoProvider):
        await (streamed(stage.engine.stream(ask(**PURE))) if streaming else stage.engine.infer(ask(**PURE)))
    assert [event.result for event in stage.told(CacheConsulted)] == ["miss"]


async def test_over_budget_a_stream_gets_the_stale_answer_too_and_saves_nothing() -> None:
    groq = FakeModel("groq", answer("old", tokens=100))
    stage = scene(remote(groq), limit=100, tiers=(1.0, 1.0), options=EngineOptions(l1_ttl=10.0))
    await streamed(stage.engine.stream(ask(**PURE)))
    stage.clock.advance(100)
    (delta,) = await streamed(stage.engine.stream(ask(**PURE)))
    assert (delta.text, delta.reply.cached, delta.reply.cost_nano) == ("old", True, 0)
    assert delta.reply.route.startswith("stale cache")
    with pytest.raises(BudgetExhausted):
        await streamed(stage.engine.stream(ask("never asked", **PURE)))
    heard = [(event.result, event.saved_nano) for event in stage.told(CacheConsulted)]
    assert heard == [("miss", 0), ("stale", 0), ("miss", 0)]


async def test_a_stream_that_is_left_closes_its_source() -> None:
    groq = FakeModel("groq", answer("one two three"))
    stream = scene(remote(groq)).engine.stream(ask(**PURE))
    assert (await anext(stream)).text == "one"
    await stream.aclose()
    assert groq.closed == 1


@pytest.mark.parametrize("streaming", [False, True])
async def test_r306_an_answer_on_its_way_while_the_cache_is_cleared_belongs_to_the_past(*, streaming: bool) -> None:
    gate = asyncio.Event()
    groq = FakeModel("groq", after(gate, answer("of the past")), answer("of now"))
    stage = scene(remote(groq), generation=OwnGeneration())
    call = streamed(stage.engine.stream(ask(**PURE))) if streaming else stage.engine.infer(ask(**PURE))
    early = asyncio.create_task(call)
    await until(lambda: groq.seen)
    await stage.engine.invalidate()
    late = asyncio.create_task(stage.engine.infer(ask(**PURE)))
    await until(lambda: len(groq.seen) == 2)
    gate.set()
    await early
    assert (await late).text == "of now", "nobody joins a flight of an older generation"
    again = await stage.engine.infer(ask(**PURE))
    assert (again.text, again.cached) == ("of now", True)


async def test_a_new_generation_frees_the_memory_of_the_old_one() -> None:
    stage = scene(remote(FakeModel("groq")), generation=OwnGeneration())
    other = stage.another_process()
    await other.infer(ask("one", **PURE))
    await stage.engine.invalidate()
    assert (await other.cache_stats())["size"] == 1, "not yet heard of"
    stage.clock.advance(1)
    await other.infer(ask("two", **PURE))
    assert (await other.cache_stats())["size"] == 1


async def test_engines_with_other_settings_share_no_answer() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq), options=EngineOptions(fingerprint="a"))
    stage.cache = MemoryResponses(stage.clock)
    await stage.another_process().infer(ask(**PURE))
    stage.options = replace(stage.options, fingerprint="b")
    assert not (await stage.another_process().infer(ask(**PURE))).cached
    stage.options = replace(stage.options, fingerprint="a")
    assert (await stage.another_process().infer(ask(**PURE))).cached


class Shared(OwnGeneration):
    """A number that is read when the gate opens, or cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.broken = False
        self.reads = 0

    async def current(self) -> int:
        self.reads += 1
        await self.gate.wait()
        if self.broken:
            raise DependencyUnavailable("gone", hint="none")
        return await super().current()


async def test_nobody_uses_a_number_before_it_was_read() -> None:
    shared, moment = Shared(), [0.0]
    await shared.advance()
    generation = RememberedGeneration(shared, 1.0, lambda: moment[0])
    early = [asyncio.create_task(generation.current()) for _ in range(5)]
    await until(lambda: shared.reads)
    assert not any(task.done() for task in early)
    shared.gate.set()
    assert set(await asyncio.gather(*early)) == {"1.0"}
    assert shared.reads == 1


async def test_the_number_is_read_once_a_second_at_most() -> None:
    shared, moment = Shared(), [0.0]
    shared.gate.set()
    generation = RememberedGeneration(shared, 1.0, lambda: moment[0])
    for tick in range(30):
        moment[0] = tick / 10
        await generation.current()
    assert shared.reads == 3


async def test_a_process_that_never_read_the_number_finds_nothing_of_others() -> None:
    shared = Shared()
    shared.gate.set()
    shared.broken = True
    one, other = RememberedGeneration(shared, 1.0), RememberedGeneration(shared, 1.0)
    assert await one.current() == await one.current() != await other.current()
    shared.broken = False
    assert await RememberedGeneration(shared, 1.0).current() == "0.0"


async def test_a_number_that_cannot_be_read_any_more_goes_on() -> None:
    shared, moment = Shared(), [0.0]
    shared.gate.set()
    generation = RememberedGeneration(shared, 1.0, lambda: moment[0])
    before = await generation.current()
    shared.broken, moment[0] = True, 5.0
    assert await generation.current() == before


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(FLOATS, max_size=5), max_size=3), st.integers(0, 2**60))
def test_vectors_and_cost_come_back_to_the_bit(vectors: list[list[float]], cost: int) -> None:
    reply = EmbedReply(tuple(array("f", one) for one in vectors), "openai", "m", cost_nano=cost)
    content = unpacked(packed(reply), EmbedReply, "")
    assert content == (replace(reply, cached=True, cost_nano=0), cost)
    assert unpacked(packed(reply), Reply, "") is None


@pytest.mark.parametrize(
    "bytes_",
    [b"", b"{}", b'{"v": 2, "kind": "EmbedReply", "cost": 1, "reply": {"vectors": ["!"]}}', b"\xff", b"9" * 99],
)
def test_bytes_that_are_no_answer_are_a_miss(bytes_: bytes) -> None:
    assert unpacked(bytes_, EmbedReply, "") is None
