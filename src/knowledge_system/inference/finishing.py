"""Work that must be finished though its caller is gone: settlements, permits."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, TypeVar

from knowledge_system.domain.errors import KnowledgeError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

_T = TypeVar("_T")


class Finishing:
    """Keeps background work alive until it is done; `drain` waits for all of it.

    Work begins at once, before the event loop has its next turn: most of what the ledger and the breakers are asked is
    answered without waiting, and then it needs no task. Up to its first wait it must not use `asyncio.timeout`, which
    would take hold of the caller's task.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Future[_T]:
        """Run `work` to its end whatever becomes of the caller."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        try:
            wait = work.send(None)
        except StopIteration as ended:
            done.set_result(ended.value)
        except KnowledgeError as error:
            done.set_exception(error)
            done.exception()  # and nobody's to be logged
        else:
            task = loop.create_task(_resumed(work, wait))
            self.keep(task)
            return task
        return done

    async def finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` and return its result; a cancelled caller leaves, the work goes on."""
        running = self.start(work)
        return running.result() if running.done() else await asyncio.shield(running)

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

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: whoever waited has it, and nobody else wants a log line


async def _resumed(work: Coroutine[Any, Any, _T], wait: Any) -> _T:
    return await _rest(work, wait)


@types.coroutine
def _rest(work: Coroutine[Any, Any, _T], wait: Any) -> Generator[Any, Any, _T]:
    """Go on with a coroutine that waits for `wait`."""
    try:
        while True:
            try:
                told = yield wait
            except BaseException as error:  # noqa: BLE001 -- whatever a task is told, a cancellation above all
                wait = work.throw(error)
            else:
                wait = work.send(told)
    except StopIteration as ended:
        result: _T = ended.value
        return result
