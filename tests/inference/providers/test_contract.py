"""What every provider does, whatever wire it speaks: one suite over all rows of the table."""

from __future__ import annotations

import asyncio
import gc
import json
import traceback
import weakref
from contextlib import aclosing
from datetime import timedelta

import pytest
from tests.inference.providers.conftest import DIALECTS, KEY, NOW, Make

from knowledge_system.domain.inference import (
    Call,
    Delta,
    EmbedCall,
    FailureKind,
    Message,
    PriceUnknown,
    ProviderFailed,
    Reply,
    Usage,
)
from knowledge_system.inference.provider import Provider
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

PROMPT = "a prompt nobody else may see: zebra-7431"
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"type": "string", "enum": ["a", "b"]}, "score": {"type": "number"}},
    "required": ["kind", "score"],
    "additionalProperties": False,
}

pytestmark = pytest.mark.parametrize("dialect", DIALECTS)


def call(text: str = PROMPT, **fields: object) -> Call:
    return Call("extract", (Message("system", "be brief"), Message("user", text)), **fields)  # type: ignore[arg-type]


async def failure_of(provider: Provider, asked: Call, *, stream: bool = False) -> ProviderFailed:
    answer = pieces_of(provider, asked) if stream else provider.infer(asked)
    with pytest.raises(ProviderFailed) as caught:
        await answer
    return caught.value


async def pieces_of(provider: Provider, asked: Call) -> tuple[list[Delta], Reply]:
    deltas = [delta async for delta in provider.stream(asked)]
    assert deltas[-1].reply is not None
    return deltas[:-1], deltas[-1].reply


async def test_answers_with_text_usage_and_cost(dialect: str, make: Make, server: ScriptedProvider) -> None:
    server.script(Step(text="forty-two ✓", input_tokens=100, output_tokens=7))
    provider = make(dialect)
    reply = await provider.infer(call())
    assert (reply.text, reply.finish, reply.provider) == ("forty-two ✓", "stop", provider.name)
    assert reply.model == provider.model
    assert reply.usage == Usage(input=100, output=7)
    assert reply.cost_nano == (0 if provider.local else 100 * 1000 + 7 * 4000)


async def test_sends_everything_once_with_an_output_limit(dialect: str, make: Make, server: ScriptedProvider) -> None:
    await make(dialect).infer(call(max_output=77, temperature=0.0))
    (received,) = server.requests
    assert PROMPT in received.text
    assert "be brief" in received.text
    limits = json.dumps(received.body)
    assert '"max_tokens": 77' in limits or '"max_completion_tokens": 77' in limits or '"num_predict": 77' in limits


async def test_output_is_limited_even_when_the_caller_forgot(
    dialect: str, make: Make, server: ScriptedProvider
) -> None:
    await make(dialect).infer(call())
    assert "2048" in json.dumps(server.requests[0].body)


async def test_streams_the_same_answer_piece_by_piece(dialect: str, make: Make, server: ScriptedProvider) -> None:
    server.script(Step(text="one two three", pieces=4, input_tokens=9, output_tokens=3))
    provider = make(dialect)
    deltas, reply = await pieces_of(provider, call())
    assert "".join(delta.text for delta in deltas) == reply.text == "one two three"
    assert len(deltas) == 4
    assert all(delta.raw["content"] == delta.text for delta in deltas)
    assert reply.usage == Usage(input=9, output=3)
    assert reply.cost_nano == (0 if provider.local else 9 * 1000 + 3 * 4000)


async def test_a_finished_stream_gives_its_connection_back(dialect: str, make: Make, server: ScriptedProvider) -> None:
    provider = make(dialect)
    for _ in range(3):
        await pieces_of(provider, call())
    assert len({request.connection for request in server.requests}) == 1


@pytest.mark.parametrize("finish", ["stop", "length", "refusal"])
@pytest.mark.parametrize("stream", [False, True])
async def test_finish_reasons_have_one_name(
    dialect: str, finish: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    if dialect == "local" and finish == "refusal":
        pytest.skip("this protocol has no such reason")
    server.script(Step(finish=finish))
    provider = make(dialect)
    reply = (await pieces_of(provider, call()))[1] if stream else await provider.infer(call())
    assert reply.finish == finish


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_come_back_in_the_openai_form(
    dialect: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(text="", finish="tool", tools=(("look_up", '{"key": "käse"}'),)))
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    asked = call(parameters={"tools": [tool]})
    provider = make(dialect)
    reply = (await pieces_of(provider, asked))[1] if stream else await provider.infer(asked)
    assert reply.finish == "tool"
    (made,) = reply.message["tool_calls"]
    assert made["function"]["name"] == "look_up"
    assert json.loads(made["function"]["arguments"]) == {"key": "käse"}
    assert "look_up" in json.dumps(server.requests[0].body["tools"])


async def test_tool_results_go_back(dialect: str, make: Make, server: ScriptedProvider) -> None:
    used = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"key": 1}'}}
    turns = (
        Message("user", "find it"),
        Message("assistant", "", {"tool_calls": [used]}),
        Message("tool", "it is blue", {"tool_call_id": "call_1", "name": "look_up"}),
    )
    reply = await make(dialect).infer(Call("extract", turns))
    assert reply.text == "scripted answer"
    assert "it is blue" in server.requests[0].text


@pytest.mark.parametrize("stream", [False, True])
async def test_structured_answers_are_validated(
    dialect: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(text='{"kind": "a", "score": 0.5}'))
    provider = make(dialect)
    asked = call(schema=SCHEMA)
    reply = (await pieces_of(provider, asked))[1] if stream else await provider.infer(asked)
    assert reply.data == {"kind": "a", "score": 0.5}
    assert reply.finish == "stop"
    assert "score" in json.dumps(server.requests[0].body)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_the_wrong_form_fails_with_its_usage(
    dialect: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(text='{"kind": "zebra-9"}', input_tokens=10, output_tokens=5))
    failure = await failure_of(make(dialect), call(schema=SCHEMA), stream=stream)
    assert failure.kind is FailureKind.MALFORMED
    assert failure.usage == Usage(input=10, output=5)
    assert "zebra-9" in failure.text
    assert "zebra-9" not in str(failure)


async def test_usage_of_zero_is_believed(dialect: str, make: Make, server: ScriptedProvider) -> None:
    server.script(Step(input_tokens=0, output_tokens=0))
    reply = await make(dialect).infer(call())
    assert reply.usage == Usage()
    assert reply.cost_nano == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_that_was_not_told_is_none_not_zero(
    dialect: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(usage=None))
    provider = make(dialect)
    reply = (await pieces_of(provider, call()))[1] if stream else await provider.infer(call())
    assert reply.usage is None
    assert reply.text == "scripted answer"


@pytest.mark.parametrize(
    "usage",
    [
        "many",
        {"prompt_tokens": -5, "completion_tokens": 1, "input_tokens": -5, "output_tokens": 1, "eval_count": -1},
        {"prompt_tokens": "9", "input_tokens": None, "output_tokens": [], "eval_count": "x"},
        {"prompt_tokens": True, "input_tokens": True, "output_tokens": True, "eval_count": True},
        {"prompt_tokens": 10**15, "input_tokens": 10**15, "output_tokens": 10**15, "eval_count": 10**15},
    ],
)
async def test_impossible_usage_counts_as_not_told(
    dialect: str, usage: object, make: Make, server: ScriptedProvider
) -> None:
    if dialect == "local" and isinstance(usage, str):
        pytest.skip("this protocol has no usage object")
    server.script(Step(usage=usage))
    assert (await make(dialect).infer(call())).usage is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "step",
    [
        Step(body=b"<html>busy</html>"),
        Step(body=b"[]"),
        Step(body=b"{}"),
        Step(body=b""),
        Step(body=b'{"choices": [{"message": '),
        Step(body=b'{"choices": "none", "content": 3, "message": []}'),
        Step(body=b"[" * 100_000),
        Step(body=b"\xff\xfe\x00"),
    ],
    ids=["html", "list", "empty object", "nothing", "truncated", "wrong types", "deep", "binary"],
)
async def test_what_is_no_answer_is_malformed(
    dialect: str, step: Step, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(step)
    failure = await failure_of(make(dialect), call(), stream=stream)
    assert failure.kind is FailureKind.MALFORMED
    assert failure.started


@pytest.mark.parametrize("raw", [b"data: {\n\n", b"data: 7\n\n", b"{\n", b"", b"data: {}\n\n", b"\xff\xfe\n\n"])
async def test_what_is_no_stream_is_malformed(dialect: str, raw: bytes, make: Make, server: ScriptedProvider) -> None:
    kind = "application/x-ndjson" if dialect == "local" else "text/event-stream"
    server.script(Step(body=raw, headers={"content-type": kind}))
    failure = await failure_of(make(dialect), call(), stream=True)
    assert failure.kind is FailureKind.MALFORMED
    assert failure.started


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "step",
    [Step(cut="start"), Step(cut="middle"), Step(declared_length=10_000, cut="middle")],
    ids=["before the head", "in the body", "in a longer body"],
)
async def test_a_cut_connection_is_a_connection_failure(
    dialect: str, step: Step, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(step)
    failure = await failure_of(make(dialect), call(), stream=stream)
    assert failure.kind is FailureKind.CONNECTION
    assert failure.started, "bytes were sent: tokens may have been billed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_shorter_than_declared_is_no_answer(
    dialect: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(body=b'{"choices": [], "content": [], "message": {}}', declared_length=12))
    failure = await failure_of(make(dialect), call(), stream=stream)
    assert failure.kind is FailureKind.MALFORMED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("hang", ["start", "middle"])
async def test_a_hang_ends_at_the_deadline_of_the_call(
    dialect: str, hang: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(hang=hang))  # type: ignore[arg-type]
    asked = call(deadline=NOW + timedelta(seconds=0.3))
    failure = await failure_of(make(dialect), asked, stream=stream)
    assert failure.kind is FailureKind.TIMEOUT
    assert failure.started
    await server.until(lambda: server.requests[0].abandoned)


async def test_a_deadline_that_has_passed_sends_nothing(dialect: str, make: Make, server: ScriptedProvider) -> None:
    failure = await failure_of(make(dialect), call(deadline=NOW))
    assert (failure.kind, failure.started) == (FailureKind.BAD_REQUEST, False)
    assert not server.requests


async def test_refused_connections_have_cost_nothing(dialect: str, make: Make, server: ScriptedProvider) -> None:
    provider = make(dialect)
    await server.stop()
    failure = await failure_of(provider, call())
    assert (failure.kind, failure.started) == (FailureKind.CONNECTION, False)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_status_is_one_request_and_one_failure(
    dialect: str, status: int, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(status=status, error={"message": f"about {PROMPT} and {KEY}", "type": "x"}))
    failure = await failure_of(make(dialect), call(), stream=stream)
    assert len(server.requests) == 1, "the transport never retries"
    assert PROMPT not in str(failure)
    assert KEY not in str(failure)
    assert failure.provider == dialect.removesuffix("-v1")


async def test_redirects_are_not_followed(dialect: str, make: Make, server: ScriptedProvider) -> None:
    server.script(Step(status=307, headers={"location": f"{server.url}/elsewhere"}, body=b""))
    failure = await failure_of(make(dialect), call())
    assert failure.kind is FailureKind.MISCONFIGURED
    assert len(server.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_inside_a_good_status_is_a_failure(
    dialect: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(error={"message": "upstream broke", "code": 502}))
    failure = await failure_of(make(dialect), call(), stream=stream)
    assert failure.kind is FailureKind.SERVER
    assert failure.started


async def test_an_error_in_a_stream_comes_after_the_pieces_before_it(
    dialect: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(Step(text="abcdef", pieces=3, error={"message": "upstream broke"}, error_after=2))
    seen: list[str] = []

    async def read() -> None:
        async for delta in make(dialect).stream(call()):
            seen.append(delta.text)  # noqa: PERF401 -- what came before the error is what is asked for

    with pytest.raises(ProviderFailed) as caught:
        await read()
    assert caught.value.kind is FailureKind.SERVER
    assert caught.value.started
    assert "".join(seen) in {"ab", "abcd"}


async def test_a_stream_that_ends_early_is_no_answer(dialect: str, make: Make, server: ScriptedProvider) -> None:
    server.script(Step(finish=None, end_mark=False))
    failure = await failure_of(make(dialect), call(), stream=True)
    assert failure.kind is FailureKind.MALFORMED


async def test_closing_a_stream_closes_the_request(dialect: str, make: Make, server: ScriptedProvider) -> None:
    server.script(Step(text="x" * 400, pieces=400, chunk_delay=0.01))
    seen = ""
    async with aclosing(make(dialect).stream(call())) as deltas:
        async for delta in deltas:
            seen += delta.text
            if len(seen) >= 3:
                break
    await server.until(lambda: server.requests[0].abandoned)
    assert seen == "xxx", "what was produced before is known to whoever settles"


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_the_task_closes_the_request(
    dialect: str, make: Make, server: ScriptedProvider, *, stream: bool
) -> None:
    server.script(Step(hang="start"))
    provider = make(dialect)
    task = asyncio.create_task(pieces_of(provider, call()) if stream else provider.infer(call()))  # type: ignore[arg-type]
    await server.until(lambda: bool(server.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda: server.requests[0].abandoned)
    server.script(Step(text="still fine"))
    assert (await provider.infer(call())).text == "still fine"


async def test_a_stream_may_be_read_from_several_tasks(dialect: str, make: Make, server: ScriptedProvider) -> None:
    server.script(Step(text="abc", pieces=3))
    deltas = make(dialect).stream(call())
    texts = []
    while (delta := await asyncio.wait_for(anext(deltas, None), 10)) is not None:
        texts.append(delta.text)
    assert "".join(texts) == "abc"


async def test_many_calls_at_once_are_answered_each_by_its_own(
    dialect: str, make: Make, server: ScriptedProvider
) -> None:
    server.respond = lambda request: Step(text=request.text[-600:].partition("number-")[2][:3])
    provider = make(dialect)
    replies = await asyncio.gather(*(provider.infer(call(f"number-{number:03}")) for number in range(40)))
    assert [reply.text for reply in replies] == [f"{number:03}" for number in range(40)]


async def test_a_failed_attempt_keeps_nothing_alive(dialect: str, make: Make, server: ScriptedProvider) -> None:
    class Text(str):
        __slots__ = ("__weakref__",)

    server.script(*(Step(status=500) for _ in range(2)), Step(body=b"nonsense"), Step(cut="start"))
    provider = make(dialect)
    prompts, failures = [], []
    for _ in range(4):
        prompt = Text(PROMPT * 10)
        prompts.append(weakref.ref(prompt))
        failure = await failure_of(provider, call(prompt))
        assert failure.__cause__ is None
        assert failure.__context__ is None, "an exception of the HTTP library holds request and response"
        traceback.clear_frames(failure.__traceback__)
        failures.append(failure.with_traceback(None))
        del prompt
    gc.collect()
    assert [ref() for ref in prompts] == [None] * 4


async def test_a_missing_key_fails_before_anything_is_sent(dialect: str, make: Make, server: ScriptedProvider) -> None:
    provider = make(dialect, key=None)
    if provider.name == "local":
        assert (await provider.infer(call())).text
        return
    failure = await failure_of(provider, call())
    assert (failure.kind, failure.started) == (FailureKind.MISCONFIGURED, False)
    assert str(provider.row.key_variable) in str(failure)
    assert not server.requests


async def test_a_model_without_a_price_is_not_called(dialect: str, make: Make, server: ScriptedProvider) -> None:
    provider = make(dialect, price=None, model="nobody/knows-this-model")
    if provider.local:
        assert provider.pricing.worst_case(call()) == 0
        return
    assert provider.pricing.worst_case(call()) is None
    with pytest.raises(PriceUnknown):
        await provider.infer(call())
    with pytest.raises(PriceUnknown):
        await pieces_of(provider, call())
    assert not server.requests


async def test_the_worst_case_covers_what_is_billed(dialect: str, make: Make, server: ScriptedProvider) -> None:
    provider = make(dialect)
    asked = call("käse und brot " * 50, max_output=40)
    worst = provider.worst_case_nano(asked)
    server.script(Step(output_tokens=40))
    reply = await provider.infer(asked)
    assert reply.cost_nano <= worst


async def test_parameters_with_a_price_of_their_own_are_refused(
    dialect: str, make: Make, server: ScriptedProvider
) -> None:
    provider = make(dialect)
    for parameters in (
        {"n": 5},
        {"service_tier": "priority"},
        {"web_search_options": {}},
        {"models": ["dear/model"]},
        {"tools": [{"type": "web_search_preview"}]},
        {"modalities": ["text", "audio"]},
        {"something new": 1},
    ):
        failure = await failure_of(provider, call(parameters=parameters))
        assert (failure.kind, failure.started) == (FailureKind.BAD_REQUEST, False), parameters
    assert not server.requests


async def test_a_caller_cannot_change_what_the_engine_sets(dialect: str, make: Make, server: ScriptedProvider) -> None:
    provider = make(dialect)
    theirs = {"model": "dear", "max_tokens": 9999, "stream": True, "store": True, "user": "jane", "n": 1}
    await provider.infer(call(max_output=5, parameters=theirs))
    body = server.requests[0].body
    assert body["model"] == provider.model
    assert "9999" not in json.dumps(body)
    assert "jane" not in json.dumps(body)
    assert not body.get("stream")
    assert not body.get("store")


async def test_the_model_of_the_call_never_leaks_to_another_provider(
    dialect: str, make: Make, server: ScriptedProvider
) -> None:
    provider = make(dialect)
    await provider.infer(call(model="someone-elses-model"))
    assert server.requests[0].body["model"] == provider.model


async def test_the_answering_model_is_reported(dialect: str, make: Make, server: ScriptedProvider) -> None:
    server.script(Step(model="the-real-one-2026"))
    assert (await make(dialect).infer(call())).model == "the-real-one-2026"


async def test_texts_that_are_no_valid_unicode_are_sent(dialect: str, make: Make, server: ScriptedProvider) -> None:
    assert (await make(dialect).infer(call("broken \ud800 half"))).text
    assert b"broken ? half" in server.requests[0].raw


async def test_a_schema_that_cannot_be_checked_is_refused(dialect: str, make: Make, server: ScriptedProvider) -> None:
    failure = await failure_of(make(dialect), call(schema={"type": "object", "if": {}}))
    assert (failure.kind, failure.started) == (FailureKind.BAD_REQUEST, False)
    assert not server.requests


async def test_embeddings_have_the_order_of_the_texts(dialect: str, make: Make, server: ScriptedProvider) -> None:
    provider = make(dialect, embeds=True, embedding_model="embedder")
    texts = tuple(f"text {number}" for number in range(5))
    if dialect == "anthropic":
        with pytest.raises(ProviderFailed) as caught:
            await provider.embed(EmbedCall("embed", texts))
        assert caught.value.kind is FailureKind.MISCONFIGURED
        return
    forward = await provider.embed(EmbedCall("embed", texts))
    backward = await provider.embed(EmbedCall("embed", texts[::-1]))
    assert forward.vectors == backward.vectors[::-1]
    assert all(abs(sum(x * x for x in vector) - 1.0) < 1e-5 for vector in forward.vectors)
    assert forward.usage is not None
    assert forward.usage.input > 0
    assert forward.cost_nano == (0 if provider.local else forward.usage.input * 1000)
    assert server.requests[0].body["model"] == "embedder"


async def test_vectors_that_do_not_fit_the_texts_are_malformed(
    dialect: str, make: Make, server: ScriptedProvider
) -> None:
    if dialect == "anthropic":
        pytest.skip("offers no embeddings")
    provider = make(dialect, embeds=True, embedding_model="embedder")
    rows = [{"index": 0, "embedding": [1.0, 0.0]}]
    bodies = [
        {"data": rows, "embeddings": [[1.0, 0.0]]},
        {"data": rows * 3, "embeddings": [[1.0]] * 3},
        {"data": [*rows, {"index": 1, "embedding": [0.0, 0.0]}], "embeddings": [[1.0], [0.0]]},
        {"data": [*rows, {"index": 1, "embedding": "!!"}], "embeddings": [[1.0], "x"]},
        {"data": [*rows, {"index": 1, "embedding": [1.0]}], "embeddings": [[1.0], [1.0, 0.0]]},
        {"data": [*rows, {"index": 1, "embedding": [1.0, None]}], "embeddings": [[1.0], [None]]},
        {},
    ]
    server.script(*(Step(body=body) for body in bodies))
    for body in bodies:
        with pytest.raises(ProviderFailed) as caught:
            await provider.embed(EmbedCall("embed", ("one", "two")))
        assert caught.value.kind is FailureKind.MALFORMED, body


async def test_dimensions_are_asked_for_and_checked(dialect: str, make: Make, server: ScriptedProvider) -> None:
    if dialect == "anthropic":
        pytest.skip("offers no embeddings")
    provider = make(dialect, embeds=True, embedding_model="embedder")
    reply = await provider.embed(EmbedCall("embed", ("one",), dimensions=32))
    assert len(reply.vectors[0]) == 32
    server.script(Step(body={"data": [{"embedding": [1.0, 0.0]}], "embeddings": [[1.0, 0.0]]}))
    with pytest.raises(ProviderFailed):
        await provider.embed(EmbedCall("embed", ("one",), dimensions=32))
