"""Streams through all wrappers: fallback before the first delta, bills and permits after the last."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from tests.inference.engine.actors import RULE, FakeModel, answer, ask, failed, hang, local, remote, scene, until

from knowledge_system.domain.events import ModelCalled
from knowledge_system.domain.inference import Call, FailureKind, NoProvider, PrivacyRefused, ProviderFailed
from knowledge_system.domain.money import BreakerPhase
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.engine import Engine
from knowledge_system.inference.options import EngineOptions

WORDS = answer("one two three")


async def collected(engine: Engine, call: Call) -> tuple[str, list]:
    deltas = [delta async for delta in engine.stream(call)]
    return " ".join(delta.text for delta in deltas if delta.text), [delta.reply for delta in deltas if delta.reply]


async def read(engine: Engine, heard: list[str]) -> None:
    async for delta in engine.stream(ask()):
        heard += [delta.text]


async def test_a_stream_yields_its_words_and_then_the_reply_with_attempts_and_route() -> None:
    stage = scene(remote(FakeModel("groq", WORDS)))
    text, (reply,) = await collected(stage.engine, ask())
    assert text == "one two three"
    assert (reply.cost_nano, reply.route, len(reply.attempts)) == (10, "providerPriority: groq (groq-model)", 1)
    status = await stage.ledger.status()
    assert (status.settled_nano, status.reserved_nano) == (10, 0)
    assert [row.outcome for row in stage.audit.rows] == ["answered"]
    assert [event.outcome for event in stage.told(ModelCalled)] == ["answered"]


async def test_before_the_first_delta_another_target_may_answer() -> None:
    groq, openai = FakeModel("groq", failed(FailureKind.SERVER)), FakeModel("openai", WORDS)
    stage = scene(remote(groq), remote(openai))
    text, (reply,) = await collected(stage.engine, ask())
    assert (text, reply.provider) == ("one two three", "openai")
    assert [attempt.outcome for attempt in reply.attempts] == ["server", "answered"]
    assert stage.slept == []


async def test_t18_a_stream_that_never_began_is_retried_like_any_call() -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER), failed(FailureKind.SERVER), WORDS)
    stage = scene(remote(groq))
    assert (await collected(stage.engine, ask()))[0] == "one two three"
    assert len(groq.seen) == 3


async def test_after_the_first_delta_a_failure_is_the_callers_to_see() -> None:
    groq, openai = FakeModel("groq", answer("one two", finish="break")), FakeModel("openai")
    stage = scene(remote(groq), remote(openai))
    heard: list[str] = []
    with pytest.raises(ProviderFailed):
        await read(stage.engine, heard)
    assert (heard, openai.seen) == (["one", "two"], [])
    status = await stage.ledger.status()
    assert (status.settled_nano, status.unmeasured_nano, status.reserved_nano) == (100, 100, 0)
    assert stage.breakers._known["groq"].failures == 1


async def test_when_nobody_begins_the_error_names_everybody() -> None:
    stage = scene(
        remote(FakeModel("groq", failed(FailureKind.REFUSED))), remote(FakeModel("openai", failed(FailureKind.SERVER)))
    )
    with pytest.raises(NoProvider, match=r"groq.*openai"):
        await collected(stage.engine, ask())


async def test_a_stream_without_a_word_is_malformed() -> None:
    class Mute(FakeModel):
        async def stream(self, call: Call) -> Any:
            self.seen.append(call)
            return
            yield

    stage = scene(remote(Mute("groq")), remote(FakeModel("openai", WORDS)))
    assert (await collected(stage.engine, ask()))[0] == "one two three"


@pytest.mark.parametrize("ending", ["aclose", "cancel", "forgotten"])
async def test_t13_an_abandoned_stream_cancels_the_request_and_is_charged_never_zero(ending: str) -> None:
    groq = FakeModel("groq", WORDS)
    stage = scene(remote(groq))

    async def read_one() -> None:
        if ending == "forgotten":
            async for _ in stage.engine.stream(ask()):
                break
            return
        async with aclosing(stage.engine.stream(ask())) as deltas:
            await anext(deltas)
            if ending == "cancel":
                await asyncio.Event().wait()

    task = asyncio.create_task(read_one())
    await until(lambda: groq.seen)
    if ending == "cancel":
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gc.collect()
    await until(lambda: stage.told(ModelCalled))
    await stage.engine.close()
    status = await stage.ledger.status()
    assert (status.settled_nano, status.unmeasured_nano) == (100, 100)
    assert groq.closed == 1
    assert [(row.outcome, row.cost_nano) for row in stage.audit.rows] == [("cancelled", 100)]
    assert [event.outcome for event in stage.told(ModelCalled)] == ["cancelled"]


async def test_t13_a_caller_who_stops_after_the_reply_is_charged_what_it_cost() -> None:
    stage = scene(remote(FakeModel("groq", WORDS)))
    async with aclosing(stage.engine.stream(ask())) as deltas:
        async for delta in deltas:
            if delta.reply is not None:
                break
    status = await stage.ledger.status()
    assert (status.settled_nano, status.unmeasured_nano) == (10, 0)
    assert [row.outcome for row in stage.audit.rows] == ["answered"]


async def test_a_stream_that_never_tells_its_usage_is_charged_at_most() -> None:
    stage = scene(remote(FakeModel("groq", answer("one two", tokens=-1))))
    _, (reply,) = await collected(stage.engine, ask())
    assert (reply.cost_nano, reply.attempts[0].measured) == (100, False)


async def test_t24_an_abandoned_trial_stream_returns_its_permit() -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER))
    stage = scene(remote(groq, rule=RULE), options=EngineOptions(retries=2))
    with pytest.raises(NoProvider):
        await stage.engine.infer(ask())
    stage.clock.advance(60)
    groq.script = [WORDS]
    for _ in range(5):
        async with aclosing(stage.engine.stream(ask())) as deltas:
            await anext(deltas)
    assert stage.breakers._known["groq"].phase is BreakerPhase.HALF_OPEN
    assert (await collected(stage.engine, ask()))[0] == "one two three"
    assert stage.breakers._known["groq"].phase is BreakerPhase.CLOSED


async def test_a_stream_that_hangs_meets_its_timeout_and_the_deadline() -> None:
    groq, openai = FakeModel("groq", hang), FakeModel("openai", WORDS)
    stage = scene(remote(groq, timeout=0.01), remote(openai))
    assert (await collected(stage.engine, ask()))[1][0].provider == "openai"
    slow = scene(remote(FakeModel("groq", hang)))
    with pytest.raises(NoProvider, match="deadline"):
        await collected(slow.engine, ask(deadline=slow.clock.now() + timedelta(seconds=0.02)))


async def test_the_deadline_ends_a_stream_in_the_middle() -> None:
    class Stalling(FakeModel):
        async def stream(self, call: Call) -> Any:
            try:
                async for delta in super().stream(call):
                    yield delta
                    await asyncio.Event().wait()
            finally:
                self.closed += 1

    groq = Stalling("groq", WORDS)
    stage = scene(remote(groq))
    with pytest.raises(ProviderFailed, match="deadline"):
        await collected(stage.engine, ask(deadline=stage.clock.now() + timedelta(seconds=0.05)))
    await stage.engine.close()
    assert groq.closed >= 1
    assert (await stage.ledger.status()).settled_nano == 100


async def test_a_finished_stream_is_cached_for_calls_and_streams() -> None:
    groq = FakeModel("groq", WORDS)
    stage = scene(remote(groq))
    pure = ask(temperature=0)
    await collected(stage.engine, pure)
    text, (reply,) = await collected(stage.engine, pure)
    assert (text, reply.cached, reply.cost_nano) == ("one two three", True, 0)
    assert (await stage.engine.infer(pure)).cached
    assert len(groq.seen) == 1


async def test_an_abandoned_stream_is_not_cached() -> None:
    groq = FakeModel("groq", WORDS)
    stage = scene(remote(groq))
    async with aclosing(stage.engine.stream(ask(temperature=0))) as deltas:
        await anext(deltas)
    assert not (await stage.engine.infer(ask(temperature=0))).cached


async def test_streams_pass_the_privacy_gate() -> None:
    groq, mine = FakeModel("groq"), FakeModel("local", WORDS)
    stage = scene(remote(groq), local(mine))
    assert (await collected(stage.engine, ask(sensitivity=Sensitivity.CONFIDENTIAL)))[1][0].provider == "local"
    with pytest.raises(PrivacyRefused):
        await collected(stage.engine, ask(sensitivity=Sensitivity.SECRET))
    assert not groq.seen
