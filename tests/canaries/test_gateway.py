"""Every canary through the HTTP door and the engine itself: the remote provider, Redis, disk and log see none."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis
from tests.canaries.birds import Canary, everything
from tests.canaries.conftest import ALL, KEYS, REDACTED, SECRET, World
from tests.inference.engine.redis_server import RedisServer
from tests.interfaces.http.conftest import serving

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import audit_page
from knowledge_system.application.logs import configure as log_to_stderr
from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.inference import Call, EmbedCall, Message
from knowledge_system.domain.sensitivity import Sensitivity

AT_ONCE = 12
TOGETHER = 4
"""Canaries in one request: five credentials or more make a content secret, and that goes nowhere at all."""
Body = dict[str, Any]


def in_bundles(canaries: Sequence[Canary], size: int = TOGETHER) -> Iterator[list[Canary]]:
    """Yield all canaries, a few of one sort at a time: no canary may be kept back for the sake of another's."""
    shuffled = random.Random("bundles").sample(list(canaries), len(canaries))
    for _, group in itertools.groupby(sorted(shuffled, key=sort_of), key=sort_of):
        members = list(group)
        yield from (members[start : start + size] for start in range(0, len(members), size))


def sort_of(canary: Canary) -> tuple[int, str]:
    """Return what decides about a canary: its level, and the topic where it is one."""
    return canary.level.rank, canary.kind if canary.kind.startswith("topic:") else ""


def user(text: str) -> Body:
    return {"messages": [{"role": "user", "content": text}]}


def system(text: str) -> Body:
    return {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "Go on."}]}


def parts_of(text: str) -> Body:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}


def tool_call(text: str) -> Body:
    function = {"name": "write_file", "arguments": json.dumps({"path": "notes.md", "content": text})}
    call = {"id": "c1", "type": "function", "function": function}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}, answer]}


def tool_result(text: str) -> Body:
    function = {"name": "read_file", "arguments": '{"path": "notes.md"}'}
    call = {"id": "c1", "type": "function", "function": function}
    answer = {"role": "tool", "tool_call_id": "c1", "content": text}
    return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}, answer]}


def tool_definition(text: str) -> Body:
    function = {"name": "lookup", "description": text, "parameters": {"type": "object", "properties": {}}}
    return {**user("Look it up."), "tools": [{"type": "function", "function": function}]}


def schema(text: str) -> Body:
    wanted = {"type": "object", "description": text, "properties": {"a": {"type": "string"}}}
    return {
        **user("Answer."),
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": wanted}},
    }


def history(text: str) -> Body:
    said = [{"role": "user", "content": f"turn {number}"} for number in range(3)]
    return {"messages": [*said, {"role": "assistant", "content": text}, {"role": "user", "content": "Go on."}]}


def named(text: str) -> Body:
    return {
        **user("Go on."),
        "user": "me",
        "stop": [text[:60]],
        "messages": [{"role": "user", "content": text, "name": "x"}],
    }


SHAPES = (user, system, parts_of, tool_call, tool_result, tool_definition, schema, history, named)
MODELS = ("auto", "groq", "openai", "anthropic/m")
LEVELS = ({}, {"x-knowledge-sensitivity": "public"}, {"x-knowledge-sensitivity": "internal"})


async def pushed(url: str, canaries: Sequence[Canary]) -> list[httpx2.Response]:
    """Send every canary through chat and embeddings, in changing shapes, models, levels, streamed and whole."""
    bundles = enumerate(in_bundles(canaries))
    answers: list[httpx2.Response] = []
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:

        async def work() -> None:
            for number, bundle in bundles:
                text = "\n".join(one.text for one in bundle)
                head = LEVELS[number % len(LEVELS)]
                body = SHAPES[number % len(SHAPES)](text)
                body |= {"model": MODELS[number % len(MODELS)], "temperature": 0, "stream": number % 2 == 0}
                answers.append(await client.post("/v1/chat/completions", json=body, headers=head))
                if number % 3 == 0 or bundle[0].kind.startswith("topic:"):
                    asked = {"model": ("auto", "openai")[number % 2], "input": [text, "harmless"]}
                    answers.append(await client.post("/v1/embeddings", json=asked, headers=head))

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return answers


async def stored_in(redis: RedisServer) -> str:
    """Return everything that lies in Redis as one text."""
    client = Redis.from_url(redis.url)
    try:
        keys = [key async for key in client.scan_iter()]
        values = [await client.get(key) for key in keys if await client.type(key) == b"string"]
        return "\n".join(repr(key) + (value or b"").decode("latin-1") for key, value in zip(keys, values, strict=False))
    finally:
        await client.aclose()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@contextlib.asynccontextmanager
async def opened(world: World) -> AsyncIterator[Parts]:
    async with Parts(settings.load(world.home, environ={}), "test") as parts:
        parts.emit = log_to_stderr(verbose=True)
        yield parts


@pytest.mark.usefixtures("keys")
async def test_nothing_sensitive_leaves_through_the_gateway(
    world: World, redis: RedisServer, capfd: pytest.CaptureFixture[str]
) -> None:
    world.configure(cache={"l2": {"url": redis.url}})
    async with serving(world.home, world.servers.remote) as served:
        harmless = await served.post("/v1/chat/completions", json={**user("Sort a list in Go."), "model": "groq"})
        answers = await pushed(served.url, everything())
    assert harmless.status_code == 200, harmless.text
    assert len(world.servers.remote.requests) >= 1, "the way to the remote provider is open"
    assert ALL.caught(world.servers.seen_far()) == set()
    assert SECRET.caught(world.servers.seen_near()) == set()
    assert len(REDACTED.caught(world.servers.seen_near())) > 400, "the local model is allowed to see them"

    refused = [answer for answer in answers if answer.status_code >= 400]
    assert {answer.status_code for answer in refused} == {403}
    assert ALL.caught("\n".join(answer.text for answer in refused)) == set()
    assert ALL.caught(await stored_in(redis)) == set()
    assert REDACTED.caught_in(world.home) == {}
    assert ALL.caught("".join(capfd.readouterr())) == set()


@pytest.mark.usefixtures("keys")
async def test_nothing_sensitive_leaves_the_engine_whatever_its_caller_says(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """The engine's three verbs, every strategy, callers that call everything public."""
    world.configure()
    before = len(world.servers.local.requests)
    told: list[str] = []
    async with opened(world) as parts:
        engine = await parts.engine()
        bundles = enumerate(in_bundles(everything()))

        async def work() -> None:
            for number, bundle in bundles:
                text = "\n".join(one.text for one in bundle)
                level = (Sensitivity.PUBLIC, Sensitivity.INTERNAL)[number % 2]
                style = (None, "latency-optimized", "quality-optimized")[number % 3]
                messages = (Message("system", "Be brief."), Message("user", text))
                call = Call(
                    "summarise",
                    messages,
                    project="shop",
                    sensitivity=level,
                    strategy=style,
                    temperature=0,
                    max_output=50,
                )
                try:
                    if number % 3 == 0:
                        await engine.embed(EmbedCall("embed-item", (text,), sensitivity=level))
                    elif number % 3 == 1:
                        _ = [delta async for delta in engine.stream(call)]
                    else:
                        await engine.infer(call)
                except KnowledgeError as error:
                    told.append(f"{error.message} {error.hint} {error}")

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        audit = json.dumps(await audit_page(parts, 1000, None))
    assert ALL.caught(world.servers.seen_far()) == set()
    assert SECRET.caught(world.servers.seen_near()) == set()
    assert len(world.servers.local.requests) > before + 300
    assert len(told) > 20, "secrets are refused"
    assert ALL.caught("\n".join(told)) == set()
    assert ALL.caught(audit) == set()
    assert REDACTED.caught_in(world.home) == {}
    assert ALL.caught("".join(capfd.readouterr())) == set()


@pytest.mark.usefixtures("keys")
async def test_without_a_local_model_every_canary_is_refused(world: World) -> None:
    world.configure(inference={**inference_of(world), "localModels": {"enabled": False}})
    sample = random.Random("no local").sample(list(everything()), 240)
    async with opened(world) as parts:
        engine = await parts.engine()
        for one in sample:
            call = Call("summarise", (Message("user", one.text),), sensitivity=Sensitivity.PUBLIC)
            with pytest.raises(KnowledgeError) as refusal:
                await engine.infer(call)
            assert refusal.value.code == "privacy-refused"
            assert ALL.caught(f"{refusal.value} {refusal.value.hint}") == set()
    assert ALL.caught(world.servers.seen_far()) == set()


def inference_of(world: World) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((world.home / "config.json").read_text())["inference"]
    return tree
