"""Files in, batches that may be stored out: read, filtered, redacted. Nothing is stored here."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from knowledge_system.domain.sessions import SkippedFile
from knowledge_system.domain.truth import IngestBatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path

    from knowledge_system.domain.sensitivity import Gatekeeper, PlaceholderMemory
    from knowledge_system.domain.sessions import Exchange, RawExchange, Session, SourceState, TranscriptReader
    from knowledge_system.extraction.ingestion import IngestOptions

    Recall = Callable[[str], Awaitable["Numbers"]]
    """Returns what is stored for a session, empty when nothing is."""

Numbers = dict[str, dict[str, int]]
"""The stored state of a session's placeholder memory."""
Outcome = IngestBatch | SkippedFile


class Admission:
    """Reads transcripts and lets them through the door. Never holds more than one batch of one file."""

    def __init__(self, reader: TranscriptReader, gatekeeper: Gatekeeper, recall: Recall) -> None:
        self._reader = reader
        self._gatekeeper = gatekeeper
        self._recall = recall

    async def outcomes(self, path: Path, known: SourceState | None, options: IngestOptions) -> AsyncGenerator[Outcome]:
        """Yield the batches of a file from where `known` left off, in order, or why there are none.

        Each rests on those before it having been stored; an unchanged file yields nothing.
        """
        door = _Door(self._gatekeeper, self._recall)
        async for batch in self._reader.read(path, known):
            if isinstance(batch, SkippedFile):
                yield batch
                continue
            wanted = [_overridden(raw, options) for raw in batch.exchanges if _recent(raw, options)]
            admitted = await door.admit(wanted)
            complete = len(wanted) == len(batch.exchanges)
            yield IngestBatch(
                sessions=tuple(door.sessions(wanted)),
                exchanges=tuple(admitted),
                state=batch.state if complete else _unread(batch.state),
                warnings=batch.warnings,
                placeholders=door.placeholders(),
            )


class _Door:
    """The gatekeeper with the placeholder memories of the sessions of one file."""

    def __init__(self, gatekeeper: Gatekeeper, recall: Recall) -> None:
        self._gatekeeper = gatekeeper
        self._recall = recall
        self._memories: dict[str, PlaceholderMemory] = {}

    async def admit(self, raws: Sequence[RawExchange]) -> list[Exchange]:
        """Redact a batch in a thread: patterns cost processor time, and the reader waits meanwhile."""
        for raw in raws:
            if raw.session.id not in self._memories:
                self._memories[raw.session.id] = self._gatekeeper.memory(await self._recall(raw.session.id))
        return await asyncio.to_thread(
            lambda: [self._gatekeeper.admit(raw, self._memories[raw.session.id]) for raw in raws]
        )

    def sessions(self, raws: Sequence[RawExchange]) -> list[Session]:
        """Return the sessions of a batch, redacted, each once in its latest form."""
        latest = {raw.session.id: raw.session for raw in raws}
        return [self._gatekeeper.admit_session(one, self._memories[one.id]) for one in latest.values()]

    def placeholders(self) -> dict[str, Numbers]:
        """Return the state of every memory, to be stored with the batch."""
        return {session: memory.state() for session, memory in self._memories.items()}


def _overridden(raw: RawExchange, options: IngestOptions) -> RawExchange:
    if options.project is None and options.agent is None:
        return raw
    session = replace(
        raw.session, project=options.project or raw.session.project, agent=options.agent or raw.session.agent
    )
    return replace(raw, session=session)


def _recent(raw: RawExchange, options: IngestOptions) -> bool:
    return options.since is None or raw.timestamp is None or raw.timestamp >= options.since


def _unread(state: SourceState) -> SourceState:
    """Return `state` such that the next run reads the file from its start: this one left exchanges out."""
    return replace(state, size=0, modified_ns=0, head="", resume={})
