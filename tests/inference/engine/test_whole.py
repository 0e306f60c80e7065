"""The engine with real providers against a scripted HTTP server: what meets here is otherwise tested apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from tests.inference.engine.actors import RULE, Scene, ask, scene

from knowledge_system.domain.inference import NoProvider, PriceUnknown, PrivacyRefused
from knowledge_system.domain.money import BreakerRule
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.candidates import Candidate, candidate_of
from knowledge_system.inference.prices import price
from knowledge_system.inference.provider import Provider, ProviderOptions
from knowledge_system.inference.vendors import vendor
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step


@dataclass
class Wired:
    """Two remote providers, each with a server of its own."""

    groq: ScriptedProvider
    openai: ScriptedProvider
    candidates: list[Candidate]

    def scene(self, **fields: Any) -> Scene:
        return scene(*self.candidates, limit=10**9, **fields)


def wired(name: str, server: ScriptedProvider, **fields: Any) -> Provider:
    options = ProviderOptions(base_url=server.openai_url, model="served-model", **fields)
    return Provider(vendor(name), options, key="sk-test-0123456789abcdef")


@pytest.fixture
async def wires() -> AsyncIterator[Wired]:
    async with ScriptedProvider() as groq, ScriptedProvider() as openai:
        providers = [wired(name, server, price=price(1, 4)) for name, server in (("groq", groq), ("openai", openai))]
        rule = BreakerRule(RULE.failure_threshold, RULE.reset_timeout, RULE.half_open_requests)
        yield Wired(groq, openai, [candidate_of(provider, rule) for provider in providers])
        for provider in providers:
            await provider.aclose()


async def test_a_call_is_answered_paid_and_audited(wires: Wired) -> None:
    wires.groq.script(Step(text="hello"))
    stage = wires.scene()
    reply = await stage.engine.infer(ask())
    status = await stage.ledger.status()
    assert (reply.text, reply.provider) == ("hello", "groq")
    assert 0 < reply.cost_nano == status.settled_nano == stage.audit.rows[0].cost_nano
    assert (status.reserved_nano, status.unmeasured_nano) == (0, 0)


async def test_a_failing_provider_is_left_for_the_next_and_then_left_alone(wires: Wired) -> None:
    wires.groq.default = Step(status=503)
    stage = wires.scene()
    for number in range(5):
        assert (await stage.engine.infer(ask(str(number)))).provider == "openai"
    assert (len(wires.groq.requests), len(wires.openai.requests)) == (RULE.failure_threshold, 5)


async def test_a_bad_key_is_told_and_not_asked_again(wires: Wired) -> None:
    wires.groq.default = Step(status=401)
    stage = wires.scene()
    for number in range(3):
        await stage.engine.infer(ask(str(number)))
    assert len(wires.groq.requests) == 1
    assert (await stage.engine.breakers())[0].failures == 0


async def test_a_malformed_structured_reply_is_repaired_with_what_was_wrong(wires: Wired) -> None:
    wires.groq.script(Step(text="no json here"), Step(text='{"kind": "fact"}'))
    schema = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
    stage = wires.scene()
    reply = await stage.engine.infer(ask(schema=schema))
    assert (reply.data, [attempt.outcome for attempt in reply.attempts]) == (
        {"kind": "fact"},
        ["malformed", "answered"],
    )
    assert "no json here" in wires.groq.requests[1].text
    assert all(attempt.measured for attempt in reply.attempts)
    assert (await stage.ledger.status()).settled_nano == reply.cost_nano


async def test_t15_a_stream_is_priced_with_the_usage_it_tells(wires: Wired) -> None:
    wires.groq.script(Step(text="one two three four"))
    stage = wires.scene()
    deltas = [delta async for delta in stage.engine.stream(ask())]
    reply = deltas[-1].reply
    assert reply is not None
    assert "".join(delta.text for delta in deltas) == "one two three four"
    assert (reply.attempts[0].measured, reply.cost_nano > 0) == (True, True)
    assert (await stage.ledger.status()).settled_nano == reply.cost_nano


async def test_t13_an_abandoned_stream_is_charged_at_its_hold(wires: Wired) -> None:
    wires.groq.script(Step(text="one two three four " * 50))
    stage = wires.scene()
    async with aclosing(stage.engine.stream(ask())) as deltas:
        await anext(deltas)
        held = (await stage.ledger.status()).reserved_nano
    status = await stage.ledger.status()
    assert (status.settled_nano, status.unmeasured_nano, status.reserved_nano) == (held, held, 0)
    assert held > 0


async def test_no_provider_hears_of_what_is_confidential(wires: Wired) -> None:
    stage = wires.scene()
    for level in (Sensitivity.CONFIDENTIAL, Sensitivity.SECRET):
        with pytest.raises(PrivacyRefused):
            await stage.engine.infer(ask("CANARY-4711", sensitivity=level))
    assert not wires.groq.requests + wires.openai.requests


async def test_t03_a_model_nobody_has_a_price_for_is_not_asked() -> None:
    async with ScriptedProvider() as server:
        provider = wired("groq", server)
        with pytest.raises(PriceUnknown):
            await scene(candidate_of(provider)).engine.infer(ask())
        assert not server.requests
        await provider.aclose()


async def test_a_missing_key_is_a_reason_not_a_request() -> None:
    async with ScriptedProvider() as server:
        provider = Provider(vendor("groq"), ProviderOptions(base_url=server.openai_url, price=price(1, 4)), key=None)
        with pytest.raises(NoProvider, match="GROQ_API_KEY"):
            await scene(candidate_of(provider)).engine.infer(ask())
        assert not server.requests
        await provider.aclose()
