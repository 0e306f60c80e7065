"""The search log, written beside the searches: an answer does not wait for a note about itself."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import KnowledgeError

if TYPE_CHECKING:
    from knowledge_system.domain.search import SearchLogEntry
    from knowledge_system.domain.truth import Ledger

LINGER_SECONDS: Final = 1.0
"""How long an entry waits for others to be written with: what the end of the process by force can lose."""
MOST_WAITING: Final = 1_000
"""Entries that wait, at most; a search that finds more waits until they are written."""


class SearchLog:
    """Takes entries at once and writes them in groups, in the order in which they came.

    Nothing is lost between `add` and an orderly `close`. What could not be written is tried again with the next group;
    `settled` and `close` tell.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[SearchLogEntry] = []
        self._writing = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def add(self, entry: SearchLogEntry) -> None:
        """Take note of a search. Raises KnowledgeError when too many wait and cannot be written."""
        self._waiting.append(entry)
        if len(self._waiting) >= MOST_WAITING:
            await self.settled()
        elif self._writer is None or self._writer.done():
            self._hurry.clear()
            self._writer = asyncio.create_task(self._write_later())

    async def settled(self) -> None:
        """Return once everything added so far is in the database. Raises KnowledgeError when it cannot be written."""
        async with self._writing:
            taken, self._waiting = self._waiting, []
            try:
                if taken:
                    await self._ledger.log_search(*taken)
            except KnowledgeError:
                self._waiting[:0] = taken
                raise

    async def close(self) -> None:
        """Write what waits and end. Raises KnowledgeError when it cannot be written."""
        self._hurry.set()
        if self._writer is not None:
            await self._writer
        await self.settled()

    async def _write_later(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._hurry.wait()
        with contextlib.suppress(KnowledgeError):  # it waits on, and whoever asks is told
            await self.settled()
