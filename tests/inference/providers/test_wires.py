"""What each wire format writes and reads, as pure translation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_system.domain.inference import Call, Delta, EmbedCall, FailureKind, Message, ProviderFailed, Usage
from knowledge_system.inference.prices import price
from knowledge_system.inference.vendors import vendor
from knowledge_system.inference.wire import Event, Target, Wire, dollars, unit_vector
from knowledge_system.inference.wire_anthropic import AnthropicWire
from knowledge_system.inference.wire_ollama import OllamaWire, context_size
from knowledge_system.inference.wire_openai import OpenAIWire

CALL = Call("x", (Message("user", "hi"),), max_output=100)
WIRES: dict[str, Wire] = {"openai": OpenAIWire(), "anthropic": AnthropicWire(), "ollama": OllamaWire()}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def target(name: str = "groq", **changes: Any) -> Target:
    row = vendor(name)
    return replace(Target(row, name, row.model, 100, row.context_tokens, price(1, 4)), **changes)


def body(wire: str, call: Call = CALL, name: str = "groq", *, stream: bool = False, **changes: Any) -> dict[str, Any]:
    return dict(WIRES[wire].chat(call, target(name, **changes), stream=stream).body)


class TestOpenAI:
    def test_nothing_is_stored_with_openai(self) -> None:
        assert body("openai", name="openai")["store"] is False
        assert body("openai", replace(CALL, parameters={"store": True}), "openai")["store"] is False

    def test_openrouter_may_not_train_and_may_not_cost_more_than_was_reserved(self) -> None:
        sent = body("openai", name="openrouter")["provider"]
        assert sent == {"data_collection": "deny", "max_price": {"prompt": 1.0, "completion": 4.0}}
        assert "provider" not in body("openai", name="groq")

    def test_streams_ask_for_usage(self) -> None:
        assert body("openai", stream=True)["stream_options"] == {"include_usage": True}
        assert "stream_options" not in body("openai")

    @pytest.mark.parametrize(("model", "sent"), [("gpt-5-mini", False), ("gpt-4o", True)])
    def test_models_with_a_fixed_temperature_are_not_given_one(self, model: str, *, sent: bool) -> None:
        made = body("openai", replace(CALL, temperature=0.0), "openai", model=model)
        assert ("temperature" in made) is sent

    def test_a_schema_is_strict_only_where_it_qualifies(self) -> None:
        made = body("openai", replace(CALL, schema=SCHEMA))["response_format"]["json_schema"]
        assert (made["strict"], made["schema"]) == (True, SCHEMA)
        loose = body("openai", replace(CALL, schema={"type": "object"}))["response_format"]["json_schema"]
        assert loose["strict"] is False

    @pytest.mark.parametrize(
        ("told", "usage"),
        [
            ({"prompt_tokens": 100, "completion_tokens": 5}, Usage(100, 5)),
            (
                {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}},
                Usage(20, 5, cache_read=80),
            ),
            (
                {
                    "prompt_tokens": 100,
                    "completion_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50},
                },
                Usage(20, 5, cache_read=30, cache_write=50),
            ),
            (
                {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}},
                Usage(0, 5, cache_read=10),
            ),
            (
                {
                    "prompt_tokens": 10,
                    "completion_tokens": 50,
                    "total_tokens": 60,
                    "completion_tokens_details": {"reasoning_tokens": 40},
                },
                Usage(10, 50, reasoning=40),
            ),
            ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 100}, Usage(10, 90)),
            ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0)),
            ({}, None),
        ],
        ids=["plain", "cached", "written", "impossible", "reasoning inside", "reasoning hidden", "embedding", "none"],
    )
    def test_usage_excludes_cached_tokens_and_includes_reasoning(self, told: Any, usage: Usage | None) -> None:
        made = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": told}
        assert WIRES["openai"].reply(made, CALL, target()).usage == usage

    @pytest.mark.parametrize(
        ("told", "cost"),
        [
            ({"cost": 0.00012345}, 123_450),
            ({"cost": 0}, 0),
            ({"cost": 1e-12}, 1),
            ({"cost": 0.1, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 300_000_000),
            ({"cost": 0.1, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.2}}, 100_000_000),
            ({"cost": -1}, None),
            ({"cost": "0.1"}, None),
            ({"cost": True}, None),
            ({}, None),
        ],
    )
    def test_openrouter_tells_its_own_cost(self, told: dict[str, Any], cost: int | None) -> None:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, **told}
        made = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
        read = WIRES["openai"].reply(made, CALL, target("openrouter")).usage
        assert read is not None
        assert read.cost_nano == cost
        other = WIRES["openai"].reply(made, CALL, target("groq")).usage
        assert other is not None
        assert other.cost_nano is None, "only a provider that is known to bill in dollars is believed"

    def test_a_refusal_is_a_refusal_whatever_the_reason_says(self) -> None:
        made = {"choices": [{"message": {"content": None, "refusal": "I can't"}, "finish_reason": "stop"}]}
        reply = WIRES["openai"].reply(made, CALL, target())
        assert (reply.finish, reply.text) == ("refusal", "")

    def test_an_error_may_hide_in_the_reason(self) -> None:
        made = {"choices": [{"message": {"content": "half"}, "finish_reason": "error"}], "usage": {"prompt_tokens": 3}}
        with pytest.raises(ProviderFailed) as caught:
            WIRES["openai"].reply(made, CALL, target())
        assert (caught.value.kind, caught.value.usage) == (FailureKind.SERVER, Usage(3))

    @pytest.mark.parametrize(("reason", "finish"), [("SAFETY", "refusal"), ("MAX_TOKENS", "length"), ("new", "stop")])
    def test_reasons_are_read_in_any_case(self, reason: str, finish: str) -> None:
        made = {"choices": [{"message": {"content": "x"}, "finish_reason": reason}]}
        assert WIRES["openai"].reply(made, CALL, target()).finish == finish

    def test_a_cheaper_tier_is_passed_on(self) -> None:
        assert body("openai", replace(CALL, parameters={"service_tier": "flex"}))["service_tier"] == "flex"

    def test_an_error_in_a_choice_keeps_its_usage(self) -> None:
        made = {"choices": [{"error": {"code": 502}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
        with pytest.raises(ProviderFailed) as caught:
            WIRES["openai"].reply(made, CALL, target())
        assert (caught.value.kind, caught.value.usage) == (FailureKind.SERVER, Usage(3, 1))

    def test_embeddings_ask_for_base64_where_it_is_understood(self) -> None:
        wire = WIRES["openai"]
        call = EmbedCall("e", ("a",), dimensions=1536)
        assert wire.embed(call, target("openai")).body["encoding_format"] == "base64"
        assert wire.embed(call, target("gemini")).body["encoding_format"] == "float"
        assert wire.embed(call, target("openai")).body["dimensions"] == 1536

    def test_tool_calls_of_a_stream_are_joined_by_their_index(self) -> None:
        reader = WIRES["openai"].reader(CALL, target())
        parts: list[dict[str, Any]] = [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
            {"index": 0, "function": {"arguments": ": 1}"}},
        ]
        for part in parts:
            reader.feed(Event(json.dumps({"choices": [{"delta": {"tool_calls": [part]}}]})))
        reader.feed(Event(json.dumps({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})))
        made = reader.reply().message["tool_calls"]
        assert [(one["id"], one["function"]["arguments"]) for one in made] == [("a", '{"x": 1}'), ("b", "{}")]

    def test_groq_tells_usage_in_its_own_field(self) -> None:
        reader = WIRES["openai"].reader(CALL, target())
        usage = {"prompt_tokens": 4, "completion_tokens": 2}
        reader.feed(Event(json.dumps({"choices": [{"finish_reason": "stop"}], "x_groq": {"usage": usage}})))
        assert reader.reply().usage == Usage(4, 2)


class TestAnthropic:
    def test_system_messages_stand_apart_and_neighbours_are_joined(self) -> None:
        turns = (
            Message("system", "one"),
            Message("user", "a"),
            Message("user", "b"),
            Message("developer", "two"),
            Message("assistant", "c"),
        )
        made = body("anthropic", replace(CALL, messages=turns), "anthropic")
        assert [block["text"] for block in made["system"]] == ["one", "two"]
        assert [(m["role"], [b["text"] for b in m["content"]]) for m in made["messages"]] == [
            ("user", ["a", "b"]),
            ("assistant", ["c"]),
        ]

    def test_there_is_always_a_message_of_the_user(self) -> None:
        made = body("anthropic", replace(CALL, messages=(Message("system", "go"),)), "anthropic")
        assert made["messages"][0]["role"] == "user"

    def test_cache_marks_are_kept(self) -> None:
        part = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
        made = body("anthropic", replace(CALL, messages=(Message("user", (part,)),)), "anthropic")
        assert made["messages"][0]["content"] == [part]

    def test_pictures_are_translated_and_other_parts_refused(self) -> None:
        def sent(part: dict[str, Any]) -> Any:
            made = body("anthropic", replace(CALL, messages=(Message("user", (part,)),)), "anthropic")
            return made["messages"][0]["content"][0]["source"]

        data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
        assert sent(data) == {"type": "base64", "media_type": "image/png", "data": "QUJD"}
        link = {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}
        assert sent(link) == {"type": "url", "url": "https://example.org/x.png"}
        with pytest.raises(ProviderFailed) as caught:
            sent({"type": "input_audio"})
        assert not caught.value.started

    def test_parameters_find_their_counterparts(self) -> None:
        given_: dict[str, Any] = {"stop": "END", "top_p": 0.5, "seed": 1, "tools": [TOOL], "tool_choice": "required"}
        made = body("anthropic", replace(CALL, temperature=1.7, parameters=given_), "anthropic")
        assert (made["stop_sequences"], made["top_p"], made["temperature"]) == (["END"], 0.5, 1.0)
        assert made["tools"] == [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
        assert made["tool_choice"] == {"type": "any"}
        assert "seed" not in made

    def test_a_schema_becomes_the_tool_that_must_be_called(self) -> None:
        made = body("anthropic", replace(CALL, schema=SCHEMA), "anthropic")
        assert made["tool_choice"] == {"type": "tool", "name": "answer"}
        assert made["tools"][0]["input_schema"] == SCHEMA

    @pytest.mark.parametrize(
        ("told", "usage"),
        [
            ({"input_tokens": 10, "output_tokens": 3}, Usage(10, 3)),
            (
                {
                    "input_tokens": 10,
                    "output_tokens": 3,
                    "cache_read_input_tokens": 1000,
                    "cache_creation_input_tokens": 300,
                },
                Usage(10, 3, cache_read=1000, cache_write=300),
            ),
            (
                {
                    "input_tokens": 10,
                    "output_tokens": 3,
                    "cache_creation_input_tokens": 300,
                    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
                },
                Usage(10, 3, cache_write=100, cache_write_hour=200),
            ),
        ],
    )
    def test_input_excludes_cached_tokens_and_hours_cost_more(self, told: Any, usage: Usage) -> None:
        made = {"content": [], "stop_reason": "end_turn", "usage": told}
        assert WIRES["anthropic"].reply(made, CALL, target("anthropic")).usage == usage

    def test_the_last_count_of_a_stream_holds(self) -> None:
        reader = WIRES["anthropic"].reader(CALL, target("anthropic"))
        start = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 5}
        reader.feed(Event(json.dumps({"type": "message_start", "message": {"usage": start}})))
        end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 40}}
        reader.feed(Event(json.dumps(end)))
        assert reader.reply().usage == Usage(10, 40, cache_read=5)

    def test_thoughts_are_pieces_but_no_text(self) -> None:
        reader = WIRES["anthropic"].reader(CALL, target("anthropic"))
        delta = {"type": "thinking_delta", "thinking": "hmm"}
        made = reader.feed(Event(json.dumps({"type": "content_block_delta", "index": 0, "delta": delta})))
        assert made == [Delta(raw={"reasoning": "hmm"})]


class TestOllama:
    @pytest.mark.parametrize(("size", "context"), [(10, 4096), (6_000, 8192), (20_000, 32768), (10**6, 32768)])
    def test_the_context_fits_prompt_and_answer(self, size: int, context: int) -> None:
        call = replace(CALL, messages=(Message("user", "x" * size),))
        assert context_size(call, target("local")) == context
        sent = body("ollama", call, "local")
        assert sent["options"]["num_ctx"] == context
        assert (sent["truncate"], sent["shift"]) == (False, False)

    @pytest.mark.parametrize(("read", "cut"), [(32_768, True), (1_000, True), (12_000, False), (None, False)])
    def test_a_prompt_that_was_cut_is_noticed(self, read: int | None, *, cut: bool) -> None:
        call = replace(CALL, messages=(Message("user", "x" * 60_000),))
        made = {"message": {"content": "x"}, "done": True, "eval_count": 1, "prompt_eval_count": read}
        if not cut:
            assert WIRES["ollama"].reply(made, call, target("local")).text == "x"
            return
        with pytest.raises(ProviderFailed) as caught:
            WIRES["ollama"].reply(made, call, target("local"))
        assert caught.value.kind is FailureKind.BAD_REQUEST

    def test_options_stand_where_they_are_read(self) -> None:
        given_: dict[str, Any] = {"seed": 7, "stop": ["a"], "think": False, "keep_alive": "5m"}
        made = body("ollama", replace(CALL, temperature=0.0, parameters=given_, schema=SCHEMA), "local")
        assert made["options"]["temperature"] == 0.0
        assert (made["options"]["seed"], made["options"]["stop"]) == (7, ["a"])
        assert (made["think"], made["keep_alive"], made["format"]) == (False, "5m", SCHEMA)

    def test_an_answer_from_another_host_is_refused(self) -> None:
        for field in ("remote_host", "remote_model"):
            with pytest.raises(ProviderFailed) as caught:
                WIRES["ollama"].reply({"message": {}, field: "https://ollama.com"}, CALL, target("local"))
            assert caught.value.kind is FailureKind.MISCONFIGURED

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("model 'x' not found", FailureKind.MISCONFIGURED),
            ("input length exceeds the context length", FailureKind.BAD_REQUEST),
            ("llama runner process has terminated", FailureKind.SERVER),
        ],
    )
    def test_its_errors_are_texts(self, text: str, kind: FailureKind) -> None:
        with pytest.raises(ProviderFailed) as caught:
            WIRES["ollama"].reply({"error": text}, CALL, target("local"))
        assert caught.value.kind is kind

    def test_a_picture_goes_as_data(self) -> None:
        part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
        text = {"type": "text", "text": "what?"}
        made = body("ollama", replace(CALL, messages=(Message("user", (text, part)),)), "local")
        assert made["messages"][0] == {"role": "user", "content": "what?", "images": ["QUJD"]}


NAMES = [
    *("choices", "message", "content", "delta", "usage", "error", "type", "index", "content_block", "text", "input"),
    *(
        "tool_calls",
        "function",
        "arguments",
        "name",
        "finish_reason",
        "stop_reason",
        "done",
        "prompt_tokens",
        "partial",
    ),
    *("completion_tokens", "input_tokens", "output_tokens", "cache_creation", "embeddings", "data", "embedding"),
    *("partial_json", "refusal", "code", "eval_count", "x_groq", "prompt_tokens_details", "model", "metadata"),
]
WORDS = [
    *("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "tool_use"),
    *("text", "error", "answer", "[DONE]", "AAAA", ""),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)


@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=150)
@given(made=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6))
def test_no_answer_raises_anything_but_a_failure(wire: str, made: dict[str, Any]) -> None:
    for call in (CALL, replace(CALL, schema=SCHEMA)):
        try:
            reply = WIRES[wire].reply(made, call, target())
        except ProviderFailed:
            continue
        assert isinstance(reply.text, str)


@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=150)
@given(chunks=st.lists(JSON, max_size=5))
def test_no_stream_raises_anything_but_a_failure(wire: str, chunks: list[Any]) -> None:
    reader = WIRES[wire].reader(replace(CALL, schema=SCHEMA), target())
    try:
        for chunk in chunks:
            reader.feed(Event(json.dumps(chunk)))
        assert isinstance(reader.reply().text, str)
    except ProviderFailed:
        pass


@pytest.mark.parametrize("wire", ["openai", "ollama"])
@settings(max_examples=100)
@given(made=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6))
def test_no_vectors_raise_anything_but_a_failure(wire: str, made: dict[str, Any]) -> None:
    try:
        reply = WIRES[wire].vectors(made, EmbedCall("e", ("a",)), target())
    except ProviderFailed:
        return
    assert len(reply.vectors) == 1


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20))
def test_vectors_have_unit_length_or_are_none(values: list[float]) -> None:
    vector = unit_vector(values)
    if vector is not None:
        assert sum(x * x for x in vector) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("value", [None, "", "!", "AAA=", [], [0.0], ["x"], [float("inf")], [float("nan")], {}, 3])
def test_what_is_no_vector_is_none(value: Any) -> None:
    assert unit_vector(value) is None


@pytest.mark.parametrize(("value", "nano"), [(0.1, 100_000_000), (1, 10**9), (float("nan"), None), (None, None)])
def test_dollars_are_exact(value: Any, nano: int | None) -> None:
    assert dollars(value) == nano
