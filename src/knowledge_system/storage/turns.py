"""Who runs when: scripts at once where they need not wait, else in a thread, all that wait together."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from knowledge_system.storage.failures import translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from knowledge_system.storage.scripts import Rows, Runner, Script

Result = TypeVar("Result")

_THREADS = 3  # scripts, a decision, and tidying up


class Turns:
    """Runs scripts and decisions to their end, although their callers are cancelled."""

    def __init__(self, runner: Runner, place: str) -> None:
        self.running: set[asyncio.Future[Any]] = set()
        self._runner = runner
        self._place = place
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="engine")
        self._waiting: list[tuple[Script, asyncio.Future[Rows]]] = []
        self._under_way = self._tidying = False

    async def decide(self, work: Callable[[], Result]) -> Result:
        """Run `work` in a thread."""
        return await asyncio.shield(self._in_thread(work))

    async def script(self, script: Script) -> Rows:
        """Run a script; those that come while others run, or wait for their turn, share the next one."""
        if not self._under_way:
            with translated(self._place):
                rows = self._runner.at_once(script)
            if rows is not None:
                self._keep_tidy()
                return rows
        told: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self._waiting.append((script, told))
        if not self._under_way:
            self._run_waiting()
        return await told

    async def close(self) -> None:
        """Wait for what is running, then close the connections."""
        while self.running:
            await asyncio.wait(list(self.running))
        self._threads.shutdown()
        self._runner.close()

    def _run_waiting(self) -> None:
        """Run what waits, in a thread; what comes meanwhile is run after it."""
        waiting, self._waiting, self._under_way = self._waiting, [], True

        def run() -> list[Rows]:
            with translated(self._place):
                return self._runner.run([script for script, _ in waiting])

        def landed(running: asyncio.Future[list[Rows]]) -> None:
            _tell([told for _, told in waiting], running)
            self._under_way = False
            self._keep_tidy()
            if self._waiting:
                self._run_waiting()

        self._in_thread(run).add_done_callback(landed)

    def _keep_tidy(self) -> None:
        if self._runner.untidy and not self._tidying:
            self._tidying = True
            self._in_thread(self._tidy)

    def _tidy(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # the next one does it
            self._runner.tidy()
        self._tidying = False

    def _in_thread(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self.running.add(running)
        running.add_done_callback(self._ended)
        return running

    def _ended(self, running: asyncio.Future[Any]) -> None:
        self.running.discard(running)
        if not running.cancelled():
            running.exception()  # taken note of, also when nobody waits any more


def _tell(waiting: list[asyncio.Future[Rows]], running: asyncio.Future[list[Rows]]) -> None:
    """Hand out what a thread brought back to those who still wait for it."""
    error = running.exception()
    for number, told in enumerate(waiting):
        if told.done():
            continue
        if error is None:
            told.set_result(running.result()[number])
        else:
            told.set_exception(error)
