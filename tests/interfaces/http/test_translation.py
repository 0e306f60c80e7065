"""The OpenAI protocol and the engine's nouns: what is said in one comes out in the other."""

from __future__ import annotations

import contextlib
import json
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.errors import Busy, KnowledgeError, NotFound, RefusedByPolicy, UsageError
from knowledge_system.domain.inference import (
    BudgetExhausted,
    Delta,
    EmbedReply,
    FailureKind,
    NoProvider,
    PriceUnknown,
    PrivacyRefused,
    ProviderFailed,
    Reply,
    Usage,
)
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.interfaces.http import gateway as protocol
from knowledge_system.interfaces.http.problems import openai_error, status_of

HEAD = protocol.Envelope()
STAMP = protocol.Stamp("chatcmpl-1", 7, "groq")
ASK: dict[str, Any] = {"model": "groq", "messages": [{"role": "user", "content": "Hello"}]}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["model", "messages", "stream", "stream_options", "temperature", "max_tokens", "n", "tools", "response_format"]
FIELDS += ["store", "input", "dimensions", "encoding_format", "max_completion_tokens", "modalities", "user"]
WORDS = JSON | st.sampled_from(
    ["groq", "json_schema", [{"role": "user", "content": "x"}], [{"role": []}], {"type": []}]
)


@given(st.dictionaries(st.sampled_from(FIELDS), WORDS))
def test_whatever_is_sent_becomes_a_call_or_a_usage_error(fields: dict[str, Any]) -> None:
    for body in (fields, {**ASK, **fields}):
        with contextlib.suppress(UsageError):
            protocol.chat_call(body, HEAD, "gateway")
        with contextlib.suppress(UsageError):
            protocol.embed_call(body, HEAD, "gateway")
        with contextlib.suppress(UsageError):
            protocol.wants_usage(body)


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_bytes_come_are_an_object_or_a_usage_error(raw: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(protocol.parse(raw), dict)


def test_a_call_carries_what_request_and_headers_say() -> None:
    headers = {"x-knowledge-sensitivity": "Public", "x-knowledge-project": "shop", "idempotency-key": "k"}
    extra = {"temperature": 0.5, "max_tokens": 9, "seed": 3, "user": "me", "n": 1, "store": False, "stop": None}
    call = protocol.chat_call({**ASK, **extra}, protocol.envelope(headers), "gateway")

    assert (call.operation, call.project, call.sensitivity) == ("gateway", "shop", Sensitivity.PUBLIC)
    assert (call.temperature, call.max_output, call.idempotency_key, call.model) == (0.5, 9, "k", "groq")
    assert call.parameters == {"seed": 3}


def test_a_json_schema_is_validated_by_the_engine() -> None:
    schema = {"type": "object"}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    call = protocol.chat_call({**ASK, "response_format": wanted}, HEAD, "gateway")

    assert call.schema == schema
    assert "response_format" not in call.parameters


def test_a_conversation_with_tools_is_passed_on_whole() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    call = protocol.chat_call({"model": "auto", "messages": messages}, HEAD, "gateway")

    assert [message.role for message in call.messages] == ["system", "user", "assistant", "tool"]
    assert call.messages[2].extra == {"tool_calls": [CALL]}
    assert call.messages[3].extra == {"tool_call_id": "call_1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": 3}]},
        {"model": ""},
        {"n": 2},
        {"store": True},
        {"service_tier": "priority"},
        {"web_search_options": {}},
        {"tools": [{"type": "web_search"}]},
        {"temperature": "hot"},
        {"max_tokens": 0},
        {"response_format": {"type": "json_schema"}},
    ],
)
def test_what_would_be_ignored_or_cost_more_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        protocol.chat_call({**ASK, **wrong}, HEAD, "gateway")


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UsageError):
        protocol.envelope({"x-knowledge-sensitivity": "harmless"})


def test_usage_counts_cached_tokens_as_prompt() -> None:
    told = protocol.usage_of(Usage(input=10, output=4, cache_read=5, cache_write=1, reasoning=2))

    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (16, 4, 20)
    assert told["prompt_tokens_details"]["cached_tokens"] == 5
    assert protocol.usage_of(None)["total_tokens"] == 0


def test_a_cached_answer_with_tools_streams_its_calls() -> None:
    reply = Reply("", "groq", "m", finish="tool", cached=True, message={"tool_calls": [CALL]})
    first, last = protocol.Chunks(STAMP).feed(Delta(reply=reply))

    assert first["choices"][0]["delta"] == {"role": "assistant", "tool_calls": [{"index": 0, **CALL}]}
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert last["x_knowledge"] == {"provider": "groq", "cost_usd": "0.000000000", "cached": True}


def test_an_empty_answer_still_has_a_beginning_and_an_end() -> None:
    (only,) = protocol.Chunks(STAMP).feed(Delta(reply=Reply("", "groq", "m", finish="refusal")))

    assert only["choices"][0]["delta"]["role"] == "assistant"
    assert only["choices"][0]["finish_reason"] == "content_filter"


def test_vectors_are_written_as_asked() -> None:
    reply = EmbedReply((array("f", [1.0, 0.0]),), "openai", "m")

    assert protocol.embeddings(reply, None)["data"][0]["embedding"] == [1.0, 0.0]
    assert protocol.embeddings(reply, "base64")["data"][0]["embedding"] == "AACAPwAAAAA="


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UsageError("x"), 400, "usage"),
        (NotFound("x"), 404, "model_not_found"),
        (RefusedByPolicy("x"), 403, "refused"),
        (BudgetExhausted("x"), 403, "budget-exhausted"),
        (PrivacyRefused("x"), 403, "privacy-refused"),
        (PriceUnknown("x"), 403, "price-unknown"),
        (NoProvider("x"), 503, "no-provider"),
        (ProviderFailed("x", kind=FailureKind.SERVER, provider="groq"), 503, "provider-failed"),
        (Busy("x"), 503, "busy"),
        (KnowledgeError("x"), 500, "unexpected"),
    ],
)
def test_every_error_has_its_status_and_code(error: KnowledgeError, status: int, code: str) -> None:
    told = openai_error(error)["error"]

    assert (status_of(error), told["code"]) == (status, code)
    assert told["message"]
    assert told["type"]
