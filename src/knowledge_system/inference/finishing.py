"""Work that must be finished though its caller is gone: settlements, permits, audit rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


class Finishing:
    """Keeps background work alive until it is done; `drain` waits for all of it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run `work` to its end whatever becomes of the caller."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` and return its result; a cancelled caller leaves, the work goes on."""
        return await asyncio.shield(self.start(work))

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Wait for a task of another in `drain`, without having started it."""
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    @property
    def pending(self) -> int:
        """How many works are under way."""
        return len(self._tasks)

    async def drain(self) -> None:
        """Wait until everything that was started has ended."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: whoever waited has it, and nobody else wants a log line
