"""The search log is written beside the searches, in order, in groups, and completely."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.retrieval.nouns import NOW, World, exchange

from knowledge_system.domain.errors import DependencyUnavailable
from knowledge_system.domain.search import SearchLogEntry, SearchRequest
from knowledge_system.retrieval.search_log import MOST_WAITING, SearchLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def entry(number: int) -> SearchLogEntry:
    return SearchLogEntry(NOW, f"question {number}", "hash", "all")


class Ledger:
    """Takes entries when `gate` is open, refuses them while `broken`, and remembers every group."""

    def __init__(self) -> None:
        self.groups: list[tuple[SearchLogEntry, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.broken = False

    async def log_search(self, *entries: SearchLogEntry) -> None:
        self.asked.set()
        await self.gate.wait()
        if self.broken:
            raise DependencyUnavailable("disk is full", hint="free some")
        self.groups.append(entries)

    @property
    def queries(self) -> list[str | None]:
        return [one.query for group in self.groups for one in group]


def log_of(ledger: Ledger) -> SearchLog:
    return SearchLog(ledger)  # type: ignore[arg-type] -- the one method of the port that is used


async def test_adding_does_not_wait_for_the_database() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    log = log_of(ledger)
    for number in range(5):
        await log.add(entry(number))
    assert ledger.groups == []
    ledger.gate.set()
    await log.close()


async def test_what_was_added_is_written_by_itself() -> None:
    ledger = Ledger()
    log = log_of(ledger)
    await log.add(entry(0))
    async with asyncio.timeout(10):
        await ledger.asked.wait()
    await log.close()
    assert ledger.queries == ["question 0"]


@pytest.mark.parametrize("finish", [SearchLog.settled, SearchLog.close], ids=["settled", "close"])
async def test_nothing_is_lost_or_repeated(finish: Callable[[SearchLog], Awaitable[None]]) -> None:
    ledger = Ledger()
    log = log_of(ledger)
    for number in range(7):
        await log.add(entry(number))
    await finish(log)
    assert ledger.queries == [f"question {number}" for number in range(7)]
    await log.close()
    await log.close()
    assert len(ledger.queries) == 7


async def test_searches_at_the_same_time_are_written_together() -> None:
    ledger = Ledger()
    log = log_of(ledger)
    await asyncio.gather(*(log.add(entry(number)) for number in range(20)))
    await log.close()
    assert len(ledger.groups) == 1


async def test_what_could_not_be_written_is_told_and_tried_again() -> None:
    ledger = Ledger()
    ledger.broken = True
    log = log_of(ledger)
    await log.add(entry(0))
    with pytest.raises(DependencyUnavailable):
        await log.settled()
    await log.add(entry(1))
    with pytest.raises(DependencyUnavailable):
        await log.close()
    ledger.broken = False
    await log.close()
    assert ledger.queries == ["question 0", "question 1"]


async def test_a_write_that_fails_in_the_background_does_no_harm() -> None:
    ledger = Ledger()
    ledger.broken = True
    log = log_of(ledger)
    await log.add(entry(0))
    async with asyncio.timeout(10):
        await ledger.asked.wait()
    ledger.broken = False
    await log.add(entry(1))
    await log.close()
    assert ledger.queries == ["question 0", "question 1"]


async def test_no_more_wait_than_allowed() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    log = log_of(ledger)
    for number in range(MOST_WAITING - 1):
        await log.add(entry(number))
    last = asyncio.create_task(log.add(entry(MOST_WAITING)))
    async with asyncio.timeout(10):
        await ledger.asked.wait()
    assert not last.done()
    ledger.gate.set()
    await last
    assert len(ledger.queries) == MOST_WAITING
    await log.close()


async def test_closing_waits_for_a_write_that_is_under_way() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    log = log_of(ledger)
    await log.add(entry(0))
    async with asyncio.timeout(10):
        await ledger.asked.wait()
    closing = asyncio.create_task(log.close())
    await asyncio.wait([closing], timeout=0)
    assert not closing.done()
    ledger.gate.set()
    await closing
    assert ledger.queries == ["question 0"]


async def test_a_searcher_that_is_closed_has_logged_every_search() -> None:
    world = World()
    await world.add(exchange("a", "deadlock"))
    for number in range(3):
        await world.searcher.search(SearchRequest(f"deadlock {number}"))
    await world.searcher.close()
    assert (await world.truth.ledger.totals()).searches == 3
