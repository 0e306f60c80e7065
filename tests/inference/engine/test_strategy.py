"""Order, fallback, retries and deadlines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.inference.engine.actors import FakeModel, answer, ask, failed, hang, local, remote, scene, until

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import BudgetExhausted, FailureKind, NoProvider
from knowledge_system.domain.money import BreakerRule
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.options import EngineOptions
from knowledge_system.inference.structured import MalformedReply
from knowledge_system.inference.styles import BUILT_IN, styles

RETRYABLE = [FailureKind.TIMEOUT, FailureKind.CONNECTION, FailureKind.SERVER, FailureKind.CAPACITY]
FINAL = [FailureKind.BAD_REQUEST, FailureKind.MISCONFIGURED, FailureKind.NO_MONEY, FailureKind.REFUSED]


async def test_the_first_in_order_answers_and_the_reply_says_so() -> None:
    groq, openai = FakeModel("groq", answer("hi")), FakeModel("openai")
    stage = scene(remote(groq), remote(openai))
    reply = await stage.engine.infer(ask())
    assert (reply.text, reply.provider, reply.cost_nano, reply.cached) == ("hi", "groq", 10, False)
    assert reply.route == "providerPriority: groq (groq-model)"
    (attempt,) = reply.attempts
    assert (attempt.provider, attempt.model, attempt.outcome, attempt.measured) == (
        "groq",
        "groq-model",
        "answered",
        True,
    )
    assert not openai.seen


async def test_t25_a_fallback_is_asked_with_its_own_models_name() -> None:
    groq, openai = FakeModel("groq", failed(FailureKind.MISCONFIGURED, started=False)), FakeModel("openai")
    reply = await scene(remote(groq), remote(openai)).engine.infer(ask())
    assert [call.model for call in groq.seen + openai.seen] == ["groq-model", "openai-model"]
    assert reply.provider == "openai"
    assert reply.route == "providerPriority: openai (openai-model); not groq (groq-model): misconfigured happened"


@pytest.mark.parametrize("kind", RETRYABLE)
@pytest.mark.parametrize("retries", [0, 1, 2, 5])
async def test_t18_n_retries_are_n_plus_1_requests(kind: FailureKind, retries: int) -> None:
    groq = FakeModel("groq", failed(kind))
    stage = scene(remote(groq, rule=BreakerRule(failure_threshold=99)), options=EngineOptions(retries=retries))
    with pytest.raises(NoProvider):
        await stage.engine.infer(ask())
    assert len(groq.seen) == retries + 1
    assert len(stage.slept) == retries


@pytest.mark.parametrize("kind", FINAL)
async def test_t25_what_asking_again_cannot_mend_is_not_retried(kind: FailureKind) -> None:
    groq = FakeModel("groq", failed(kind))
    stage = scene(remote(groq))
    with pytest.raises(NoProvider, match=kind.value):
        await stage.engine.infer(ask())
    assert len(groq.seen) == 1
    assert not stage.slept


@pytest.mark.parametrize("style", list(BUILT_IN))
async def test_t19_each_target_is_asked_at_most_once_where_there_is_another(style: str) -> None:
    models = [FakeModel(name, failed(FailureKind.SERVER)) for name in ("local", "groq", "openai", "anthropic")]
    stage = scene(local(models[0]), *map(remote, models[1:]), options=EngineOptions(retries=5))
    with pytest.raises(NoProvider) as error:
        await stage.engine.infer(ask(strategy=style, schema={"type": "object"}))
    assert [len(model.seen) for model in models] == [1, 1, 1, 1]
    assert all(f"{model.provider} ({model.provider}-model)" in error.value.message for model in models)


async def test_t20_there_is_no_pause_while_a_fallback_is_ready() -> None:
    groq, openai = FakeModel("groq", failed(FailureKind.RATE_LIMITED, after=30)), FakeModel("openai")
    stage = scene(remote(groq), remote(openai))
    assert (await stage.engine.infer(ask())).provider == "openai"
    assert stage.slept == []


async def test_a_rate_limit_with_no_fallback_is_waited_for_within_the_deadline() -> None:
    groq = FakeModel("groq", failed(FailureKind.RATE_LIMITED, after=3, started=False), answer())
    stage = scene(remote(groq))
    reply = await stage.engine.infer(ask(deadline=stage.clock.now() + timedelta(seconds=10)))
    assert stage.slept == [3]
    assert [attempt.outcome for attempt in reply.attempts] == ["rate-limited", "answered"]


async def test_a_rate_limit_past_the_deadline_is_not_waited_for() -> None:
    groq = FakeModel("groq", failed(FailureKind.RATE_LIMITED, after=30))
    stage = scene(remote(groq))
    with pytest.raises(NoProvider):
        await stage.engine.infer(ask(deadline=stage.clock.now() + timedelta(seconds=10)))
    assert (len(groq.seen), stage.slept) == (1, [])


async def test_a_remembered_rate_limit_spares_the_request() -> None:
    groq = FakeModel("groq", failed(FailureKind.RATE_LIMITED, after=30, started=False), answer())
    openai = FakeModel("openai")
    stage = scene(remote(groq), remote(openai))
    for _ in range(3):
        assert (await stage.engine.infer(ask())).provider == "openai"
    assert len(groq.seen) == 1
    stage.clock.advance(31)
    assert (await stage.engine.infer(ask())).provider == "groq"


async def test_a_deadline_in_the_past_sends_nothing() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq))
    with pytest.raises(NoProvider, match="deadline"):
        await stage.engine.infer(ask(deadline=stage.clock.now() - timedelta(seconds=1)))
    assert not groq.seen


async def test_the_deadline_ends_a_call_that_hangs_and_its_hold_is_charged() -> None:
    groq = FakeModel("groq", hang)
    stage = scene(remote(groq))
    with pytest.raises(NoProvider, match="deadline"):
        await stage.engine.infer(ask(deadline=stage.clock.now() + timedelta(seconds=0.02)))
    await stage.engine.close()
    assert groq.cancelled == 1
    status = await stage.ledger.status()
    assert (status.settled_nano, status.reserved_nano, status.unmeasured_nano) == (100, 0, 100)


async def test_each_candidate_is_named_with_its_reason() -> None:
    stage = scene(
        local(FakeModel("local", failed(FailureKind.CONNECTION, started=False))),
        remote(FakeModel("groq"), unavailable="GROQ_API_KEY is not set"),
        remote(FakeModel("openai", failed(FailureKind.BAD_REQUEST))),
        options=EngineOptions(priority=("local", "groq", "openai"), retries=0),
    )
    with pytest.raises(NoProvider) as error:
        await stage.engine.infer(ask())
    assert "local (local-model): connection happened" in error.value.message
    assert "groq (groq-model): GROQ_API_KEY is not set" in error.value.message
    assert "openai (openai-model): bad-request happened" in error.value.message


@pytest.mark.parametrize("narrowing", [{"provider": "mars"}, {"model": "no-such"}, {"provider": "groq", "model": "x"}])
async def test_an_unknown_provider_or_model_is_a_usage_error_that_spends_nothing(narrowing: Any) -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq))
    with pytest.raises(UsageError) as error:
        await stage.engine.infer(ask(**narrowing))
    assert "groq" in error.value.hint
    assert not groq.seen


@pytest.mark.parametrize(
    "narrowing", [{"provider": "openai"}, {"model": "openai-model"}, {"model": "openai/openai-model"}]
)
async def test_a_call_that_names_its_target_reaches_it_though_it_is_in_no_order(narrowing: Any) -> None:
    groq, openai = FakeModel("groq"), FakeModel("openai")
    stage = scene(remote(groq), remote(openai), options=EngineOptions(priority=("groq",)))
    assert (await stage.engine.infer(ask(**narrowing))).provider == "openai"
    assert (await stage.engine.infer(ask())).provider == "groq"


ORDERS = [
    ({}, {}, "openrouter"),
    ({"active": "cost-optimized"}, {}, "groq"),
    ({"active": "quality-optimized"}, {}, "anthropic"),
    ({"active": "quality-optimized", "operations": {"extract": "latency-optimized"}}, {}, "groq"),
    ({"active": "cost-optimized"}, {"strategy": "quality-optimized"}, "anthropic"),
    ({"operations": {"extract": "cost-optimized"}}, {"strategy": "quality-optimized"}, "anthropic"),
    ({"operations": {"title": "quality-optimized"}}, {}, "openrouter"),
]


@pytest.mark.parametrize(("configured", "asked", "first"), ORDERS)
async def test_precedence_of_call_operation_active_strategy_and_provider_priority(
    configured: Any, asked: Any, first: Any
) -> None:
    names = ("anthropic", "groq", "openrouter")
    options = EngineOptions(priority=("openrouter", "groq"), **configured)
    stage = scene(*(remote(FakeModel(name)) for name in names), options=options)
    assert (await stage.engine.infer(ask(**asked))).provider == first


async def test_an_unknown_strategy_is_a_usage_error_with_a_suggestion() -> None:
    stage = scene(remote(FakeModel("groq")))
    with pytest.raises(UsageError) as error:
        await stage.engine.infer(ask(strategy="cost-optimised"))
    assert "cost-optimized" in error.value.hint


def test_strategies_are_changed_and_added_by_configuration() -> None:
    known = styles({"cost-optimized": {"priority": ["groq"]}, "mine": {"parallelRequests": True, "hedgeAfter": 0}})
    assert known["cost-optimized"].priority == ("groq",)
    assert known["cost-optimized"].cache_aggressive
    assert (known["mine"].parallel, known["mine"].hedge_after) == (True, 0)


@pytest.mark.parametrize(
    "bad",
    [
        {"priorty": []},
        {"priority": "groq"},
        {"priority": []},
        {"hedges": 0},
        {"hedges": 1.5},
        {"minConfidence": 2},
        {"parallelRequests": 1},
        {"members": True},
    ],
)
def test_impossible_strategies_are_refused_with_their_key(bad: Any) -> None:
    with pytest.raises(UsageError, match=r"strategies\.mine"):
        styles({"mine": bad})


def malformed(text: str = "nonsense", tokens: int = 7) -> MalformedReply:
    return MalformedReply(replace(answer(text, tokens=tokens), provider="groq"), "it holds no JSON")


async def test_t12_a_malformed_reply_is_repaired_once_by_an_attempt_that_reserves_for_itself() -> None:
    good = answer('{"a": 1}', data={"a": 1})
    groq, openai = FakeModel("groq", malformed(), good), FakeModel("openai")
    stage = scene(remote(groq), remote(openai))
    reply = await stage.engine.infer(ask(schema={"type": "object"}))
    assert (reply.provider, reply.data, reply.cost_nano) == ("groq", {"a": 1}, 17)
    assert [attempt.outcome for attempt in reply.attempts] == ["malformed", "answered"]
    assert [message.content for message in groq.seen[1].messages][1] == "nonsense"
    assert (await stage.ledger.status()).settled_nano == 17
    assert (await stage.breakers.status())[0].failures == 0


async def test_a_repair_that_fails_counts_once_for_the_breaker_and_the_next_target_is_asked() -> None:
    groq, openai = FakeModel("groq", malformed()), FakeModel("openai", answer("{}", data={}))
    stage = scene(remote(groq), remote(openai))
    reply = await stage.engine.infer(ask(schema={"type": "object"}))
    assert (reply.provider, len(groq.seen)) == ("openai", 2)
    failures = {status.provider: status.failures for status in await stage.breakers.status()}
    assert failures == {"groq": 1, "openai": 0}


async def test_t12_a_repair_that_the_budget_refuses_is_not_made() -> None:
    groq = FakeModel("groq", malformed())
    stage = scene(remote(groq), limit=105, tiers=(1.0, 1.0))
    with pytest.raises(BudgetExhausted):
        await stage.engine.infer(ask(schema={"type": "object"}))
    assert len(groq.seen) == 1


QUALITY = {"operations": {"extract": "quality-optimized"}}


async def test_an_unsure_answer_gets_a_second_opinion_and_the_surer_one_is_returned() -> None:
    unsure, sure = FakeModel("anthropic", answer("a", confidence=0.2)), FakeModel("openai", answer("b", confidence=0.9))
    third = FakeModel("groq")
    stage = scene(remote(unsure), remote(sure), remote(third), options=EngineOptions(**QUALITY))
    reply = await stage.engine.infer(ask())
    assert (reply.text, len(reply.attempts), reply.cost_nano) == ("b", 2, 20)
    assert "the surer of" in reply.route
    assert not third.seen


@pytest.mark.parametrize("second", [failed(FailureKind.SERVER), answer("b", confidence=0.1), hang])
async def test_a_second_opinion_that_is_no_better_leaves_the_first(second: Any) -> None:
    first = FakeModel("anthropic", answer("a", confidence=0.2))
    stage = scene(remote(first), remote(FakeModel("openai", second)), options=EngineOptions(**QUALITY))
    reply = await stage.engine.infer(ask(deadline=stage.clock.now() + timedelta(seconds=0.1)))
    assert reply.text == "a"


@pytest.mark.parametrize("sure", [0.7, 1.0, None])
async def test_an_answer_that_is_sure_or_says_nothing_stands(sure: Any) -> None:
    first, second = FakeModel("anthropic", answer("a", confidence=sure)), FakeModel("openai")
    stage = scene(remote(first), remote(second), options=EngineOptions(**QUALITY))
    assert (await stage.engine.infer(ask())).text == "a"
    assert not second.seen


async def test_internal_content_goes_to_local_models_first_unless_configured() -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    order = EngineOptions(priority=("groq", "local"))
    internal = ask(sensitivity=Sensitivity.INTERNAL)
    for where, provider in [("local-first", "local"), ("anywhere", "groq"), ("local-only", "local")]:
        stage = scene(remote(groq), local(mine), options=replace(order, internal=where))
        assert (await stage.engine.infer(internal)).provider == provider


async def test_cancelling_a_caller_cancels_its_request() -> None:
    groq = FakeModel("groq", hang)
    stage = scene(remote(groq))
    task = asyncio.create_task(stage.engine.infer(ask()))
    await until(lambda: groq.seen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert groq.cancelled == 1


async def test_a_hanging_provider_is_a_timeout_that_counts() -> None:
    groq, openai = FakeModel("groq", hang), FakeModel("openai")
    stage = scene(remote(groq, timeout=0.01), remote(openai))
    reply = await stage.engine.infer(ask())
    assert [attempt.outcome for attempt in reply.attempts] == ["timeout", "answered"]
    assert (await stage.breakers.status())[0].failures == 1
