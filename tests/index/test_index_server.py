"""The index on a server that comes and goes, without a system around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.errors import IndexUnavailable, IntegrityFailure
from knowledge_system.domain.index import IndexPoint, IndexQuery
from knowledge_system.storage.index_server import Care, ServerIndex
from knowledge_system.storage.qdrant_server import QdrantIndex, QdrantOptions
from knowledge_system.testing.scripted_qdrant import Fault, ScriptedQdrant

SPACE = EmbeddingSpace("test", 4, "1")
WORDS = IndexQuery(limit=5, words="pool")
POINTS = [IndexPoint(f"x{number:024x}", 0, "whole", None, "pool limit") for number in range(4)]


@dataclass
class Watched:
    """An index, and what was told of it."""

    server: ScriptedQdrant
    index: ServerIndex
    told: list[str] = field(default_factory=list)
    recovered: int = 0
    failing: int = 0

    async def found(self) -> int:
        (hits,) = await self.index.query([WORDS])
        return len(hits)


@asynccontextmanager
async def watched(server: ScriptedQdrant, care: Care, *, failing: int = 0) -> AsyncIterator[Watched]:
    """Open an index that is filled with `POINTS` whenever it is recovered, the first `failing` times excepted."""
    one = Watched(server, None, failing=failing)  # type: ignore[arg-type] -- set below

    async def recover(index: ServerIndex) -> None:
        one.recovered += 1
        if one.recovered <= one.failing:
            raise IntegrityFailure("not now")
        await index.apply(POINTS)

    full = replace(
        care,
        recover=recover,
        lost=lambda reason: one.told.append(f"lost: {reason}"),
        back=lambda seconds: one.told.append("back" if seconds >= 0 else "before"),
        followed=lambda: one.told.append("followed"),
    )
    options = QdrantOptions(server.url)
    one.index = await ServerIndex.open(SPACE, server.url, lambda: QdrantIndex.open(SPACE, options), full)
    try:
        yield one
    finally:
        await one.index.close()
        await one.index.close()


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with ScriptedQdrant(tmp_path / "qdrant") as running:
        yield running


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- the server sets no event of ours
            await asyncio.sleep(0.01)


QUICK = Care(connecting=60, pause=0.01, longest=0.05, every=0.05)


async def test_a_search_waits_for_an_empty_index_and_finds_everything(server: ScriptedQdrant) -> None:
    async with watched(server, QUICK, failing=3) as one:
        assert await one.found() == 4
        await until(lambda: (one.index.server().state, one.index.server().reason) == ("up", ""))
        assert one.recovered == 4
        assert one.told == []


async def test_an_index_that_stays_unsound_refuses_searches_and_says_why(server: ScriptedQdrant) -> None:
    async with watched(server, replace(QUICK, settling=0.0), failing=1_000_000) as one:
        with pytest.raises(IndexUnavailable, match="has to be rebuilt first: it was empty"):
            await one.found()
        await until(lambda: one.index.server().state == "recovering" and one.recovered > 3)
        assert (await one.index.status()).points == 0, "who asks for counts gets them"


async def test_points_that_vanish_without_an_outage_are_noticed(server: ScriptedQdrant) -> None:
    async with watched(server, QUICK) as one:
        await until(lambda: one.index.server().state == "up" and one.recovered == 1)
        other = await QdrantIndex.open(SPACE, QdrantOptions(server.url))  # as somebody who restores a backup
        await other.apply([], [POINTS[0].owner_id])
        await other.close()
        await until(lambda: one.recovered == 2)
        async with asyncio.timeout(60):
            while await one.found() != 4:  # noqa: ASYNC110 -- searched meanwhile: most of it is there
                await asyncio.sleep(0.01)
        assert one.told == []


async def test_what_the_index_itself_removes_alarms_nobody(server: ScriptedQdrant) -> None:
    async with watched(server, replace(QUICK, every=0.01)) as one:
        await until(lambda: one.index.server().state == "up")
        for point in POINTS:
            await one.index.apply([], [point.owner_id])
            asked = len(server.asked("/points/count"))
            await until(lambda asked=asked: len(server.asked("/points/count")) > asked + 6)  # type: ignore[misc]
        assert one.recovered == 1


async def test_an_outage_is_told_once_and_its_end_too(server: ScriptedQdrant) -> None:
    async with watched(server, QUICK) as one:
        await until(lambda: one.index.server().state == "up")
        server.fault = Fault(status=500)
        with pytest.raises(IndexUnavailable, match="500"):
            await one.found()
        asked = len(server.requests)
        for _ in range(20):
            with pytest.raises(IndexUnavailable, match="500"):
                await one.found()
        await until(lambda: len(server.requests) > asked + 5)
        assert [line.partition(":")[0] for line in one.told] == ["lost"]
        assert (one.index.server().state, one.index.server().outages) == ("away", 1)
        server.fault = None
        await until(lambda: one.index.server().state == "up" and one.recovered == 2)
        assert one.told[1:] == ["back"]
        assert await one.found() == 4


async def test_searches_of_an_outage_ask_the_server_nothing(server: ScriptedQdrant) -> None:
    async with watched(server, replace(QUICK, pause=60.0, longest=60.0, every=60.0)) as one:
        await until(lambda: one.index.server().state == "up")
        server.fault = Fault(status=503)
        with pytest.raises(IndexUnavailable):
            await one.found()
        asked = len(server.requests)
        for _ in range(50):
            with pytest.raises(IndexUnavailable):
                await one.found()
        assert len(server.requests) == asked


async def test_an_index_of_another_truth_is_not_searched_before_it_was_rebuilt(server: ScriptedQdrant) -> None:
    async with watched(server, QUICK) as first:
        assert await first.found() == 4

    async def everything() -> AsyncIterator[list[IndexPoint]]:
        yield POINTS[:2]

    async with watched(server, replace(QUICK, distrust="it is of yesterday", settling=0.0), failing=1_000_000) as one:
        await until(lambda: one.index.usable)
        with pytest.raises(IndexUnavailable, match="it is of yesterday"):
            await one.found()
        assert ((await one.index.status()).healthy, (await one.index.status()).detail) == (False, "it is of yesterday")
        assert (await one.index.rebuild(everything())).swapped
        assert await one.found() == 2
        assert (await one.index.status()).healthy
        assert one.told == ["followed"]


async def test_a_command_tries_once_and_says_what_is_wrong(server: ScriptedQdrant) -> None:
    options = QdrantOptions(server.url)
    opened = await ServerIndex.open(SPACE, server.url, lambda: QdrantIndex.open(SPACE, options), Care())
    assert await opened.query([WORDS]) == [[]]
    await opened.close()
    server.fault = Fault(status=503)
    away = await ServerIndex.open(SPACE, server.url, lambda: QdrantIndex.open(SPACE, options), Care())
    asked = len(server.requests)
    with pytest.raises(IndexUnavailable, match="503"):
        await away.status()
    assert (len(server.requests), away.usable) == (asked, False)
    assert await away.telemetry() is None
    await away.close()
