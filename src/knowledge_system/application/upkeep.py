"""What a resident process does from time to time, whoever asks it for anything meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import UpkeepRan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.events import Emit

LONGEST_NAP = timedelta(seconds=60)
"""The clock is looked at again after this: it may have been set, or the machine may have slept."""

UNUSED_VECTORS_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Job:
    """`work` is done every `every`, the first time after `first` (default: after one interval)."""

    name: str
    every: timedelta
    work: Callable[[], Awaitable[object]]
    first: timedelta | None = None


class Upkeep:
    """Runs jobs at their intervals, each for itself: a slow or failing one delays no other, none overlaps itself.

    The interval counts from the beginning of a run. Runs that were missed (a slow job, a machine that slept) are made
    up by one; a clock set back delays a run by its interval and a nap at most. A failure is announced, and the job is
    due again after its interval.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        clock: Clock,
        emit: Emit,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._emit = emit
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run until cancelled; then every job is cancelled, and has ended when this returns."""
        async with asyncio.TaskGroup() as group:
            for job in self._jobs:
                group.create_task(self._repeat(job), name=f"upkeep {job.name}")

    def start(self) -> None:
        """Run beside everything else, until `stop`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self.run(), name="upkeep")

    async def stop(self) -> None:
        """Cancel what runs and wait for its end. Harmless when nothing runs."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _repeat(self, job: Job) -> None:
        wait = job.every if job.first is None else job.first
        due = self._clock.now() + wait
        while True:
            await self._until(due, max(wait, job.every))
            began = self._clock.now()
            await self._once(job, began)
            now = self._clock.now()
            due = max(min(began, now) + job.every, now)

    async def _until(self, due: datetime, longest: timedelta) -> None:
        now = self._clock.now()
        while now < due:
            await self._sleep(min(due - now, LONGEST_NAP).total_seconds())
            before, now = now, self._clock.now()
            if now < before:  # the clock was set back
                due = min(due, now + longest)

    async def _once(self, job: Job, began: datetime) -> None:
        outcome, reason = "done", ""
        try:
            await job.work()
        except KnowledgeError as error:
            outcome, reason = error.code, error.message
        except Exception as error:  # noqa: BLE001 -- the edge of the worker: one job's failure is nobody else's
            outcome, reason = KnowledgeError.code, f"{type(error).__name__}: {error}"
        seconds = max(0.0, (self._clock.now() - began).total_seconds())
        self._emit(UpkeepRan(job.name, outcome, seconds, reason))


async def standard_jobs(parts: Parts) -> list[Job]:
    """Return what every resident process does: charge what crashed callers left reserved, share the cache's counts."""
    from knowledge_system.application.engine import engine_state

    ledger = (await engine_state(parts)).ledger
    caches = await parts.caches()
    asker = await parts.asker()
    return [
        Job("sweep-reservations", timedelta(seconds=30), ledger.sweep),
        Job("share-cache-counts", timedelta(seconds=30), caches.flush),
        Job("read-kept-questions", timedelta(minutes=10), asker.refresh),
        Job("prune-vectors", timedelta(days=1), lambda: prune_vectors(parts), timedelta(minutes=30)),
    ]


async def prune_vectors(parts: Parts) -> int:
    """Delete vectors that nothing has used for a month: of forgotten texts, old questions, spaces no longer in use.

    The larger space stays as long as it is configured: its vectors were paid for.
    """
    from knowledge_system.application.larger import larger_space

    spaces = [parts.model().space, larger_space(parts.settings.tree)]
    return await (await parts.truth()).vectors.prune(spaces, parts.clock.now() - UNUSED_VECTORS_KEPT)


def warming_job(parts: Parts) -> Job:
    """Return the daily preparation of what is asked most (R403), for a process that answers searches."""
    from knowledge_system.application.cache import cache_warm

    return Job("warm-cache", timedelta(days=1), lambda: cache_warm(parts, None, 100, 7), timedelta(minutes=1))


async def start_upkeep(parts: Parts, more: Sequence[Job] = ()) -> Upkeep:
    """Start the standard jobs and `more`; they are stopped when `parts` are closed."""
    upkeep = Upkeep([*await standard_jobs(parts), *more], parts.clock, parts.emit)
    parts.before_close(upkeep.stop)
    upkeep.start()
    return upkeep
