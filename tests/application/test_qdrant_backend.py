"""A system whose index is on a Qdrant server: as good as the embedded one, and whole again after whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.application.test_index_process import QUESTION, LocalModel, Service, service
from tests.application.test_qdrant_away import opened
from tests.interfaces.conftest import FIXED_BUG, transcript

from knowledge_system import settings
from knowledge_system.application import indexes
from knowledge_system.application.diagnosing import diagnose
from knowledge_system.application.doctor import examine
from knowledge_system.application.larger import larger_space
from knowledge_system.application.telemetry import open_telemetry
from knowledge_system.domain.errors import IndexUnavailable, UsageError
from knowledge_system.domain.events import IndexRebuilt, IndexServerBack, IndexServerLost
from knowledge_system.domain.search import Scope, SearchRequest
from knowledge_system.testing.scripted_qdrant import Fault, ScriptedQdrant

KEY = "key-of-a-test-server"
QUESTIONS = ("queue pool limit", "OrderRepository session never closed", "case 17", "nothing of the kind")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedQdrant]:
    with ScriptedQdrant(tmp_path / "qdrant") as running:
        yield running


def on(server: ScriptedQdrant) -> dict[str, Any]:
    return {"vectors": {"backend": "qdrant", "url": server.url}}


@asynccontextmanager
async def served(home: Path, server: ScriptedQdrant, *, resident: bool = True) -> AsyncIterator[Service]:
    """Open a system with 30 exchanges in it, once its server holds them."""
    async with service(home, on(server), resident=resident) as running:
        await searched(running)
        if resident:
            await back(running)
        yield running


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 -- the server sets no event of ours
            await asyncio.sleep(0.02)


async def searched(running: Service, question: str = "queue pool limit") -> list[str]:
    """Ask until it is answered; return the ids."""
    request = SearchRequest(question, scope=Scope.EXCHANGES, threshold=0)
    async with asyncio.timeout(60):
        while True:
            try:
                return [one["id"] for one in (await running.system.search(request))["results"]]
            except IndexUnavailable:
                await asyncio.sleep(0.02)


async def back(running: Service) -> None:
    """Wait until the server is back, and all that waited for it is in the index."""

    async def done() -> bool:
        waiting = (await (await running.parts.truth()).outbox.depth()).values()
        states = {one["state"] for one in (await running.system.status())["index_server"]}
        return states == {"up"} and not any(waiting)

    await until(done)
    assert await running.equals_the_truth()


async def capture(running: Service, folder: Path, name: str, text: str) -> None:
    exchanges = [{**FIXED_BUG, "user": f"{text} {number}?"} for number in range(5)]
    assert (await running.system.capture([transcript(folder / f"{name}.json", name, exchanges)])).new == 5


async def test_it_finds_what_the_embedded_index_finds(tmp_path: Path, server: ScriptedQdrant) -> None:
    found: list[list[Any]] = []
    async with service(tmp_path / "embedded", {}, resident=False) as embedded:
        for question in QUESTIONS:
            request = SearchRequest(question, scope=Scope.EXCHANGES, threshold=0)
            results = (await embedded.system.search(request))["results"]
            found.append(sorted((-one["score"], one["content"]) for one in results))
    async with served(tmp_path / "home", server) as running:
        for question, expected in zip(QUESTIONS, found, strict=True):
            request = SearchRequest(question, scope=Scope.EXCHANGES, threshold=0)
            results = (await running.system.search(request))["results"]
            assert sorted((-one["score"], one["content"]) for one in results) == expected
        document = await indexes.status(running.parts)
        assert (document["backend"], document["points"], document["healthy"]) == ("qdrant", 60, True)
        assert document["index_server"][0]["state"] == "up"
        assert running.parts.index_processes() == []
        assert list(running.parts.home().index.glob("knowledge_*-*")) == []
        assert (await indexes.verify(running.parts))["ok"]
        assert (await indexes.rebuild(running.parts))["points"] == 60
        assert (await indexes.optimize(running.parts))["points"] == 60
        assert running.told(IndexRebuilt) == [], "nothing was wrong with it"


async def test_a_server_that_ends_and_comes_back_with_its_data(tmp_path: Path, server: ScriptedQdrant) -> None:
    async with served(tmp_path / "home", server) as running:
        before = await searched(running)
        server.stop()
        await capture(running, tmp_path / "logs", "t", "What about zebra")
        with pytest.raises(IndexUnavailable):
            await running.system.search(QUESTION)
        assert (await running.parts.health().report()).document()["qdrant"]["status"] == "down"
        server.start()
        await back(running)
        assert await searched(running) == before
        assert await searched(running, "zebra")
        assert (len(running.told(IndexServerLost)), len(running.told(IndexServerBack))) == (1, 1)
        assert running.told(IndexRebuilt) == []


async def test_what_is_stored_while_a_server_comes_and_goes_is_in_the_index_once(
    tmp_path: Path, server: ScriptedQdrant
) -> None:
    async with served(tmp_path / "home", server) as running:
        for number in range(4):
            name = f"t{number}"
            storing = asyncio.create_task(capture(running, tmp_path / "logs", name, f"What about zebra {name}"))
            server.fault = Fault(only="/points", times=number + 1, cut="after")  # done, and never acknowledged
            if number % 2:
                await asyncio.to_thread(server.stop)
            await storing
            server.fault = None
            if number % 2:
                server.start()
        await back(running)
        report = await running.parts.health().report()
        assert report.document()["index_drift"]["drift"] == 0
        assert len(await searched(running, "zebra")) > 0
        assert (await running.system.status())["exchanges"] == 50


async def test_a_server_that_comes_back_empty_is_filled_from_the_truth(tmp_path: Path, server: ScriptedQdrant) -> None:
    async with served(tmp_path / "home", server) as running:
        before = await searched(running)
        server.stop()
        with pytest.raises(IndexUnavailable):
            await running.system.search(QUESTION)
        server.start()
        server.reset()
        await back(running)
        assert await searched(running) == before
        assert [event.points for event in running.told(IndexRebuilt)] == [60]


async def test_a_collection_that_vanishes_while_the_server_runs_is_made_anew(
    tmp_path: Path, server: ScriptedQdrant
) -> None:
    async with served(tmp_path / "home", server) as running:
        before = await searched(running)
        server.reset()
        assert await searched(running) == before, "a search either fails or finds everything"
        await back(running)


async def test_a_server_that_hangs_is_told_in_time_and_used_again(tmp_path: Path, server: ScriptedQdrant) -> None:
    async with served(tmp_path / "home", server) as running:
        health = running.parts.health()
        assert (await health.ready()).status == "healthy"
        fields = (await health.report()).document()["qdrant"]
        assert (fields["status"], fields["backend"], fields["latency"] > 0) == ("up", "qdrant", True)
        server.fault = Fault(hang="start")
        health._ready._last = None
        ready = await health.ready()
        assert (ready.status, ready.document()["qdrant"]["status"]) == ("unhealthy", "down")
        assert ready.document()["sqlite"]["status"] == "up"
        server.fault = None

        async def healthy() -> bool:
            return (await health.ready()).status == "healthy"

        await until(healthy)
        assert await searched(running)


async def test_a_service_that_starts_before_its_server_catches_up_by_itself(
    tmp_path: Path, server: ScriptedQdrant
) -> None:
    server.stop()
    async with service(tmp_path / "home", on(server)) as running:
        assert (await running.system.status())["exchanges"] == 30
        with pytest.raises(IndexUnavailable, match="the index's server cannot be used"):
            await running.system.search(QUESTION)
        server.start()
        await back(running)
        assert await searched(running)
        assert len(running.told(IndexServerLost)) == 1


async def test_a_wrong_key_is_a_clear_error_and_the_right_one_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedQdrant(tmp_path / "qdrant", api_key=KEY) as server:
        monkeypatch.setenv("QDRANT_API_KEY", "another-key")
        async with service(tmp_path / "home", on(server)) as running:
            with pytest.raises(IndexUnavailable, match="refuses the API key") as refused:
                await running.system.search(QUESTION)
            assert "QDRANT_API_KEY" in refused.value.hint
            findings = {one.check: one for one in await examine(running.parts)}
            assert "refuses the API key" in findings["index_server"].detail
            assert "another-key" not in str(findings)
        (tmp_path / "key").write_text(f"{KEY}\n")
        monkeypatch.delenv("QDRANT_API_KEY")
        monkeypatch.setenv("QDRANT_API_KEY_FILE", str(tmp_path / "key"))
        async with served(tmp_path / "other", server) as running:
            assert await searched(running)
            told = [await diagnose(running.parts, "index"), settings.dump(running.parts.settings.tree), running.events]
            assert KEY not in repr([told, running.parts.settings, running.parts.servers])
        monkeypatch.setenv("QDRANT_API_KEY", "a key with spaces")
        async with opened(tmp_path / "third", on(server)) as running:
            with pytest.raises(UsageError, match="QDRANT_API_KEY is not a key"):
                await running.parts.index()


async def test_doctor_and_metrics_tell_of_the_server(tmp_path: Path, server: ScriptedQdrant) -> None:
    async with served(tmp_path / "home", server) as running:
        document = await diagnose(running.parts, "index")
        (one,) = document["servers"]
        assert (document["exit_code"], document["problems"], document["processes"]) == (0, [], [])
        assert (one["state"], one["reachable"], one["facts"]["ready"]) == ("up", True, True)
        assert (one["facts"]["version"], one["facts"]["status"], one["facts"]["points"]) == ("1.19.0", "green", 60)
        assert one["facts"]["collection"] in one["facts"]["collections"]
        assert "its log is on its own machine" in one["logs"]
        findings = {one.check: one for one in await examine(running.parts)}
        assert (findings["index"].grade, findings["index_server"].grade) == ("ok", "ok")
        telemetry = await open_telemetry(running.parts)
        text = (await telemetry.exposition())[0].decode()
        assert "knowledge_memory_bytes" in text
        assert "knowledge_vector_store_memory_bytes{" not in text, "the server tells its own"
        assert "knowledge_index_drift 0.0" in text


async def test_the_larger_space_is_on_the_server_too_and_recovers_by_itself(
    tmp_path: Path, server: ScriptedQdrant
) -> None:
    async with served(tmp_path / "home", server) as running:
        parts = running.parts
        truth, space = await parts.truth(), larger_space(parts.settings.tree)
        wide: Any = LocalModel(space.dimension)
        documents = await (await parts.indexer()).documents(await truth.ledger.owners())
        texts = {one.content_hash: one.text for document in documents.values() for one in document.passages}
        await truth.vectors.put(space, {key: wide.vector(text) for key, text in texts.items()})
        second = await parts.second()
        held = await second.held()
        assert len(held) == 30
        assert {one["space"] for one in (await running.system.status())["index_server"]} == {
            space.key,
            parts.model().space.key,
        }
        server.stop()
        with pytest.raises(IndexUnavailable):
            await second.held()
        server.start()
        server.reset()

        async def whole() -> bool:
            try:
                return await second.held() == held
            except IndexUnavailable:
                return False

        await until(whole)


async def test_a_server_that_was_not_followed_meanwhile_is_filled_again(tmp_path: Path, server: ScriptedQdrant) -> None:
    """From the server to the embedded index, where a text changes, and back: what the server held is of yesterday."""
    home = tmp_path / "home"
    async with served(home, server) as running:
        assert await searched(running)
    (home / "config.json").write_text("{}")
    async with opened(home, {}) as running:
        assert await searched(running)
        await capture(running, tmp_path / "logs", "t", "What about zebra")
        assert list(running.parts.home().index.glob("knowledge_*-*"))
    async with opened(home, on(server)) as running:
        await until(lambda: told(running))
        assert "was not followed" in running.told(IndexRebuilt)[0].reason
        assert await searched(running, "zebra")
        assert list(running.parts.home().index.glob("knowledge_*-*")) == []
        await back(running)
    async with opened(home, on(server)) as running:
        assert await searched(running, "zebra")
        await back(running)
        assert running.told(IndexRebuilt) == [], "it has been followed since"


async def told(running: Service) -> bool:
    await running.parts.index()
    return bool(running.told(IndexRebuilt))


async def test_rebuilding_removes_what_the_model_before_left_on_the_server(
    tmp_path: Path, server: ScriptedQdrant
) -> None:
    async with served(tmp_path / "home", server) as running:
        left, foreign = f"knowledge_384-{'0' * 12}-000001", "knowledge_384-of-somebody-else"
        for name in (left, foreign):
            server.shards.create(name, server.shards.get(server.shards.names()[0]).config)
        document = await indexes.rebuild(running.parts)
        assert document["removed_collections"] == 1
        assert left not in server.shards.names()
        assert foreign in server.shards.names()
        assert await running.equals_the_truth()
