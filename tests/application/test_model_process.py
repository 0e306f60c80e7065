"""The embedding model of a resident service: its process ends, and searches go on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.index.test_index_crashes import _children, _until
from tests.interfaces.conftest import CHORE, FIXED_BUG, transcript

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.doctor import examine
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.events import Event, ModelProcessRestarted
from knowledge_system.domain.search import Scope, SearchRequest
from knowledge_system.embedding.model_wire import Opening
from knowledge_system.embedding.supervised import ModelSupervision, SupervisedModel

pytestmark = pytest.mark.weights


def question(text: str) -> SearchRequest:
    return SearchRequest(text, scope=Scope.EXCHANGES, threshold=0)


def configure(home: Path, judging: Path, tree: dict[str, Any]) -> None:
    home.mkdir(mode=0o700)
    (home / "models").symlink_to(judging, target_is_directory=True)
    (home / "config.json").write_text(json.dumps({"vectors": {"process": "inline"}, **tree}))


@asynccontextmanager
async def service(
    home: Path, judging: Path, tree: dict[str, Any], events: list[Event]
) -> AsyncIterator[KnowledgeSystem]:
    """Run a resident system, with one session read in and its index in this process."""
    configure(home, judging, tree)
    async with Parts(settings.load(home, environ={}), "test", emit=events.append, resident=True) as parts:
        system = KnowledgeSystem(parts)
        await system.capture([transcript(home.parent / "logs" / "s.json", "s", [FIXED_BUG, CHORE])])
        await (await parts.indexer()).catch_up()
        yield system


async def killed(model: SupervisedModel) -> None:
    os.kill(model.process().pid or 0, signal.SIGKILL)
    await _until(lambda: model.process().pid is None)


async def test_a_search_by_meaning_starts_the_next_process(tmp_path: Path, judging: Path) -> None:
    events: list[Event] = []
    async with service(tmp_path / "home", judging, {}, events) as system:
        before = await system.search(question("the connections are used up"))
        assert (before["results"][0]["similarity"] > 0, before["degraded"]) == (True, [])
        first = (await system.status())["embedding_process"]
        assert (first["state"], first["restarts"], first["reason"]) == ("up", 0, "")
        model = system.parts.model_process
        assert model is not None
        await killed(model)
        after = await system.search(question("the connections of the pool are used up"))
        assert (after["results"][0]["similarity"] > 0, after["degraded"]) == (True, [])
        (told,) = [event.reason for event in events if isinstance(event, ModelProcessRestarted)]
        assert "SIGKILL" in told
        (finding,) = [one for one in await examine(system.parts) if one.check == "embedding_process"]
        assert (finding.grade, "started again 1 times" in finding.detail) == ("warning", True)


async def test_searches_go_on_by_words_while_the_model_is_down(tmp_path: Path, judging: Path) -> None:
    async with service(tmp_path / "home", judging, {}, []) as system:
        model = SupervisedModel(Opening(judging, "int8"), ModelSupervision(pause=600))
        system.parts.at_close(model.close)
        system.parts._model = system.parts.model_process = model
        await system.search(question("queue pool limit"))
        for number in range(2):
            await model.load()
            await killed(model)
            during = await system.search(question(f"queue pool limit {number}"))
            assert during["results"]
        assert during["degraded"] == ["embedding-unavailable"], "twice within a moment: it waits before the next"


@pytest.mark.parametrize(("process", "children"), [("auto", 1), ("inline", 0)])
async def test_the_settings_say_where_it_computes(tmp_path: Path, judging: Path, process: str, children: int) -> None:
    before = set(_children(os.getpid()))
    async with service(tmp_path / "home", judging, {"embeddings": {"process": process}}, []) as system:
        assert (await system.search(question("queue pool limit")))["results"]
        assert len(set(_children(os.getpid())) - before) == children
        told = (await system.status())["embedding_process"]
        assert (told is not None) == bool(children)
    assert set(_children(os.getpid())) <= before
