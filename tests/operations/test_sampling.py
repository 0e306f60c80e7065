"""A source that fails or hangs loses its own series, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest
from prometheus_client.core import Metric

from knowledge_system.operations import gauges
from knowledge_system.operations.sampling import FRESH, PAUSE, RARELY, Sampling


class Machine:
    """Sources under control, and a clock to go with them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.read: list[str] = []
        self.failures: list[str] = []
        self.released = asyncio.Event()
        sources = {"good": self.good, "broken": self.broken, "hanging": self.hanging}
        self.sampling = Sampling(sources, self.failures.append, within=0.2, monotonic=lambda: self.now)

    async def good(self) -> Iterable[Metric]:
        self.read.append("good")
        return [gauges.family("items_stale", len(self.read))]

    async def broken(self) -> Iterable[Metric]:
        raise OSError("gone")

    async def hanging(self) -> Iterable[Metric]:
        self.read.append("hanging")
        await self.released.wait()
        return [gauges.family("items_superseded", 7)]

    def names(self) -> list[str]:
        return [family.name for family in self.sampling.collect()]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def rarely() -> Machine:
    machine = Machine()
    machine.sampling = Sampling(
        {"good": machine.good},
        machine.failures.append,
        {"good", "hanging"},
        within=0.2,
        rarely_after=0.02,
        monotonic=lambda: machine.now,
    )
    return machine


async def test_the_others_are_there_and_the_failures_are_counted(machine: Machine) -> None:
    await machine.sampling.refresh()

    assert machine.names() == ["knowledge_items_stale"]
    assert sorted(machine.failures) == ["broken", "hanging"]


async def test_a_fresh_sample_is_shown_again_and_an_old_one_is_read_anew(machine: Machine) -> None:
    for moment in (0.0, FRESH - 0.1, FRESH):
        machine.now = moment
        await machine.sampling.refresh()
    assert machine.read.count("good") == 2


async def test_a_source_that_hangs_is_left_alone_for_a_while_and_comes_back(machine: Machine) -> None:
    await machine.sampling.refresh()
    machine.now = FRESH
    await machine.sampling.refresh()
    assert machine.read.count("hanging") == 1, "one that takes too long is not asked at every scrape"

    machine.released.set()
    machine.now = PAUSE
    await machine.sampling.refresh()
    assert "knowledge_items_superseded" in machine.names()


async def test_what_failed_once_has_no_old_value(machine: Machine) -> None:
    machine.released.set()
    await machine.sampling.refresh()
    assert "knowledge_items_superseded" in machine.names()

    machine.released.clear()
    machine.now = FRESH
    await machine.sampling.refresh()
    assert "knowledge_items_superseded" not in machine.names()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 -- what is read behind a scrape tells nobody
            await asyncio.sleep(0.001)


async def test_a_rare_source_is_read_behind_the_scrape_that_finds_it_old(rarely: Machine) -> None:
    await rarely.sampling.refresh()
    assert rarely.names() == ["knowledge_items_stale"], "the first scrape waits for it"
    rarely.now = FRESH
    await rarely.sampling.refresh()
    rarely.now = RARELY
    await rarely.sampling.refresh()
    await rarely.sampling.refresh()
    assert rarely.read == ["good"], "no scrape waits for it again"
    assert rarely.names() == ["knowledge_items_stale"], "what was read before is shown"
    await until(lambda: rarely.read == ["good", "good"])
    await rarely.sampling.refresh()
    assert rarely.read == ["good", "good"]


async def test_a_rare_source_that_fails_or_hangs_behind_a_scrape_has_no_old_value(rarely: Machine) -> None:
    rarely.released.set()
    rarely.sampling.add("hanging", rarely.hanging)
    await rarely.sampling.refresh()
    assert len(rarely.names()) == 2
    rarely.released.clear()
    rarely.now = RARELY
    await rarely.sampling.refresh()
    assert rarely.failures == []
    await until(lambda: rarely.failures == ["hanging"])
    assert rarely.names() == ["knowledge_items_stale"]
    await rarely.sampling.refresh()
    assert rarely.read.count("hanging") == 2, "one that takes too long is left alone for a while"


async def test_what_is_read_behind_a_scrape_ends_with_the_rest(rarely: Machine) -> None:
    await rarely.sampling.refresh()
    rarely.now = RARELY
    await rarely.sampling.refresh()
    await rarely.sampling.close()
    assert rarely.read == ["good"]


async def test_scrapes_at_once_read_once(machine: Machine) -> None:
    await asyncio.gather(*(machine.sampling.refresh() for _ in range(5)))
    assert machine.read.count("good") == 1
