"""An index that is new: who makes it follow the truth, and when it counts as lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.application.test_index_process import LocalModel, configure
from tests.interfaces.conftest import FIXED_BUG, transcript

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.events import Event, IndexRebuilt
from knowledge_system.storage.index_generations import place_of


def opened(home: Path, events: list[Event]) -> Parts:
    configure(home, {})
    model: Any = LocalModel()
    return Parts(settings.load(home, environ={}), "test", emit=events.append, _model=model)


async def test_all_who_ask_at_once_share_one_writer_of_the_index(tmp_path: Path) -> None:
    async with opened(tmp_path / "home", []) as parts:
        writers = await asyncio.gather(*(parts.indexer() for _ in range(5)))
        assert len({id(one) for one in writers}) == 1


async def test_what_is_stored_and_indexed_while_an_empty_index_is_looked_at_is_not_taken_for_lost(
    tmp_path: Path,
) -> None:
    events: list[Event] = []
    async with opened(tmp_path / "home", events) as parts:
        truth = await parts.truth()
        index = await parts.index()
        indexer = await parts.indexer()

        class Outbox:
            """Somebody stores and indexes a session just before the outbox is read."""

            async def depth(self) -> dict[str, int]:
                parts._truth = truth
                file = transcript(tmp_path / "s.json", "s", [FIXED_BUG])
                await KnowledgeSystem(parts).capture([file])
                await indexer.catch_up()
                return await truth.outbox.depth()

        parts._truth = replace(truth, outbox=Outbox())  # type: ignore[arg-type] -- only that is asked
        await parts.repaired(index)
        assert (await index.status()).points > 0
        assert [event for event in events if isinstance(event, IndexRebuilt)] == []


async def test_the_index_of_the_model_before_is_removed_from_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path / "home", []) as parts:
        space, directory = parts.model().space, parts.home().index
        before = place_of(directory, replace(space, revision="before"))
        larger = place_of(directory, replace(space, dimension=1536))
        for place in (before, larger):
            (place / "g000001").mkdir(parents=True)
        await parts.index()
        assert set(directory.glob("knowledge_*-*")) == {larger, place_of(directory, space)}
