"""The index follows an ingest while that is still reading, so that little is left to do when everything is stored."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from knowledge_system.application.read_ahead import ReadAhead
from knowledge_system.extraction.ingestion import Ingestion, find

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from pathlib import Path

    from knowledge_system.application.compose import Parts
    from knowledge_system.application.system import Progress
    from knowledge_system.extraction.ingestion import IngestOptions, IngestProgress, IngestTally

EVERY = 192
"""Exchanges stored between two turns of indexing their words: each turn ends with a flush of the index."""


async def read_in(parts: Parts, paths: Sequence[Path], options: IngestOptions, progress: Progress) -> IngestTally:
    """Read, redact and store everything new below `paths`; most of it can be found by its words afterwards."""
    reader, gatekeeper = parts.reader(), parts.gatekeeper()
    found = await find(reader, paths)
    ahead = ReadAhead(reader, gatekeeper)
    try:
        if not options.dry_run:
            await ahead.prepare(found, options, unread=parts.is_new())
        ingestion = Ingestion(reader, gatekeeper, await parts.truth(), parts.emit, ahead)
        following = Following(parts, active=not options.dry_run)

        def step(at: IngestProgress) -> None:
            progress("reading", at.done_bytes, at.total_bytes)
            following.stored(at.exchanges)

        try:
            return await ingestion.run(found, options, step)
        finally:
            await following.settled()
    finally:
        await ahead.close()


class Following:
    """Opens the index at once, then indexes words whenever enough was stored. Only ever one turn at a time.

    A turn that fails is not told here: whoever brings the index up to the truth afterwards meets the same failure.
    """

    def __init__(self, parts: Parts, *, active: bool) -> None:
        self._parts = parts
        self._active = active
        self._indexed = 0
        self._turn: asyncio.Task[object] | None = None
        self._begin(parts.indexer())

    def stored(self, exchanges: int) -> None:
        """Take note that so many exchanges have been stored since the beginning."""
        if exchanges - self._indexed >= EVERY and (self._turn is None or self._turn.done()):
            self._indexed = exchanges
            self._begin(self._index())

    async def settled(self) -> None:
        """Wait for the turn under way."""
        if self._turn is not None:
            await asyncio.wait([self._turn])

    async def _index(self) -> None:
        await (await self._parts.indexer()).index_words()

    def _begin(self, turn: Coroutine[None, None, object]) -> None:
        if not self._active:
            turn.close()
            return
        self._turn = asyncio.create_task(turn)
        self._turn.add_done_callback(_acknowledge)


def _acknowledge(turn: asyncio.Task[object]) -> None:
    if not turn.cancelled():
        turn.exception()
