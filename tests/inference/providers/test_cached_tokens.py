"""What cached tokens cost in the end, through a provider, whatever the provider's way of telling them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.inference.providers.conftest import Make

from knowledge_system.domain.inference import Call, Message
from knowledge_system.inference.prices import Price
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

CACHED = {
    "openai": {
        "prompt_tokens": 1_000,
        "completion_tokens": 50,
        "total_tokens": 1_050,
        "prompt_tokens_details": {"cached_tokens": 600},
    },
    "anthropic": {"input_tokens": 400, "output_tokens": 50, "cache_read_input_tokens": 600},
}
PRICE = Price(Decimal(4), Decimal(16), cache_read=Decimal("0.4"))
"""Dollars per million tokens, thousands of nano-dollars a token. What is read from a cache costs a tenth; what is
written costs, by the published factors, 1.25 times the price for five minutes and twice for an hour."""
CALL = Call("extract", (Message("user", "the same question"),), max_output=100)


@pytest.mark.parametrize("dialect", CACHED)
async def test_t17_the_same_cached_tokens_cost_the_same_whichever_way_they_are_told(
    dialect: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(Step(usage=CACHED[dialect]))
    reply = await make(dialect, price=PRICE).infer(CALL)
    assert reply.cost_nano == 400 * 4_000 + 600 * 400 + 50 * 16_000


async def test_t17_what_is_written_to_a_cache_costs_its_own_price(make: Make, server: ScriptedProvider) -> None:
    written = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}
    told = {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 300, "cache_creation": written}
    server.script(Step(usage=told))
    reply = await make("anthropic", price=PRICE).infer(CALL)
    assert reply.cost_nano == 10 * 4_000 + 100 * 5_000 + 200 * 8_000 + 5 * 16_000
