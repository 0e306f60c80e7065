"""The index of a resident service: its process ends in any way, and the service and the truth go on together."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.index.test_index_crashes import _until
from tests.index.test_index_supervised import poison
from tests.interfaces.conftest import FIXED_BUG, transcript

from knowledge_system import settings
from knowledge_system.application import indexes
from knowledge_system.application.compose import Parts
from knowledge_system.application.doctor import examine
from knowledge_system.application.larger import larger_space
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.events import Event, IndexProcessGivenUp, IndexProcessRestarted, IndexRebuilt
from knowledge_system.domain.search import Scope, SearchRequest
from knowledge_system.retrieval.indexing import Indexer
from knowledge_system.testing.embedding import HashingEmbeddingModel

QUESTION = SearchRequest("queue pool limit", scope=Scope.EXCHANGES, threshold=0)


class LocalModel(HashingEmbeddingModel):
    async def load(self) -> None:
        pass


@dataclass
class Service:
    """A system that is resident, with one session read in."""

    parts: Parts
    system: KnowledgeSystem
    events: list[Event] = field(default_factory=list)

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def process(self) -> dict[str, Any]:
        (document,) = self.parts.index_processes()
        return document

    async def equals_the_truth(self) -> bool:
        indexer: Indexer = await self.parts.indexer()
        return not any(await indexer.compare())

    async def end(self, count: int, how: signal.Signals = signal.SIGKILL) -> None:
        """End the process and wait for the next one, the `count`th that is restarted."""
        os.kill(self.process()["pid"], how)
        await _until(lambda: self.process()["restarts"] >= count and self.process()["state"] == "up")


def configure(home: Path, tree: dict[str, Any]) -> None:
    home.mkdir(mode=0o700)
    (home / "config.json").write_text(json.dumps(tree))


@asynccontextmanager
async def service(home: Path, tree: dict[str, Any] | None = None, *, resident: bool = True) -> AsyncIterator[Service]:
    configure(home, tree or {})
    events: list[Event] = []
    model: Any = LocalModel()
    async with Parts(settings.load(home, environ={}), "test", emit=events.append, _model=model) as parts:
        parts.resident = resident
        system = KnowledgeSystem(parts)
        exchanges = [{**FIXED_BUG, "user": f"{FIXED_BUG['user']} Case {number}."} for number in range(30)]
        await system.capture([transcript(home.parent / "logs" / "s.json", "s", exchanges)])
        await (await parts.indexer()).catch_up()
        yield Service(parts, system, events)


async def test_after_a_kill_the_index_equals_the_truth_and_searches_go_on(tmp_path: Path) -> None:
    async with service(tmp_path / "home") as running:
        before = await running.system.search(QUESTION)
        assert len(before["results"]) > 0
        await running.end(1)
        after = await running.system.search(QUESTION)
        assert [one["id"] for one in after["results"]] == [one["id"] for one in before["results"]]
        assert await running.equals_the_truth()
        assert running.process()["restarts"] == 1
        assert ["SIGKILL" in event.reason for event in running.told(IndexProcessRestarted)] == [True]
        assert running.told(IndexRebuilt) == []


async def test_what_was_not_acknowledged_is_found_again_by_the_outbox(tmp_path: Path) -> None:
    async with service(tmp_path / "home") as running:
        more = [{**FIXED_BUG, "user": f"What about zebra {number}?"} for number in range(20)]
        os.kill(running.process()["pid"], signal.SIGSTOP)  # it takes the writes, and never does them
        file = transcript(tmp_path / "logs" / "t.json", "t", more)
        storing = asyncio.create_task(running.system.capture([file]))
        truth = await running.parts.truth()
        async with asyncio.timeout(60):
            while (await truth.ledger.totals()).exchanges < 50:  # noqa: ASYNC110 -- the database sets no event of ours
                await asyncio.sleep(0.01)
        os.kill(running.process()["pid"], signal.SIGKILL)
        await asyncio.wait([storing])
        storing.exception()
        async with asyncio.timeout(60):
            while any((await truth.outbox.depth()).values()):  # noqa: ASYNC110 -- as above
                await asyncio.sleep(0.01)
        assert await running.equals_the_truth()
        found = await running.system.search(SearchRequest("zebra", scope=Scope.EXCHANGES, threshold=0))
        assert found["results"]


async def test_broken_files_are_rebuilt_from_the_truth_while_the_service_goes_on(tmp_path: Path) -> None:
    async with service(tmp_path / "home") as running:
        before = await running.system.search(QUESTION)
        await (await running.parts.index()).flush()
        poison(running.parts.home().index)
        await running.end(1, signal.SIGABRT)
        await _until(lambda: running.told(IndexRebuilt))
        assert await running.equals_the_truth()
        after = await running.system.search(QUESTION)
        assert [one["id"] for one in after["results"]] == [one["id"] for one in before["results"]]
        findings = {one.check: one for one in await examine(running.parts)}
        assert findings["index"].grade == "ok"
        assert (findings["index_process"].grade, "1 times" in findings["index_process"].detail) == ("warning", True)


async def test_a_process_that_keeps_ending_leaves_a_service_that_says_so(tmp_path: Path) -> None:
    async with service(tmp_path / "home") as running:
        for count in range(1, 6):
            await running.end(count)
        os.kill(running.process()["pid"], signal.SIGKILL)
        await _until(lambda: running.process()["state"] == "down")
        document = await indexes.status(running.parts)
        assert (document["healthy"], document["index_process"][0]["pid"]) == (False, None)
        assert len(running.told(IndexProcessGivenUp)) == 1
        findings = {one.check: one for one in await examine(running.parts)}
        assert findings["index_process"].grade == "error"
        assert (await running.system.status())["exchanges"] == 30
        await running.system.index_rebuild()
        assert await running.equals_the_truth()
        assert (await running.system.search(QUESTION))["results"]


async def test_the_larger_space_has_a_process_of_its_own_that_recovers_by_itself(tmp_path: Path) -> None:
    async with service(tmp_path / "home") as running:
        parts = running.parts
        truth, space = await parts.truth(), larger_space(parts.settings.tree)
        wide = LocalModel(space.dimension)
        documents = await (await parts.indexer()).documents(await truth.ledger.owners())
        texts = {one.content_hash: one.text for document in documents.values() for one in document.passages}
        await truth.vectors.put(space, {key: wide.vector(text) for key, text in texts.items()})
        second = await parts.second()
        held = await second.held()
        assert held
        await second.index.flush()
        processes = {one["space"]: one for one in parts.index_processes()}
        assert len({one["pid"] for one in processes.values()}) == 2
        poison_of(parts.home().index, space.collection)
        os.kill(int(str(processes[space.key]["pid"])), signal.SIGABRT)
        await _until(lambda: any("mutable_id_tracker" in event.reason for event in running.told(IndexRebuilt)))
        assert await second.held() == held
        states = {one["space"]: one["restarts"] for one in parts.index_processes()}
        assert (states[space.key], sum(map(int, map(str, states.values())))) == (1, 1)


def poison_of(directory: Path, collection: str) -> None:
    (root,) = directory.glob(f"{collection}-*")
    mappings = next(root.glob("g*/shard/**/mutable_id_tracker.mappings"))
    mappings.write_bytes(mappings.read_bytes()[:-100] + b"\xff" * 100)


@pytest.mark.parametrize(
    ("chosen", "resident", "apart"),
    [("auto", True, True), ("auto", False, False), ("inline", True, False), ("child", False, True)],
)
async def test_the_settings_say_where_the_index_lives(
    tmp_path: Path, chosen: str, *, resident: bool, apart: bool
) -> None:
    async with service(tmp_path / "home", {"vectors": {"process": chosen}}, resident=resident) as running:
        assert bool(running.parts.index_processes()) == apart
        assert (await running.system.status())["index_process"] == running.parts.index_processes()
