"""Breakers through the engine: what counts, what is passed over, what comes back."""

from __future__ import annotations

import asyncio

import pytest
from tests.inference.engine.actors import (
    RULE,
    FakeModel,
    Scene,
    after,
    answer,
    ask,
    failed,
    hang,
    local,
    remote,
    scene,
    until,
)
from tests.inference.engine.test_budget import BrokenLedger

from knowledge_system.domain.events import BreakerChanged, BreakerOpened, ProviderMisconfigured
from knowledge_system.domain.inference import FailureKind, NoProvider
from knowledge_system.domain.money import BreakerPhase
from knowledge_system.inference.breaking import COUNTS
from knowledge_system.inference.options import EngineOptions

ONCE = EngineOptions(retries=0)


async def failing_calls(stage: Scene, count: int) -> None:
    for number in range(count):
        await asyncio.gather(stage.engine.infer(ask(str(number))), return_exceptions=True)


def phases(stage: Scene) -> dict[str, BreakerPhase]:
    return {name: breaker.phase for name, breaker in stage.breakers._known.items()}


@pytest.mark.parametrize("kind", list(FailureKind))
async def test_t25_only_the_providers_own_failures_open_its_breaker(kind: FailureKind) -> None:
    groq = FakeModel("groq", failed(kind))
    stage = scene(remote(groq, rule=RULE), options=ONCE)
    await failing_calls(stage, 12)
    assert (phases(stage)["groq"] is BreakerPhase.OPEN) == (kind in COUNTS)
    if kind in COUNTS:
        assert len(groq.seen) == RULE.failure_threshold


async def test_t21_a_single_provider_trips_and_the_error_says_so() -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER))
    stage = scene(remote(groq, rule=RULE), options=ONCE)
    await failing_calls(stage, 25)
    assert len(groq.seen) == 3
    with pytest.raises(NoProvider, match="circuit breaker of groq is open"):
        await stage.engine.infer(ask())
    assert [event.provider for event in stage.told(BreakerOpened)] == ["groq"]


async def test_an_open_breaker_costs_no_request_and_no_pause() -> None:
    groq, openai = FakeModel("groq", failed(FailureKind.TIMEOUT)), FakeModel("openai")
    stage = scene(remote(groq, rule=RULE), remote(openai))
    for number in range(12):
        assert (await stage.engine.infer(ask(str(number)))).provider == "openai"
    assert (len(groq.seen), stage.slept) == (3, [])


async def test_t23_the_state_is_shared_with_other_processes_at_once() -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER))
    stage = scene(remote(groq, rule=RULE), options=ONCE)
    await failing_calls(stage, 3)
    with pytest.raises(NoProvider, match="breaker"):
        await stage.another_process().infer(ask())
    assert len(groq.seen) == 3


async def test_half_open_lets_two_of_32_concurrent_calls_try() -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER))
    stage = scene(remote(groq, rule=RULE), remote(FakeModel("openai")))
    await failing_calls(stage, 3)
    stage.clock.advance(60)
    gate = asyncio.Event()
    groq.script, groq.seen = [after(gate)], []
    tasks = [asyncio.create_task(stage.engine.infer(ask(str(number)))) for number in range(32)]
    await until(lambda: not sum(task.done() for task in tasks) < 30)
    assert len(groq.seen) == RULE.half_open_requests
    gate.set()
    replies = await asyncio.gather(*tasks)
    assert sum(reply.provider == "groq" for reply in replies) == 2
    assert [event.phase for event in stage.told(BreakerChanged)] == ["open", "closed"]


@pytest.mark.parametrize("ending", ["cancelled", "rate-limited", "bad-request"])
async def test_t24_a_trial_without_a_verdict_goes_back(ending: str) -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER))
    stage = scene(remote(groq, rule=RULE), options=ONCE)
    await failing_calls(stage, 3)
    stage.clock.advance(60)
    for number in range(6):
        groq.script, groq.seen = [hang if ending == "cancelled" else failed(FailureKind(ending))], []
        task = asyncio.create_task(stage.engine.infer(ask(str(number))))
        await until(lambda: groq.seen)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stage.engine.close()
    assert phases(stage)["groq"] is BreakerPhase.HALF_OPEN
    groq.script = [answer()]
    assert (await stage.engine.infer(ask("at last"))).provider == "groq"


async def test_t24_a_callers_deadline_is_not_the_providers_failure() -> None:
    groq = FakeModel("groq", hang)
    stage = scene(remote(groq, rule=RULE))
    for number in range(5):
        task = asyncio.create_task(stage.engine.infer(ask(str(number))))
        await asyncio.wait([task], timeout=0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await stage.engine.close()
    assert phases(stage)["groq"] is BreakerPhase.CLOSED


@pytest.mark.parametrize("kind", [FailureKind.MISCONFIGURED, FailureKind.NO_MONEY])
async def test_t25_a_misconfigured_target_is_told_once_passed_over_and_asked_again_later(kind: FailureKind) -> None:
    groq, openai = FakeModel("groq", failed(kind, started=False)), FakeModel("openai")
    stage = scene(remote(groq), remote(openai))
    await failing_calls(stage, 5)
    assert len(groq.seen) == 1
    assert [(event.provider, event.model) for event in stage.told(ProviderMisconfigured)] == [("groq", "groq-model")]
    assert list(stage.engine.marks()) == [("groq", "groq-model")]
    stage.clock.advance(301)
    await stage.engine.infer(ask())
    assert len(groq.seen) == 2


async def test_t25_one_models_misconfiguration_leaves_the_providers_other_models() -> None:
    gone, there = FakeModel("groq", failed(FailureKind.MISCONFIGURED)), FakeModel("groq")
    stage = scene(remote(gone, model="gone"), remote(there, model="there"))
    for _ in range(3):
        assert (await stage.engine.infer(ask())).attempts[-1].model == "there"
    assert len(gone.seen) == 1


async def test_a_reset_by_hand_closes_forgets_and_is_audited() -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER))
    stage = scene(remote(groq, rule=RULE), options=ONCE)
    await failing_calls(stage, 3)
    groq.script = [failed(FailureKind.MISCONFIGURED), answer()]
    await stage.engine.reset("groq", "alice")
    await failing_calls(stage, 2)
    await stage.engine.reset("groq", "alice")
    assert (await stage.engine.infer(ask())).provider == "groq"
    assert [row.actor for row in stage.audit.rows if row.kind == "breaker-reset"] == ["alice", "alice"]
    assert [(status.provider, status.phase) for status in await stage.engine.breakers()] == [
        ("groq", BreakerPhase.CLOSED)
    ]


async def test_breakers_that_cannot_be_read_stop_nobody() -> None:
    stage = scene(local(FakeModel("local")), breakers=BrokenLedger())
    assert (await stage.engine.infer(ask())).provider == "local"


async def test_t22_a_long_retry_after_keeps_an_open_breaker_open() -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER, after=600))
    stage = scene(remote(groq, rule=RULE), options=ONCE)
    await failing_calls(stage, 3)
    stage.clock.advance(599)
    await failing_calls(stage, 1)
    assert len(groq.seen) == 3
    stage.clock.advance(1)
    await failing_calls(stage, 1)
    assert len(groq.seen) == 4
