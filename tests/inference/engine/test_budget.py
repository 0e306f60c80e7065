"""Money: nothing is sent that the budget does not hold, and nothing that may have been billed is forgotten."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from datetime import timedelta
from typing import Any, Never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.engine.actors import (
    FakeModel,
    FlatPrice,
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

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.errors import Busy, UsageError
from knowledge_system.domain.events import BudgetTierEntered, SettlementFailed
from knowledge_system.domain.inference import (
    BudgetExhausted,
    EmbedCall,
    FailureKind,
    Message,
    NoProvider,
    PriceUnknown,
    ProviderFailed,
    Usage,
)
from knowledge_system.inference.options import EngineOptions
from knowledge_system.inference.styles import styles
from knowledge_system.testing.inference import MemoryLedger

FULL = (1.0, 1.0)
"""Tiers that leave the whole limit to remote models."""


@pytest.mark.parametrize("callers", [1, 4, 32, 200])
async def test_t01_concurrent_callers_in_two_processes_never_spend_past_the_limit(callers: int) -> None:
    groq = FakeModel("groq", answer(tokens=100))
    stage = scene(remote(groq), limit=1000, tiers=FULL)
    engines = [stage.engine, stage.another_process()]
    calls = (engines[number % 2].infer(ask(str(number))) for number in range(callers))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == min(callers, 10) == len(groq.seen)
    assert all(isinstance(result, BudgetExhausted) for result in results if isinstance(result, BaseException))
    assert (await stage.ledger.status()).settled_nano == 100 * len(groq.seen)


async def test_t02_a_paid_fallback_of_a_free_primary_is_priced_and_reserved() -> None:
    free, paid = FakeModel("groq", failed(FailureKind.SERVER)), FakeModel("openai")
    stage = scene(remote(free, price=FlatPrice(0)), remote(paid), limit=99, tiers=FULL)
    with pytest.raises(BudgetExhausted):
        await stage.engine.infer(ask())
    assert not paid.seen


async def test_t03_a_remote_model_with_an_unknown_price_is_never_called() -> None:
    groq = FakeModel("groq")
    with pytest.raises(PriceUnknown, match="price of groq"):
        await scene(remote(groq, price=FlatPrice(None))).engine.infer(ask())
    down = local(FakeModel("local", failed(FailureKind.REFUSED)))
    with pytest.raises(NoProvider, match="price of groq"):
        await scene(down, remote(groq, price=FlatPrice(None))).engine.infer(ask())
    assert not groq.seen


async def test_t03_local_is_priced_0_and_reserves_nothing() -> None:
    stage = scene(local(FakeModel("local")), limit=0)
    reply = await stage.engine.infer(ask())
    assert (reply.cost_nano, reply.attempts[0].measured) == (0, True)
    assert (await stage.ledger.status()).settled_nano == 0


async def test_t04_an_exhausted_or_frozen_budget_never_blocks_local() -> None:
    groq, mine = FakeModel("groq", answer(tokens=100)), FakeModel("local")
    stage = scene(remote(groq), local(mine), limit=100, tiers=FULL)
    assert (await stage.engine.infer(ask("1"))).provider == "groq"
    assert (await stage.engine.infer(ask("2"))).provider == "local"
    await stage.ledger.change("freeze")
    assert (await stage.engine.infer(ask("3"))).provider == "local"


async def test_t04_a_ledger_that_cannot_be_read_blocks_remote_but_not_local() -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    stage = scene(remote(groq), local(mine), ledger=BrokenLedger())
    assert (await stage.engine.infer(ask())).provider == "local"
    with pytest.raises(NoProvider, match="database is locked"):
        await scene(remote(groq), ledger=BrokenLedger()).engine.infer(ask())
    assert not groq.seen


class BrokenLedger:
    def __getattr__(self, name: Any) -> Any:
        async def broken(*_: Any, **__: Any) -> Never:
            raise Busy("the database is locked", hint="try again")

        return broken


async def test_a_frozen_budget_is_a_budget_refusal() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq))
    await stage.ledger.change("freeze")
    with pytest.raises(BudgetExhausted, match="frozen"):
        await stage.engine.infer(ask())
    assert not groq.seen


async def test_offline_mode_asks_local_models_only() -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    stage = scene(remote(groq), local(mine), options=EngineOptions(offline=True))
    assert (await stage.engine.infer(ask())).provider == "local"
    with pytest.raises(NoProvider, match="offline"):
        await scene(remote(groq), options=EngineOptions(offline=True)).engine.infer(ask())
    assert not groq.seen


async def test_tiers_reorder_then_restrict_the_candidates_and_are_told_once() -> None:
    groq, mine = FakeModel("groq", answer(tokens=40)), FakeModel("local", failed(FailureKind.SERVER), answer())
    stage = scene(remote(groq), local(mine), limit=1000)
    for number in range(19):  # the hold of the last one passes 80 %
        assert (await stage.engine.infer(ask(str(number)))).provider == "groq"
    assert [event.tier for event in stage.told(BudgetTierEntered)] == ["local-first"]
    assert (await stage.engine.infer(ask("first local"))).provider == "groq"
    assert (await stage.engine.infer(ask("then local"))).provider == "local"
    mine.script = [failed(FailureKind.SERVER)]
    for number in range(3):
        await asyncio.gather(stage.engine.infer(ask(f"{number}")), return_exceptions=True)
    assert [event.tier for event in stage.told(BudgetTierEntered)] == ["local-first", "local-only"]
    with pytest.raises(BudgetExhausted, match="local-only"):
        await stage.engine.infer(ask("last"))


async def test_t11_a_call_without_max_output_gets_one_before_it_is_priced() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq), options=EngineOptions(max_output=77))
    await stage.engine.infer(ask())
    await stage.engine.infer(ask(max_output=5))
    await stage.engine.infer(ask(parameters={"max_tokens": 9}))
    await stage.engine.infer(ask(max_output=5, parameters={"max_completion_tokens": 9}))
    assert [call.max_output for call in groq.seen] == [77, 5, 9, 5]
    assert all(not call.parameters for call in groq.seen)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n": 5},
        {"model": "dear"},
        {"models": ["dear"]},
        {"web_search_options": {}},
        {"service_tier": "priority"},
        {"max_tokens": -1},
        {"max_tokens": "9"},
        {"max_tokens": True},
    ],
)
async def test_t11_parameters_that_no_worst_case_could_hold_are_refused(parameters: Any) -> None:
    groq = FakeModel("groq")
    with pytest.raises(UsageError):
        await scene(remote(groq)).engine.infer(ask(parameters=parameters))
    assert not groq.seen


@pytest.mark.parametrize("started", [True, False])
async def test_a_failure_is_charged_at_its_worst_case_only_when_it_may_have_been_billed(*, started: bool) -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER, started=started))
    stage = scene(remote(groq), options=EngineOptions(retries=0))
    with pytest.raises(NoProvider):
        await stage.engine.infer(ask())
    status = await stage.ledger.status()
    assert (status.settled_nano, status.unmeasured_nano, status.reserved_nano) == (100 * started, 100 * started, 0)


async def test_a_failure_that_tells_its_usage_is_charged_at_that() -> None:
    error: ProviderFailed = failed(FailureKind.MALFORMED)
    error.usage = Usage(input=30)
    stage = scene(remote(FakeModel("groq", error)))
    with pytest.raises(NoProvider):
        await stage.engine.infer(ask())
    assert (await stage.ledger.status()).settled_nano == 30


@pytest.mark.parametrize(
    ("usage", "cost", "measured"),
    [
        (None, 100, False),
        (Usage(), 0, True),
        (Usage(input=3, output=4), 7, True),
        (Usage(input=3, cost_nano=0), 0, True),
        (Usage(input=3, cost_nano=55), 55, True),
        (Usage(input=-3), 100, False),
        (Usage(cost_nano=-1), 100, False),
        (Usage(input=5000), 5000, True),
    ],
)
async def test_t14_the_providers_word_is_believed_zero_included_and_nonsense_is_not(
    *, usage: Usage | None, cost: int, measured: bool
) -> None:
    stage = scene(remote(FakeModel("groq", replace(answer(), usage=usage))))
    reply = await stage.engine.infer(ask())
    assert (reply.cost_nano, reply.attempts[0].measured) == (cost, measured)
    status = await stage.ledger.status()
    assert (status.settled_nano, status.unmeasured_nano) == (cost, 0 if measured else cost)


async def test_t13_a_cancelled_call_is_charged_never_zero() -> None:
    groq = FakeModel("groq", hang)
    stage = scene(remote(groq))
    task = asyncio.create_task(stage.engine.infer(ask()))
    await until(lambda: groq.seen)
    assert (await stage.ledger.status()).reserved_nano == 100
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await stage.engine.close()
    status = await stage.ledger.status()
    assert (status.settled_nano, status.unmeasured_nano, status.reserved_nano) == (100, 100, 0)


class SlowLedger(MemoryLedger):
    """Reserves, then takes its time to say so."""

    gate: asyncio.Event

    async def reserve(self, hold: Any) -> Any:
        reservation = await super().reserve(hold)
        await self.gate.wait()
        return reservation


async def test_a_caller_who_leaves_while_the_ledger_works_leaves_no_hold_behind() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq))
    stage.ledger = SlowLedger(stage.clock, 1000)
    stage.ledger.gate = asyncio.Event()
    engine = stage.another_process()
    task = asyncio.create_task(engine.infer(ask()))
    await until(lambda: stage.ledger._rows)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    stage.ledger.gate.set()
    await engine.close()
    status = await stage.ledger.status()
    assert (status.settled_nano, status.reserved_nano, groq.seen) == (0, 0, [])


class ForgetfulLedger(MemoryLedger):
    """Fails to settle as often as `failures` says."""

    failures = 0
    tries = 0

    async def settle(self, reservation: Any, settlement: Any) -> None:
        self.tries += 1
        if self.tries <= self.failures:
            raise Busy("the database is locked", hint="try again")
        await super().settle(reservation, settlement)


@pytest.mark.parametrize("failures", [1, 3])
async def test_t07_a_failed_settlement_is_tried_again_and_the_answer_is_kept(failures: int) -> None:
    stage = scene(remote(FakeModel("groq")))
    stage.ledger = ForgetfulLedger(stage.clock, 1000)
    stage.ledger.failures = failures
    engine = stage.another_process()
    assert (await engine.infer(ask())).cost_nano == 10
    await engine.close()
    status = await stage.ledger.status()
    assert (status.settled_nano, status.reserved_nano) == (10, 0)
    assert not stage.told(SettlementFailed)


async def test_t07_a_settlement_that_never_succeeds_is_reported_and_its_hold_expires_at_the_worst_case() -> None:
    stage = scene(remote(FakeModel("groq")))
    stage.ledger = ForgetfulLedger(stage.clock, 1000)
    stage.ledger.failures = 1000
    engine = stage.another_process()
    await engine.infer(ask())
    await engine.close()
    (event,) = stage.told(SettlementFailed)
    assert (event.cost_nano, event.reason) == (10, "the database is locked")
    stage.clock.advance(3600)
    await stage.ledger.sweep()
    assert (await stage.ledger.status()).settled_nano == 100


async def test_t08_a_running_calls_hold_is_renewed() -> None:
    gate = asyncio.Event()
    groq = FakeModel("groq", after(gate))
    stage = scene(remote(groq), options=EngineOptions(lease=timedelta(seconds=0.03)))
    stage.clock = SystemClock()
    stage.ledger = MemoryLedger(stage.clock, 1000)
    stage.sleep = asyncio.sleep  # real time: the lease is renewed while the provider works
    engine = stage.another_process()
    task = asyncio.create_task(engine.infer(ask()))
    await asyncio.sleep(0.15)
    swept = await stage.ledger.sweep()
    gate.set()
    await task
    assert swept == 0


async def test_limits_of_project_and_operation_hold_through_the_engine() -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    stage = scene(remote(groq), local(mine))
    await stage.ledger.change("set-limit", "project:small", 50)
    assert (await stage.engine.infer(ask(project="small"))).provider == "local"
    assert (await stage.engine.infer(ask(project="large"))).provider == "groq"


async def test_t36_errors_keep_no_prompt() -> None:
    stage = scene(remote(FakeModel("groq", failed(FailureKind.SERVER))))
    with pytest.raises(NoProvider) as error:
        await stage.engine.infer(ask("the prompt itself"))
    assert "the prompt itself" not in f"{error.value} {error.value.hint} {vars(error.value)} {stage.events}"


async def test_t36_failed_calls_leave_nothing_in_memory() -> None:
    class Forgetful(FakeModel):
        async def infer(self, call: Any) -> Any:
            del call
            raise failed(FailureKind.SERVER)

    stage = scene(remote(Forgetful("groq")), remote(Forgetful("openai")))
    for number in range(20):
        await asyncio.gather(stage.engine.infer(ask(f"unforgettable {number}")), return_exceptions=True)
    await stage.engine.close()
    gc.collect()
    kept = [thing for thing in gc.get_objects() if isinstance(thing, Message) and "unforgettable" in thing.content]
    assert len(kept) <= 1  # the loop may still hold the frame of the last one


OUTCOMES = st.sampled_from(["answer", "mute", "server", "unsent", "limited", "malformed", "hang", "cheat"])


def _step(outcome: Any) -> Any:
    return {
        "answer": answer(),
        "mute": answer(tokens=-1),
        "server": failed(FailureKind.SERVER),
        "unsent": failed(FailureKind.CONNECTION, started=False),
        "limited": failed(FailureKind.RATE_LIMITED, after=1, started=False),
        "malformed": failed(FailureKind.MALFORMED),
        "hang": hang,
        "cheat": answer(tokens=0),
    }[outcome]


@settings(max_examples=60, deadline=None)
@given(
    scripts=st.lists(st.lists(OUTCOMES, min_size=1, max_size=4), min_size=1, max_size=3),
    limit=st.integers(0, 1200),
    style=st.sampled_from([None, "cost-optimized", "latency-optimized", "quality-optimized"]),
    callers=st.integers(1, 12),
    schema=st.booleans(),
)
async def test_t12_whatever_happens_no_cent_is_spent_past_the_limit_and_no_hold_is_left(
    *, scripts: Any, limit: int, style: str, callers: int, schema: bool
) -> None:
    names = ("groq", "openai", "anthropic")
    models = [FakeModel(name, *map(_step, script)) for name, script in zip(names, scripts, strict=False)]
    quick = styles({"latency-optimized": {"hedgeAfter": 0}})
    options = EngineOptions(priority=names, strategies=quick, retries=1)
    stage = scene(*(remote(model, timeout=0.002) for model in models), limit=limit, tiers=FULL, options=options)
    calls = [ask(str(number), strategy=style, schema={} if schema else None) for number in range(callers)]
    await asyncio.gather(*(stage.engine.infer(call) for call in calls), return_exceptions=True)
    await stage.engine.close()
    status = await stage.ledger.status()
    assert status.reserved_nano == 0
    assert status.settled_nano <= limit
    sent = sum(len(model.seen) for model in models)
    assert len(stage.audit.rows) == sent
    assert sum(row.cost_nano for row in stage.audit.rows) == status.settled_nano


async def test_embeddings_are_reserved_and_settled_batch_by_batch() -> None:
    openai = FakeModel("openai")
    stage = scene(
        remote(openai, embeds=True), limit=250, tiers=FULL, options=EngineOptions(embed_inputs=2, embed_tokens=1000)
    )
    texts = tuple(f"text {number}" for number in range(5))
    reply = await stage.engine.embed(EmbedCall("embed-item", texts, provider="openai"))
    assert [len(call.texts) for call in openai.seen] == [2, 2, 1]
    assert (len(reply.vectors), reply.cost_nano, reply.usage.input, len(reply.attempts)) == (5, 5, 5, 3)
    assert [vector[0] for vector in reply.vectors] == [6.0] * 5
