"""Verdicts of meaning that processes share through Redis: believed when signed, else worthless."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from tests.application.test_privacy import OFF
from tests.inference.engine.redis_server import RedisServer
from tests.sensitivity.test_layers import FALCON, PLAIN, Plane

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.domain.sensitivity import Sensitivity

FALCON_TOPIC = {"name": "falcon", "level": "confidential", "description": FALCON}


class Counting(Plane):
    """Knows which texts it was asked to embed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def embed(self, texts: Any) -> Any:
        self.asked.extend(texts)
        return await super().embed(texts)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def home(tmp_path: Path, server: RedisServer, redis: Redis) -> Path:
    del redis  # emptied before anything is asked
    place = tmp_path / "home"
    place.mkdir(mode=0o700)
    (place / "config.json").write_text(json.dumps({"cache": {"l2": {"url": server.url}}}))
    (place / "sensitivity-topics.json").write_text(json.dumps({"topics": [FALCON_TOPIC, *OFF]}))
    return place


@asynccontextmanager
async def process(home: Path) -> AsyncIterator[tuple[Parts, Counting]]:
    model = Counting()
    async with Parts(settings.load(home, environ={}), "test", _model=model) as parts:  # type: ignore[arg-type]
        yield parts, model


async def test_what_one_process_judged_another_need_not_judge_again(home: Path) -> None:
    async with process(home) as (parts, _):
        first = [await parts.layers().examine([text], "ask") for text in (PLAIN, FALCON)]
    async with process(home) as (parts, model):
        again = [await parts.layers().examine([text], "ask") for text in (PLAIN, FALCON)]
    assert again == first
    assert [one.level for one in again] == [Sensitivity.PUBLIC, Sensitivity.CONFIDENTIAL]
    assert model.asked == []


async def test_a_verdict_that_somebody_wrote_into_redis_is_not_believed(home: Path, redis: Redis) -> None:
    async with process(home) as (parts, _):
        await parts.layers().examine([PLAIN], "ask")
        await parts.layers().examine([FALCON], "ask")
    names = list(redis.scan_iter("*verdict:*"))
    values = [redis.get(name) for name in names]
    harmless = next(value for value in values if value is not None and b"public" in value)
    for name in names:
        redis.set(name, harmless)  # what was said about another content, signature and all
    async with process(home) as (parts, model):
        verdict = await parts.layers().examine([FALCON], "ask")
    assert verdict.level is Sensitivity.CONFIDENTIAL
    assert model.asked


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b'["public", "similarity", "", "00"]', b"\xff"], ids=repr)
async def test_what_is_no_verdict_is_judged_anew(home: Path, redis: Redis, value: bytes) -> None:
    async with process(home) as (parts, _):
        await parts.layers().examine([FALCON], "ask")
    (name,) = redis.scan_iter("*verdict:*")
    redis.set(name, value)
    async with process(home) as (parts, _):
        assert (await parts.layers().examine([FALCON], "ask")).level is Sensitivity.CONFIDENTIAL


async def test_other_topics_ask_anew_and_redis_never_sees_the_text(home: Path, redis: Redis) -> None:
    async with process(home) as (parts, _):
        assert (await parts.layers().examine([FALCON], "ask")).level is Sensitivity.CONFIDENTIAL
    (home / "sensitivity-topics.json").write_text(json.dumps({"topics": OFF}))
    async with process(home) as (parts, _):
        assert (await parts.layers().examine([FALCON], "ask")).level is Sensitivity.PUBLIC
    kept = b"".join(name + (redis.get(name) or b"") for name in redis.scan_iter("*"))
    assert all(word.encode() not in kept for word in FALCON.split() if len(word) > 6)
