"""The index follows an ingest while that is still reading."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from knowledge_system.application.following import EVERY, Following


class Index:
    """Stands for the parts of a system: opens when it is let, indexes words when it is let."""

    def __init__(self) -> None:
        self.opened = 0
        self.turns = 0
        self.go = asyncio.Event()
        self.broken = False

    async def indexer(self) -> Index:
        self.opened += 1
        return self

    async def index_words(self) -> int:
        self.turns += 1
        await self.go.wait()
        if self.broken:
            raise RuntimeError("the index broke")
        return 1


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_index_opens_at_once_and_words_follow_in_turns() -> None:
    index = Index()
    following = Following(cast("Any", index), active=True)
    await settle()
    assert (index.opened, index.turns) == (1, 0)
    following.stored(EVERY - 1)
    await settle()
    assert index.turns == 0
    following.stored(EVERY)
    await settle()
    following.stored(3 * EVERY)  # the first turn is still under way
    await settle()
    assert index.turns == 1
    index.go.set()
    await following.settled()
    following.stored(3 * EVERY)
    await following.settled()
    assert index.turns == 2


async def test_a_dry_run_leaves_the_index_alone() -> None:
    index = Index()
    following = Following(cast("Any", index), active=False)
    following.stored(10 * EVERY)
    await following.settled()
    assert (index.opened, index.turns) == (0, 0)


@pytest.mark.filterwarnings("error")
async def test_a_turn_that_fails_is_left_to_who_comes_after() -> None:
    index = Index()
    index.broken = True
    index.go.set()
    following = Following(cast("Any", index), active=True)
    await settle()
    for stored in (EVERY, 2 * EVERY):
        following.stored(stored)
        await following.settled()
    assert index.turns == 2
