"""The shared cache in a real Redis, there and gone."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.inference.engine.actors import FakeModel, answer, ask, local, remote, scene, until
from tests.inference.engine.redis_server import RedisServer

from knowledge_system.domain.errors import DependencyUnavailable, UsageError
from knowledge_system.domain.events import CacheDegraded
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.options import EngineOptions
from knowledge_system.storage.redis_cache import RETRY_SECONDS, RedisCache, RedisGeneration, connected

PURE = {"temperature": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator:
    redis = connected(server.url)
    await redis.flushall()
    yield redis
    await redis.aclose()


async def test_values_come_back_with_the_time_they_have_left(client: Redis) -> None:
    cache = RedisCache(client)
    await cache.put("k", b"value", 60)
    value, left = await cache.get("k")
    assert value == b"value"
    assert 0 < left <= 60
    assert await cache.get("other") is None
    assert await cache.stats() == {"hits": 1, "misses": 1, "errors": 0}


async def gone(client: Redis, key: str) -> bool:
    return not await client.exists(key)


async def test_values_expire_and_no_time_stores_nothing(client: Redis) -> None:
    cache = RedisCache(client)
    await cache.put("none", b"x", 0)
    await cache.put("short", b"x", 0.02)
    await until(lambda: gone(client, "knowledge:response:short"))
    assert (await cache.get("none"), await cache.get("short")) == (None, None)


async def test_empty_values_are_values(client: Redis) -> None:
    cache = RedisCache(client)
    await cache.put("k", b"", 60)
    found = await cache.get("k")
    assert found is not None
    assert found[0] == b""


async def test_clearing_removes_our_entries_only(client: Redis) -> None:
    cache = RedisCache(client)
    await client.set("foreign", b"stays")
    for number in range(1200):
        await cache.put(str(number), b"x", 60)
    assert await cache.clear() == 1200
    assert await client.get("foreign") == b"stays"


async def test_installations_that_share_a_server_have_entries_of_their_own(client: Redis) -> None:
    one, other = RedisCache(client, namespace="a"), RedisCache(client, namespace="b")
    for number in range(3):
        await one.put(str(number), b"x", 60)
    await other.put("0", b"y", 60)
    assert (await one.entries(), await other.entries()) == (3, 1)
    found = await other.get("0")
    assert found is not None
    assert found[0] == b"y"
    assert await one.clear() == 3
    assert (await one.entries(), await other.entries()) == (0, 1)


async def test_after_a_failure_one_command_tries_and_nobody_else_waits(client: Redis) -> None:
    moment = [0.0]
    hung = Hung(client)
    cache = RedisCache(hung, monotonic=lambda: moment[0])  # type: ignore[arg-type]
    hung.broken = True
    assert await cache.entries() is None
    moment[0] += RETRY_SECONDS + 1
    hung.broken = False
    trying = asyncio.create_task(cache.entries())
    await until(lambda: hung.asked == 2)
    for _ in range(3):
        await cache.put("k", b"x", 60)
    assert hung.asked == 2, "only one asks a Redis that was gone a moment ago"
    hung.gate.set()
    assert await trying == 0
    await cache.put("k", b"x", 60)
    assert hung.asked == 3


class Hung:
    """A client whose scans fail, or wait at a gate."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.gate = asyncio.Event()
        self.broken = False
        self.asked = 0

    async def scan_iter(self, **options: Any) -> AsyncIterator[bytes]:
        self.asked += 1
        if self.broken:
            raise ConnectionResetError
        await self.gate.wait()
        async for key in self._client.scan_iter(**options):
            yield key

    async def set(self, *arguments: Any, **options: Any) -> None:
        self.asked += 1
        await self._client.set(*arguments, **options)


def test_a_url_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"cache\.l2\.url"):
        connected("http://localhost")


async def test_another_process_is_answered_from_redis_and_moves_it_up_for_the_time_left(client: Redis) -> None:
    groq = FakeModel("groq", answer("once"))
    stage = scene(remote(groq), cache=RedisCache(client), options=EngineOptions(l2_ttl=50.0))
    await stage.engine.infer(ask(**PURE))
    other = stage.another_process()
    reply = await other.infer(ask(**PURE))
    assert (reply.text, reply.cached, reply.cost_nano, len(groq.seen)) == ("once", True, 0, 1)
    assert reply.route.startswith("cache l2")
    assert (await other.infer(ask(**PURE))).route.startswith("cache l1")
    await client.flushall()
    stage.clock.advance(51)
    assert not (await other.infer(ask(**PURE))).cached


@pytest.mark.parametrize(("private", "entries"), [(False, 0), (True, 1)])
async def test_t31_content_above_public_is_shared_only_through_a_private_cache(
    *, client: Redis, private: bool, entries: int
) -> None:
    stage = scene(local(FakeModel("local")), cache=RedisCache(client), options=EngineOptions(l2_private=private))
    for level in (Sensitivity.INTERNAL, Sensitivity.CONFIDENTIAL):
        await stage.engine.infer(ask("words", sensitivity=level, **PURE))
    assert len(await client.keys("*")) == 2 * entries


async def test_t33_what_lies_in_redis_is_json_and_a_pickle_there_is_never_loaded(client: Redis) -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq), cache=RedisCache(client))
    await stage.engine.infer(ask(**PURE))
    (key,) = await client.keys("*")
    assert (await client.get(key)).startswith(b'{"v": 2')
    for poison in (
        pickle.dumps(Trap()),
        b"\xff\xfe",
        b"[]",
        b'{"v": 2}',
        b'{"v": 1, "kind": "Reply", "reply": {}}',
        b'{"v": 9, "kind": "Reply", "reply": {}}',
        b"",
    ):
        await client.set(key, poison, px=60_000)
        assert not (await stage.another_process().infer(ask(**PURE))).cached
    assert not Trap.sprung


class Trap:
    sprung = False

    def __reduce__(self) -> Any:
        return Trap.spring, ()

    @staticmethod
    def spring() -> None:
        Trap.sprung = True


async def test_redis_down_means_l1_only_one_warning_and_no_error(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        client, events, moment = connected(server.url), [], [0.0]
        cache = RedisCache(client, events.append, lambda: moment[0])
        groq = FakeModel("groq")
        stage = scene(remote(groq), cache=cache)
        await stage.engine.infer(ask("before", **PURE))
        server.stop()
        for number in range(5):
            moment[0] += RETRY_SECONDS + 1
            assert not (await stage.engine.infer(ask(str(number), **PURE))).cached
            assert (await stage.engine.infer(ask(str(number), **PURE))).cached
        assert [(event.level, bool(event.reason)) for event in events] == [("l2", True)]
        assert await cache.clear() == 0
        server.start()
        moment[0] += RETRY_SECONDS + 1
        await stage.engine.infer(ask("after", **PURE))
        assert (await stage.another_process().infer(ask("after", **PURE))).cached
        assert events[1:] == [CacheDegraded("l2", "")]
        await client.aclose()


async def test_a_server_that_was_never_there_costs_one_warning() -> None:
    events: list = []
    client = connected("redis://127.0.0.1:1/0")
    stage = scene(remote(FakeModel("groq")), cache=RedisCache(client, events.append))
    for number in range(3):
        await stage.engine.infer(ask(str(number), **PURE))
    assert len(events) == 1
    await client.aclose()


async def test_a_generation_advanced_in_one_process_empties_the_caches_of_all(client: Redis) -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq), cache=RedisCache(client), generation=RedisGeneration(client))
    other = stage.another_process()
    for engine in (stage.engine, other):
        await engine.infer(ask(**PURE))
    assert len(groq.seen) == 1
    await stage.engine.invalidate()
    stage.clock.advance(1)
    for engine in (stage.engine, other):
        await engine.infer(ask(**PURE))
    assert len(groq.seen) == 2


async def test_a_generation_that_cannot_be_reached_is_an_error_of_the_writer_only() -> None:
    client = connected("redis://127.0.0.1:1/0")
    groq = FakeModel("groq")
    stage = scene(remote(groq), generation=RedisGeneration(client))
    await stage.engine.infer(ask(**PURE))
    with pytest.raises(DependencyUnavailable):
        await stage.engine.invalidate()
    await stage.engine.infer(ask(**PURE))
    assert len(groq.seen) == 2
    await client.aclose()
