"""Money: exact, rounded up, never below what is billed; unknown is not free."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.inference import Call, EmbedCall, Message, PriceUnknown, Usage
from knowledge_system.inference.prices import FREE, Price, PriceBook, cost_nano, price, worst_case_nano

HAIKU = Price(Decimal(1), Decimal(5), Decimal("0.1"), Decimal("1.25"), Decimal(2))
tokens = st.integers(0, 2_000_000)
rates = st.decimals("0", "200", places=4)


class Noon:
    def now(self) -> datetime:
        return datetime(2026, 11, 20, 12, tzinfo=UTC)


def ask(text: str, **fields: object) -> Call:
    return Call("extract", (Message("user", text),), **fields)  # type: ignore[arg-type]


def test_a_dollar_per_million_is_a_thousand_nano_dollars_per_token() -> None:
    assert cost_nano(Usage(input=1_000_000), price(1)) == 1_000_000_000
    assert cost_nano(Usage(input=8), price("0.02")) == 160, "an embedding of 8 tokens: 0.16 micro-dollars"


def test_fractions_of_a_nano_dollar_round_up() -> None:
    assert cost_nano(Usage(input=1), price("0.0375", "0")) == 38
    assert cost_nano(Usage(input=1), price("0.000001", "0")) == 1
    assert cost_nano(Usage(), price(3, 15)) == 0


def test_cached_tokens_have_their_own_prices() -> None:
    usage = Usage(input=100, output=10, cache_read=1000, cache_write=200, cache_write_hour=50)
    assert cost_nano(usage, HAIKU) == 100 * 1000 + 10 * 5000 + 1000 * 100 + 200 * 1250 + 50 * 2000


def test_cache_prices_that_are_not_told_never_cost_less_than_they_can() -> None:
    usage = Usage(cache_read=100, cache_write=100, cache_write_hour=100)
    assert cost_nano(usage, price(1, 5)) == 100 * 1000 + 100 * 1250 + 100 * 2000


def test_reasoning_is_not_counted_twice() -> None:
    assert cost_nano(Usage(output=50, reasoning=40), HAIKU) == cost_nano(Usage(output=50), HAIKU)


@pytest.mark.parametrize("told", [0, 1, 123_456])
def test_the_providers_own_figure_is_believed(told: int) -> None:
    assert cost_nano(Usage(input=10_000, output=10_000, cost_nano=told), HAIKU) == told


@given(tokens, tokens, tokens, rates, rates)
def test_costs_are_exact(given_: int, made: int, read: int, rate_in: Decimal, rate_out: Decimal) -> None:
    rate = Price(rate_in, rate_out, cache_read=rate_in / 4)
    exact = Fraction(given_) * Fraction(rate_in) + Fraction(made) * Fraction(rate_out)
    exact = (exact + Fraction(read) * Fraction(rate_in / 4)) * 1000
    cost = cost_nano(Usage(input=given_, output=made, cache_read=read), rate)
    assert 0 <= cost - exact < 1


def test_a_higher_tier_prices_the_whole_request() -> None:
    high = Price(Decimal("2.5"), Decimal(15))
    tiered = Price(Decimal("1.25"), Decimal(10), tiers=((200_000, high),))
    assert cost_nano(Usage(input=200_000), tiered) == 200_000 * 1250
    assert cost_nano(Usage(input=200_001), tiered) == 200_001 * 2500
    assert (
        cost_nano(Usage(input=100_001, cache_read=100_000, output=1), tiered) == 100_001 * 2500 + 250_000_000 + 15_000
    )
    assert worst_case_nano(ask("x" * 300_000), tiered) >= cost_nano(Usage(input=250_000), tiered)


@given(st.text(max_size=300), st.integers(1, 5000), rates, rates, st.integers(0, 100), st.integers(0, 100))
def test_the_worst_case_covers_every_usage_within_the_limits(  # noqa: PLR0917 -- one strategy a parameter
    text: str, most: int, rate_in: Decimal, rate_out: Decimal, share: int, made: int
) -> None:
    call, rate = ask(text, max_output=most), Price(rate_in, rate_out, cache_write=rate_in * 2)
    given_ = len(text.encode("utf-8", "replace"))
    cached = given_ * share // 100
    usage = Usage(input=given_ - cached, cache_write=cached, output=most * made // 100)
    assert cost_nano(usage, rate) <= worst_case_nano(call, rate)


def test_the_context_bounds_a_long_prompt() -> None:
    assert worst_case_nano(ask("x" * 100_000, max_output=1), price(1, 0), 8192) == 8192 * 1000


def test_cache_marks_raise_the_worst_case() -> None:
    plain, marked = ask("hello"), ask("hello", parameters={"cache_control": {"type": "ephemeral", "ttl": "1h"}})
    by_marks = worst_case_nano(replace(marked, max_output=1), price(1, 0))
    assert by_marks >= 2 * worst_case_nano(replace(plain, max_output=1), price(1, 0))


def test_embeddings_need_no_output_price() -> None:
    call = EmbedCall("embed", ("abcd", "efgh"))
    assert worst_case_nano(call, price("0.02")) == (8 + 2 * 16) * 20
    with pytest.raises(PriceUnknown):
        worst_case_nano(ask("hello"), price("0.02"))


def test_content_of_unknown_size_has_no_worst_case() -> None:
    call = Call("chat", (Message("user", ({"type": "file", "file": {"file_id": "x"}},)),))
    with pytest.raises(PriceUnknown):
        worst_case_nano(call, price(1, 1))
    assert worst_case_nano(call, price(1, 1), 1000) == (1000 + 2048) * 1000
    assert worst_case_nano(call, FREE) == 0


class TestPriceBook:
    def test_overrides_come_first(self) -> None:
        mine = price(9, 9)
        book = PriceBook({("groq", "openai/gpt-oss-20b"): mine})
        assert book.find("groq", "groq", "openai/gpt-oss-20b") is mine

    @pytest.mark.parametrize(
        ("library", "model"),
        [
            ("groq", "openai/gpt-oss-20b"),
            ("openrouter", "openai/gpt-oss-20b"),
            ("openai", "gpt-5-mini"),
            ("google", "gemini-3.1-flash-lite"),
            ("anthropic", "claude-haiku-4-5"),
        ],
    )
    def test_the_default_models_are_known(self, library: str, model: str) -> None:
        found = PriceBook(clock=Noon()).find(library, "any", model)
        assert found is not None
        assert found.output is not None
        assert 0 < found.input < found.output

    def test_cache_prices_of_anthropic_come_from_the_library(self) -> None:
        found = PriceBook(clock=Noon()).find("anthropic", "anthropic", "claude-haiku-4-5")
        assert found is not None
        factors = [found.cache_read, found.cache_write, found.cache_write_hour]
        assert [rate / found.input for rate in factors if rate is not None] == [
            Decimal("0.1"),
            Decimal("1.25"),
            Decimal(2),
        ]

    def test_tiers_come_from_the_library(self) -> None:
        found = PriceBook(clock=Noon()).find("google", "gemini", "gemini-2.5-pro")
        assert found is not None
        ((start, high),) = found.tiers
        assert start == 200_000
        assert high.input > found.input

    def test_embedding_models_have_no_output_price(self) -> None:
        found = PriceBook(clock=Noon()).find("openai", "openai", "text-embedding-3-small")
        assert found == Price(Decimal("0.02"))

    def test_nobody_knows_this_model(self) -> None:
        assert PriceBook(clock=Noon()).find("groq", "groq", "no-such-model") is None
        assert PriceBook(clock=Noon()).find("no-such-provider", "x", "y") is None
        assert PriceBook(clock=Noon()).find(None, "local", "llama3.2:3b") is None

    def test_the_memory_is_bounded(self) -> None:
        book = PriceBook(clock=Noon())
        for number in range(600):
            book.find("groq", "groq", f"unknown-{number}")
        assert len(book._known) <= 256
