"""What a resident process does from time to time: when, how often, and whatever goes wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_system import settings as loaded
from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import engine_state
from knowledge_system.application.upkeep import LONGEST_NAP, Job, Upkeep, standard_jobs
from knowledge_system.domain.errors import Busy
from knowledge_system.domain.events import Event, UpkeepRan
from knowledge_system.domain.money import Hold

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)


class World:
    """A clock that moves when somebody sleeps, to the end of the nap that ends first; `jumps` are added to it."""

    def __init__(self) -> None:
        self.moment = BEGIN
        self.true = BEGIN
        self.events: list[Event] = []
        self.naps: list[float] = []
        self.jumps: dict[int, float] = {}
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.moment

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.true + timedelta(seconds=seconds), gate))
        await gate

    async def pass_until(self, seconds: float) -> None:
        """Let everybody do what is due up to `seconds` after the beginning."""
        end = BEGIN + timedelta(seconds=seconds)
        while True:
            await settled()
            self._sleepers = [one for one in self._sleepers if not one[1].done()]
            first = min(self._sleepers, key=lambda one: one[0], default=None)
            if first is None or first[0] > end:
                self._move(end)
                return
            self._move(first[0])
            first[1].set_result(None)

    def _move(self, to: datetime) -> None:
        self.moment += to - self.true
        self.true = to
        for at in [at for at in self.jumps if BEGIN + timedelta(seconds=at) <= to]:
            self.moment += timedelta(seconds=self.jumps.pop(at))

    def ran(self, job: str) -> list[UpkeepRan]:
        return [event for event in self.events if isinstance(event, UpkeepRan) and event.job == job]


async def settled() -> None:
    """Let every task that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


def upkeep(world: World, *jobs: Job) -> Upkeep:
    return Upkeep(jobs, world, world.emit, world.sleep)


def every(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def ticking(world: World, times: list[float]) -> Callable[[], Any]:
    async def work() -> None:
        times.append((world.true - BEGIN).total_seconds())

    return work


async def test_jobs_run_at_their_intervals_the_first_time_after_one() -> None:
    world, often, seldom, soon = World(), [], [], []
    running = upkeep(
        world,
        Job("often", every(30), ticking(world, often)),
        Job("seldom", every(100), ticking(world, seldom)),
        Job("soon", every(200), ticking(world, soon), first=every(5)),
    )
    running.start()
    await world.pass_until(210)
    await running.stop()
    assert often == [30, 60, 90, 120, 150, 180, 210]
    assert (seldom, soon) == ([100, 200], [5, 205])
    assert [event.outcome for event in world.ran("soon")] == ["done", "done"]
    assert max(world.naps) <= LONGEST_NAP.total_seconds()


async def test_what_a_crashed_caller_left_reserved_is_charged_while_the_service_runs(tmp_path: Path) -> None:
    world, hold = World(), Hold(1000, "groq", "m", "extract", "api", every(45))
    async with Parts(loaded.load(tmp_path / "home", environ={}), "test", emit=world.emit, clock=world) as parts:
        ledger = (await engine_state(parts)).ledger
        await ledger.reserve(hold)
        running = Upkeep(await standard_jobs(parts), world, world.emit, world.sleep)
        running.start()
        for count in (1, 2):
            await world.pass_until(30 * count)
            async with asyncio.timeout(60):
                while len(world.ran("sweep-reservations")) < count:  # noqa: ASYNC110 -- the database has its threads
                    await asyncio.sleep(0.01)
            status = await ledger.status()
            assert (status.reserved_nano, status.settled_nano) == ((1000, 0) if count == 1 else (0, 1000))
        await running.stop()


async def test_a_failing_job_is_told_and_runs_again_and_disturbs_no_other() -> None:
    world, times = World(), []

    async def busy() -> None:
        raise Busy("somebody else writes", hint="wait")

    async def broken() -> None:
        raise ZeroDivisionError("a mistake")

    running = upkeep(
        world,
        Job("busy", every(10), busy),
        Job("broken", every(10), broken),
        Job("fine", every(10), ticking(world, times)),
    )
    running.start()
    await world.pass_until(35)
    await running.stop()
    assert times == [10, 20, 30]
    assert [(event.outcome, event.reason) for event in world.ran("busy")] == [("busy", "somebody else writes")] * 3
    assert [(event.outcome, event.reason) for event in world.ran("broken")] == [
        ("unexpected", "ZeroDivisionError: a mistake")
    ] * 3


async def test_a_slow_job_delays_no_other_never_overlaps_itself_and_is_made_up_for_once() -> None:
    world, times, begun = World(), [], []

    async def slow() -> None:
        begun.append((world.true - BEGIN).total_seconds())
        await world.sleep(25)

    running = upkeep(world, Job("slow", every(10), slow), Job("fine", every(10), ticking(world, times)))
    running.start()
    await world.pass_until(61)
    await running.stop()
    assert times == [10, 20, 30, 40, 50, 60]
    assert begun == [10, 35, 60]
    assert [event.seconds for event in world.ran("slow")] == [25, 25]


async def test_a_machine_that_slept_makes_up_with_one_run() -> None:
    world, times = World(), []
    world.jumps = {35: 3600}
    running = upkeep(world, Job("job", every(10), ticking(world, times)))
    running.start()
    await world.pass_until(61)
    await running.stop()
    assert times == [10, 20, 30, 40, 50, 60]


async def test_a_clock_set_back_makes_nobody_wait_longer_than_an_interval_and_a_nap() -> None:
    world, times = World(), []
    world.jumps = {35: -86_400}
    running = upkeep(world, Job("job", every(10), ticking(world, times)))
    running.start()
    await world.pass_until(200)
    await running.stop()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[:3] == [10, 20, 30]
    assert max(gaps) <= 10 + LONGEST_NAP.total_seconds()


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(0, 500), st.floats(-100_000, 100_000), max_size=5), st.integers(1, 120))
async def test_whatever_the_clock_does_a_job_neither_stops_nor_runs_away(jumps: dict[int, float], step: int) -> None:
    world, times = World(), []
    world.jumps = dict(jumps)
    running = upkeep(world, Job("job", every(step), ticking(world, times)))
    running.start()
    await world.pass_until(600)
    await running.stop()
    assert len(times) <= 600 / step + len(jumps) + 1
    gaps = [later - earlier for earlier, later in zip([0.0, *times], [*times, 600.0], strict=True)]
    assert max(gaps) <= step + len(jumps) * (step + LONGEST_NAP.total_seconds()) + 1e-3


async def test_stopping_cancels_what_runs_and_waits_for_its_end() -> None:
    world, ends = World(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ends.append("cleaned up")

    running = upkeep(world, Job("job", every(10), work))
    await running.stop()
    running.start()
    running.start()
    await world.pass_until(15)
    await running.stop()
    await running.stop()
    assert ends == ["cleaned up"]
    assert world.events == []


async def test_running_is_cancelled_like_any_task() -> None:
    world = World()
    task = asyncio.create_task(upkeep(world, Job("job", every(10), ticking(world, []))).run())
    await world.pass_until(15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(world.ran("job")) == 1
