"""What every ResponseCache promises: the fake, L1, and Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.inference.contract.conftest import SettableClock
from tests.inference.engine.redis_server import RedisServer

from knowledge_system.domain.money import ResponseCache
from knowledge_system.inference.memory_cache import MemoryCache
from knowledge_system.storage.redis_cache import RedisCache, connected
from knowledge_system.testing.inference import MemoryResponses


@pytest.fixture(params=["fake", "l1", "redis"])
async def cache(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ResponseCache]:
    if request.param == "redis":
        with RedisServer(tmp_path) as server:
            client = connected(server.url)
            yield RedisCache(client)
            await client.aclose()
    elif request.param == "l1":
        yield MemoryCache(10, 10_000)
    else:
        yield MemoryResponses(SettableClock())


async def test_a_value_comes_back_with_the_time_it_has_left(cache: ResponseCache) -> None:
    await cache.put("k", b"value", 60)
    found = await cache.get("k")
    assert found is not None
    assert found[0] == b"value"
    assert 50 < found[1] <= 60


async def test_what_was_never_stored_is_none(cache: ResponseCache) -> None:
    assert await cache.get("k") is None


@pytest.mark.parametrize("value", [b"", b"0", b"null", b"\x00\xff"])
async def test_falsy_and_binary_values_are_values(cache: ResponseCache, value: bytes) -> None:
    await cache.put("k", value, 60)
    found = await cache.get("k")
    assert found is not None
    assert found[0] == value


async def test_the_last_value_and_time_count(cache: ResponseCache) -> None:
    await cache.put("k", b"old", 600)
    await cache.put("k", b"new", 60)
    found = await cache.get("k")
    assert found is not None
    assert (found[0], found[1] <= 60) == (b"new", True)


async def test_clearing_empties_it_and_says_how_much_that_was(cache: ResponseCache) -> None:
    for key in "abc":
        await cache.put(key, b"x", 60)
    assert await cache.clear() == 3
    assert await cache.get("a") is None
    assert await cache.clear() == 0


async def test_hits_and_misses_are_counted(cache: ResponseCache) -> None:
    await cache.get("k")
    await cache.put("k", b"x", 60)
    await cache.get("k")
    stats = await cache.stats()
    assert (stats["hits"], stats["misses"]) == (1, 1)
