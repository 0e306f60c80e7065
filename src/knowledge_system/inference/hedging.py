"""Hedged requests: whoever answers first wins, the others are cancelled and what they may have cost is kept."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.inference import Reply
    from knowledge_system.inference.attempting import Ask, Means
    from knowledge_system.inference.candidates import Candidate
    from knowledge_system.inference.trail import Trail

_GRACE = 0.05
"""Seconds a loser gets to hand in its bill before the winner's answer goes out without it."""


async def hedged(
    targets: Sequence[Candidate], ask: Ask[Reply], trail: Trail, means: Means
) -> tuple[Candidate, Reply] | None:
    """Return the first answer and who gave it; None when every target failed (the trail has the reasons).

    The next target starts when the strategy's delay is over, or at once when one fails.
    """
    race = _Race(targets, ask, trail, means)
    try:
        return await race.run()
    finally:
        await race.stop()


class _Race:
    def __init__(self, targets: Sequence[Candidate], ask: Ask[Reply], trail: Trail, means: Means) -> None:
        self._queue = deque(targets)
        self._order = [target.key for target in targets]
        self._ask = ask
        self._trail = trail
        self._means = means
        self._running: dict[asyncio.Task[Reply], Candidate] = {}
        self._timer: asyncio.Task[None] | None = None

    async def run(self) -> tuple[Candidate, Reply] | None:
        self._start_next()
        while self._running:
            self._wind_up()
            waiting: set[asyncio.Task[Reply] | asyncio.Task[None]] = set(self._running)
            if self._timer is not None:
                waiting.add(self._timer)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            won = self._finished()
            if won is not None:
                return won
            if self._timer is not None and self._timer.done():
                self._timer = None
                self._start_next()
        return None

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for loser in self._running:
            loser.cancel()
            self._means.finishing.keep(loser)
        if self._running:
            await asyncio.wait(self._running, timeout=_GRACE)

    def _start_next(self) -> None:
        if self._queue:
            target = self._queue.popleft()
            self._running[asyncio.get_running_loop().create_task(self._attempt(target))] = target

    async def _attempt(self, target: Candidate) -> Reply:
        return await self._ask(target)

    def _wind_up(self) -> None:
        """Start the timer of the next hedge while another may run beside those under way."""
        if self._timer is None and self._queue and len(self._running) <= self._trail.style.hedges:
            self._timer = asyncio.get_running_loop().create_task(self._pause())

    async def _pause(self) -> None:
        await self._means.sleep(self._trail.style.hedge_after / 1000)

    def _finished(self) -> tuple[Candidate, Reply] | None:
        """Take what has ended: the first answer in the order of targets wins, a failure calls the next target."""
        ended = [task for task in self._running if task.done()]
        for task in sorted(ended, key=lambda task: self._order.index(self._running[task].key)):
            target = self._running.pop(task)
            error = task.exception()
            if error is None:
                return target, task.result()
            if not isinstance(error, KnowledgeError):
                raise error
            self._trail.failed(target, error)
            self._start_next()
        return None
