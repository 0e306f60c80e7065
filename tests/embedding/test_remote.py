"""The larger space over real HTTP: what a call carries, what it costs, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.embedding.remote_parts import MODEL, remote

from knowledge_system.domain.errors import ModelUnavailable, WrongDimension
from knowledge_system.domain.inference import BudgetExhausted, PrivacyRefused
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.embedding.remote import DIMENSION, MAX_TOKENS, NOTHING, QUERY, Purpose, remote_space, sendable
from knowledge_system.testing.scripted_provider import Step


def numbered(count: int) -> list[str]:
    return [f"text number {number}" for number in range(count)]


async def test_texts_go_in_batches_one_after_another_and_nothing_else_is_asked_for() -> None:
    async with remote() as parts:
        await parts.with_options(batch_size=4).embed(numbered(10))

        assert [len(request.body["input"]) for request in parts.server.requests] == [4, 4, 2]
        assert parts.texts == numbered(10)
        assert parts.server.peak == 1
        assert {request.path for request in parts.server.requests} == {"/v1/embeddings"}
        bodies = [request.body for request in parts.server.requests]
        assert all(set(body) == {"model", "input", "encoding_format"} and body["model"] == MODEL for body in bodies)


async def test_every_call_is_audited_and_booked_under_its_purpose() -> None:
    async with remote() as parts:
        purpose = Purpose(QUERY, Sensitivity.PUBLIC, "shop")
        model = parts.model.serving(purpose)
        await model.embed(["how do we deploy?"])

        (entry,), _ = await parts.audit.entries(10)
        assert (entry.operation, entry.sensitivity, entry.project) == (QUERY, Sensitivity.PUBLIC, "shop")
        status = await parts.ledger.status()
        assert status.settled_nano == model.meter.cost_nano == entry.cost_nano > 0
        assert parts.model.meter.requests == 0, "another model, another meter"
        assert (model.meter.requests, model.meter.tokens) == (1, len("how do we deploy?") // 4 + 1)


async def test_the_price_of_a_larger_space_is_exact_to_the_nano_dollar() -> None:
    async with remote() as parts:
        parts.server.respond = None
        parts.server.default = Step(dimensions=DIMENSION, usage={"prompt_tokens": 1_234, "total_tokens": 1_234})
        model = parts.model
        await model.embed(["one", "two"])
        assert model.meter.cost_nano == 1_234 * 20, "$0.02 a million tokens are 20 nano-dollars a token"


@pytest.mark.parametrize("level", [Sensitivity.CONFIDENTIAL, Sensitivity.SECRET], ids=str)
async def test_what_may_not_leave_is_refused_before_anything_is_sent(level: Sensitivity) -> None:
    async with remote() as parts:
        with pytest.raises(PrivacyRefused):
            await parts.model.serving(Purpose(sensitivity=level)).embed(["canary"])
        assert parts.server.requests == []
        assert (await parts.ledger.status()).settled_nano == 0


async def test_internal_texts_stay_where_the_policy_says_so() -> None:
    async with remote(internal="local-only") as parts:
        with pytest.raises(PrivacyRefused):
            await parts.model.embed(["canary"])
        await parts.model.serving(Purpose(sensitivity=Sensitivity.PUBLIC)).embed(["open"])
        assert parts.texts == ["open"]


async def test_an_empty_budget_refuses_before_anything_is_sent() -> None:
    async with remote(dollars=0.000_000_1) as parts:
        with pytest.raises(BudgetExhausted):
            await parts.model.embed(["too dear"])
        assert parts.server.requests == []


@pytest.mark.parametrize("length", [8, 1535, 3072])
async def test_vectors_of_another_length_are_no_vectors_of_this_space(length: int) -> None:
    async with remote() as parts:
        parts.server.respond = None
        parts.server.default = Step(dimensions=length)
        with pytest.raises(WrongDimension) as caught:
            await parts.with_options(batch_size=1).embed(["one", "two", "three"])
        assert str(length) in caught.value.message
        assert "embeddings.remote" in caught.value.hint
        assert len(parts.server.requests) == 1, "no second batch is paid for vectors that fit nowhere"


async def test_a_model_with_longer_vectors_is_asked_to_shorten_them() -> None:
    async with remote() as parts:
        parts.server.respond = None
        (vector,) = await parts.with_options(shorten=True).embed(["one"])
        assert len(vector) == DIMENSION
        assert parts.server.requests[0].body["dimensions"] == DIMENSION


FAULTS = {
    "refused": {"status": 503},
    "cut off": {"cut": "start"},
    "no json": {"body": "<html>"},
    "one vector for two texts": {"body": {"data": [{"index": 0, "embedding": [1.0] * DIMENSION}]}},
    **{
        f"places {places}": {"body": {"data": [{"index": one, "embedding": [1.0] * DIMENSION} for one in places]}}
        for places in ((0, 0), (1, 2), (0, None), (0, "1"), ([0], 1))
    },
    "not a number": {"body": {"data": [{"index": place, "embedding": [None] * DIMENSION} for place in (0, 1)]}},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_provider_that_fails_makes_the_model_unavailable(fault: str) -> None:
    options: dict[str, Any] = FAULTS[fault]
    async with remote(retries=0) as parts:
        parts.server.respond = None
        parts.server.default = Step(**options)
        with pytest.raises(ModelUnavailable) as caught:
            await parts.model.embed(["one", "two"])
        assert not isinstance(caught.value, WrongDimension)
        assert caught.value.hint


async def test_a_question_does_not_wait_beyond_its_deadline() -> None:
    async with remote() as parts:
        parts.server.respond = None
        parts.server.default = Step(hang="start")
        deadline = datetime.now(UTC) + timedelta(milliseconds=200)
        with pytest.raises(ModelUnavailable) as caught:
            await parts.model.serving(Purpose(QUERY, deadline=deadline)).embed(["anybody there?"])
        assert "deadline" in caught.value.message
        assert len(parts.server.requests) <= 1, "asked at most once"


async def test_equal_questions_are_paid_once() -> None:
    async with remote() as parts:
        model = parts.model.serving(Purpose(QUERY))
        first, again = await model.embed(["the same?"]), await model.embed(["the same?"])
        assert first == again
        assert len(parts.server.requests) == 1
        assert model.meter.requests == 1


def test_a_space_is_named_after_provider_and_model() -> None:
    space = remote_space("openai", MODEL)
    assert space.key.startswith("openai:text-embedding-3-small:1536:")
    assert space.collection == "knowledge_1536"
    others = {remote_space("openrouter", MODEL).key, remote_space("openai", "text-embedding-3-large").key}
    assert len({space.key, *others}) == 3


@given(st.text(st.characters(), max_size=60).flatmap(lambda text: st.integers(1, 400).map(lambda times: text * times)))
def test_what_is_sent_is_valid_short_and_never_empty(text: str) -> None:
    sent = sendable(text)
    assert 0 < len(sent.encode("utf-8")) <= MAX_TOKENS
    assert sent.strip()
    assert "\0" not in sent
    assert sent == NOTHING or text[:1].isspace() or sent[:1] in {text[:1], "?", " "}


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=2_000))
def test_a_text_of_ordinary_length_is_sent_as_it_is(text: str) -> None:
    assert sendable(text) == (text if text.strip() else NOTHING)
