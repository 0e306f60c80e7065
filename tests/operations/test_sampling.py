"""A source that fails or hangs loses its own series, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from prometheus_client.core import Metric

from knowledge_system.operations import gauges
from knowledge_system.operations.sampling import FRESH, PAUSE, Sampling


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


async def test_scrapes_at_once_read_once(machine: Machine) -> None:
    await asyncio.gather(*(machine.sampling.refresh() for _ in range(5)))
    assert machine.read.count("good") == 1
