"""The official OpenAI client against the gateway, unchanged but for its base URL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.interfaces.http.conftest import MODEL, Served, configure, serving

from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]


async def test_a_chat_completion_is_answered_and_says_who_answered_for_how_much(served: Served) -> None:
    raw = await served.client().chat.completions.with_raw_response.create(model="groq", messages=HELLO)

    reply = raw.parse()
    assert reply.choices[0].message.content == "hello there"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (100, 10)
    assert raw.headers["x-knowledge-provider"] == "groq"
    assert raw.headers["x-knowledge-cost-usd"] == "0.000120000"
    assert raw.headers["x-knowledge-cached"] == "false"


@pytest.mark.parametrize("name", ["auto", "groq", f"groq/{MODEL}", MODEL])
async def test_a_model_is_named_by_provider_by_both_or_left_to_the_engine(served: Served, name: str) -> None:
    await served.client().chat.completions.create(model=name, messages=HELLO)

    assert served.provider.requests[0].body["model"] == MODEL


async def test_an_unknown_model_is_not_found(served: Served) -> None:
    for name in ("skynet", "groq/skynet", "openai/text-embedding-3-small"):
        with pytest.raises(openai.NotFoundError) as caught:
            await served.client().chat.completions.create(model=name, messages=HELLO)
        assert caught.value.code == "model_not_found"
    assert served.provider.requests == []


async def test_a_stream_arrives_in_pieces_and_ends_with_its_usage(served: Served) -> None:
    stream = await served.client().chat.completions.create(
        model="groq", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) > 1
    assert "".join(texts) == "hello there"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 110
    assert not chunks[-1].choices
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_tool_calls_come_through_whole_and_streamed(served: Served) -> None:
    served.provider.default = Step(text="", tools=(("weather", '{"city": "Oslo"}'),), finish="tool_calls")
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    ask = served.client().chat.completions

    whole = await ask.create(model="groq", messages=HELLO, tools=tools)
    pieces = [
        piece
        async for chunk in await ask.create(model="groq", messages=HELLO, tools=tools, stream=True)
        for piece in chunk.choices[0].delta.tool_calls or []
    ]

    (call,) = whole.choices[0].message.tool_calls or []
    assert whole.choices[0].finish_reason == "tool_calls"
    assert (call.type, call.function.name) == ("function", "weather")
    assert "".join((piece.function and piece.function.arguments) or "" for piece in pieces) == call.function.arguments


async def test_the_second_equal_question_comes_from_the_cache(served: Served) -> None:
    ask = served.client().chat.completions
    first = await ask.create(model="groq", messages=HELLO, temperature=0)
    again = await ask.with_raw_response.create(model="groq", messages=HELLO, temperature=0)
    streamed = [chunk async for chunk in await ask.create(model="groq", messages=HELLO, temperature=0, stream=True)]

    assert again.parse().choices[0].message.content == first.choices[0].message.content
    assert (again.headers["x-knowledge-cached"], again.headers["x-knowledge-cost-usd"]) == ("true", "0.000000000")
    assert streamed[0].choices[0].delta.content == "hello there"
    assert len(served.provider.requests) == 1


async def test_embeddings_come_in_order_and_equal_in_both_encodings(served: Served) -> None:
    embed = served.client().embeddings.create
    packed = await embed(model="auto", input=["one", "two"])
    plain = await embed(model="openai", input=["one", "two"], encoding_format="float")
    single = await embed(model="openai/text-embedding-3-small", input="two")

    assert [row.index for row in packed.data] == [0, 1]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert single.data[0].embedding == pytest.approx(packed.data[1].embedding)
    assert packed.usage.prompt_tokens > 0


async def test_the_list_of_models_names_what_can_be_asked(served: Served) -> None:
    names = {model.id async for model in served.client().models.list()}

    assert names >= {"auto", f"groq/{MODEL}", "openai/text-embedding-3-small"}
    assert not any(name.startswith("anthropic/") for name in names), "no key, so it cannot be asked"
    assert (await served.client().models.retrieve(f"groq/{MODEL}")).owned_by == "groq"
    with pytest.raises(openai.NotFoundError):
        await served.client().models.retrieve("skynet")


async def test_money_that_is_spent_refuses_whole_and_streamed(tmp_path: Path, provider: ScriptedProvider) -> None:
    configure(tmp_path / "home", provider, monthly=0.0)
    async with serving(tmp_path / "home", provider) as served:
        for stream in (False, True):
            with pytest.raises(openai.PermissionDeniedError) as caught:
                await served.client().chat.completions.create(model="groq", messages=HELLO, stream=stream)
            assert caught.value.code == "budget-exhausted"
    assert provider.requests == []


@pytest.mark.parametrize(
    ("text", "level"),
    [("Say hello.", "confidential"), ("Say hello.", "secret"), ("Write to jane.roe@gmail.com about it", "public")],
)
async def test_the_stricter_of_what_is_declared_and_found_decides(served: Served, text: str, level: str) -> None:
    client = served.client(default_headers={"X-Knowledge-Sensitivity": level})
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": text}])
    with pytest.raises(openai.PermissionDeniedError):
        await client.embeddings.create(model="auto", input=text)

    assert caught.value.code == "privacy-refused"
    assert served.provider.requests == []


async def test_a_provider_that_is_down_is_unavailable_and_not_asked_again_by_the_client(served: Served) -> None:
    served.provider.default = Step(status=400, error={"message": "no"})
    with pytest.raises(openai.APIStatusError) as caught:
        await served.client(max_retries=2).chat.completions.create(model="groq", messages=HELLO)

    assert (caught.value.status_code, caught.value.code) == (503, "no-provider")
    assert len(served.provider.requests) == 1


async def test_a_stream_that_breaks_tells_the_client(served: Served) -> None:
    served.provider.default = Step(text="hello there", cut="middle")
    with pytest.raises(openai.APIError):
        async for _ in await served.client().chat.completions.create(model="groq", messages=HELLO, stream=True):
            pass


@pytest.mark.parametrize("step", [Step(hang="start"), Step(text="hello there", hang="middle")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_the_upstream(served: Served, step: Step, *, stream: bool) -> None:
    served.provider.default = step
    body = {"model": "groq", "messages": HELLO, "stream": stream}

    async def ask() -> None:
        async with (
            httpx2.AsyncClient(base_url=served.url) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            await response.aread()

    asking = asyncio.create_task(ask())
    await served.provider.until(lambda: served.provider.running == 1)
    asking.cancel()
    await served.provider.until(lambda: served.provider.running == 0)

    assert served.provider.requests[0].abandoned
