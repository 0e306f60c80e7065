"""Hedged requests and ensembles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.engine.actors import RULE, FakeModel, after, answer, ask, failed, hang, remote, scene, until

from knowledge_system.domain.inference import BudgetExhausted, FailureKind, NoProvider, Reply
from knowledge_system.domain.money import BreakerPhase
from knowledge_system.inference.options import EngineOptions
from knowledge_system.inference.styles import styles
from knowledge_system.inference.voting import vote

HEDGED = EngineOptions(active="latency-optimized")
AT_ONCE = replace(
    HEDGED,
    strategies=styles({"latency-optimized": {"hedgeAfter": 0, "hedges": 2, "priority": ["groq", "openai", "x"]}}),
)


async def test_a_quick_answer_needs_no_hedge() -> None:
    groq, openai = FakeModel("groq", answer("quick")), FakeModel("openai")
    stage = scene(remote(groq), remote(openai), options=HEDGED, still=True)
    reply = await stage.engine.infer(ask())
    assert (reply.text, len(reply.attempts)) == ("quick", 1)
    assert not openai.seen


async def test_t16_the_loser_is_cancelled_and_charged_as_unmeasured_at_most_its_worst_case() -> None:
    groq, openai = FakeModel("groq", hang), FakeModel("openai", answer("second"))
    stage = scene(remote(groq), remote(openai), options=HEDGED)
    reply = await stage.engine.infer(ask())
    assert (reply.text, reply.provider, groq.cancelled) == ("second", "openai", 1)
    assert stage.slept == [0.5]
    loser, winner = reply.attempts
    assert (loser.provider, loser.outcome, loser.cost_nano, loser.measured) == ("groq", "cancelled", 100, False)
    assert (winner.outcome, winner.cost_nano, winner.measured) == ("answered", 10, True)
    assert reply.cost_nano == 110
    await stage.engine.close()
    status = await stage.ledger.status()
    assert (status.settled_nano, status.unmeasured_nano, status.reserved_nano) == (110, 100, 0)


async def test_a_failure_starts_the_next_target_at_once() -> None:
    groq, openai = FakeModel("groq", failed(FailureKind.SERVER)), FakeModel("openai")
    stage = scene(remote(groq), remote(openai), options=HEDGED, still=True)
    assert (await stage.engine.infer(ask())).provider == "openai"
    assert stage.slept == []


async def test_t12_every_hedge_reserves_for_itself_and_none_is_started_that_the_budget_does_not_hold() -> None:
    gate = asyncio.Event()
    groq, openai = FakeModel("groq", after(gate)), FakeModel("openai")
    stage = scene(remote(groq), remote(openai), options=AT_ONCE, limit=150, tiers=(1.0, 1.0))
    task = asyncio.create_task(stage.engine.infer(ask()))
    await until(lambda: groq.seen)
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    reply = await task
    assert (reply.provider, openai.seen) == ("groq", [])
    assert "does not hold" in reply.route


async def test_cancelling_a_hedged_call_cancels_all_of_it() -> None:
    models = [FakeModel(name, hang) for name in ("groq", "openai", "x")]
    stage = scene(*map(remote, models), options=AT_ONCE)
    task = asyncio.create_task(stage.engine.infer(ask()))
    await until(lambda: all(model.seen for model in models))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stage.engine.close()
    assert [model.cancelled for model in models] == [1, 1, 1]
    assert (await stage.ledger.status()).reserved_nano == 0


async def test_t24_a_cancelled_hedge_returns_its_trial_permit() -> None:
    groq, openai = FakeModel("groq", failed(FailureKind.SERVER)), FakeModel("openai")
    stage = scene(remote(groq, rule=RULE), remote(openai), options=HEDGED)
    for _ in range(RULE.failure_threshold):
        await stage.engine.infer(ask())
    stage.clock.advance(60)
    groq.script = [hang]
    for _ in range(5):  # more than the two trials a half-open breaker has
        assert (await stage.engine.infer(ask())).provider == "openai"
    await stage.engine.close()
    assert groq.cancelled == 5
    assert (await stage.breakers.status())[0].phase is BreakerPhase.HALF_OPEN


async def test_when_all_hedges_fail_the_error_names_them() -> None:
    models = [FakeModel(name, failed(FailureKind.SERVER)) for name in ("groq", "openai", "x")]
    stage = scene(*map(remote, models), options=AT_ONCE)
    with pytest.raises(NoProvider, match=r"groq.*openai.*x-model"):
        await stage.engine.infer(ask())


VOTING = EngineOptions(
    active="quality-optimized", strategies=styles({"quality-optimized": {"priority": ["a", "b", "c"]}})
)


def said(value: str, **fields: dict[str, Any]) -> Reply:
    return answer(value, data={"kind": value, **fields})


async def test_the_majority_wins_and_every_member_is_paid() -> None:
    stage = scene(
        remote(FakeModel("a", said("x"))),
        remote(FakeModel("b", said("y"))),
        remote(FakeModel("c", said("y"))),
        options=VOTING,
    )
    reply = await stage.engine.infer(ask(schema={"type": "object"}))
    assert (reply.data["kind"], reply.provider, reply.cost_nano, len(reply.attempts)) == ("y", "b", 30, 3)
    assert reply.route.startswith("quality-optimized: b, 2 of 3 answers agreed")
    assert reply.confidence == pytest.approx(2 / 3)


async def test_members_that_fail_have_no_vote() -> None:
    stage = scene(
        remote(FakeModel("a", failed(FailureKind.SERVER))),
        remote(FakeModel("b", said("y"))),
        remote(FakeModel("c", failed(FailureKind.REFUSED))),
        options=VOTING,
    )
    reply = await stage.engine.infer(ask(schema={"type": "object"}))
    assert (reply.data["kind"], reply.confidence) == ("y", 1.0)


async def test_t12_members_whom_the_budget_does_not_hold_do_not_vote() -> None:
    gate = asyncio.Event()
    models = [FakeModel(name, after(gate, said(name))) for name in "abc"]
    stage = scene(*map(remote, models), options=VOTING, limit=250, tiers=(1.0, 1.0))
    task = asyncio.create_task(stage.engine.infer(ask(schema={"type": "object"})))
    await until(lambda: sum(len(model.seen) for model in models) == 2)
    gate.set()
    assert len((await task).attempts) == 2
    assert not models[2].seen
    with pytest.raises(BudgetExhausted):
        await scene(*stage.candidates, options=VOTING, limit=50, tiers=(1.0, 1.0)).engine.infer(ask(schema={}))


async def test_answers_that_cannot_be_compared_are_not_voted_on() -> None:
    models = [FakeModel(name) for name in "abc"]
    stage = scene(*map(remote, models), options=VOTING)
    await stage.engine.infer(ask())
    assert [len(model.seen) for model in models] == [1, 0, 0]


def test_ties_go_to_the_surer_group_then_to_the_first_target() -> None:
    x, y = said("x", confidence=0.4), said("y", confidence=0.9)
    assert vote([x, y])[0].data["kind"] == "y"
    assert vote([said("x"), said("y")])[0].data["kind"] == "x"
    assert vote([answer(" Yes\n"), answer("no"), answer("yes")]) == (answer(" Yes\n", confidence=2 / 3), 2)


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=9))
def test_a_strict_majority_always_wins(ballots: Any) -> None:
    winner, agreed = vote([said(ballot) for ballot in ballots])
    assert agreed == max(ballots.count(ballot) for ballot in ballots) == ballots.count(winner.data["kind"])
