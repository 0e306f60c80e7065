"""Files in, stored exchanges out: read, redacted at the door, saved batch by batch with the position reached."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from knowledge_system.domain.events import ExchangesIngested, FileSkipped, TranscriptWarning
from knowledge_system.domain.sessions import SkippedFile, SourceState
from knowledge_system.domain.truth import IngestBatch, SavedExchanges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.sensitivity import Gatekeeper, PlaceholderMemory
    from knowledge_system.domain.sessions import (
        Exchange,
        RawExchange,
        ReadWarning,
        Session,
        TranscriptBatch,
        TranscriptReader,
    )
    from knowledge_system.domain.truth import Truth


HINDSIGHT = 2
"""Exchanges before a new one that are judged again: as many as the judge looks ahead."""


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """`project` and `agent` override what the files say; exchanges before `since` are left out."""

    project: str | None = None
    agent: str | None = None
    since: datetime | None = None
    dry_run: bool = False


@dataclass(slots=True)
class IngestTally:
    """What an ingest run did so far."""

    found: set[str] = field(default_factory=set)
    ingested: set[str] = field(default_factory=set)
    failed: int = 0
    unchanged_files: int = 0
    files: int = 0
    new: int = 0
    known: int = 0
    updated: int = 0
    redactions: int = 0
    levels: Counter[str] = field(default_factory=Counter)
    skipped: list[SkippedFile] = field(default_factory=list)
    warnings: list[ReadWarning] = field(default_factory=list)

    @property
    def unchanged(self) -> int:
        """Sessions that brought nothing new, plus files that were not even read because they had not changed."""
        return len(self.found - self.ingested) + self.unchanged_files


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """Position of a run: bytes of all files, bytes done, exchanges stored."""

    total_bytes: int
    done_bytes: int
    exchanges: int


class Ingestion:
    """Reads transcripts into the truth. Never holds more than one batch of one file."""

    def __init__(self, reader: TranscriptReader, gatekeeper: Gatekeeper, truth: Truth, emit: Emit) -> None:
        self._reader = reader
        self._gatekeeper = gatekeeper
        self._truth = truth
        self._emit = emit

    async def run(
        self,
        paths: Sequence[Path],
        options: IngestOptions,
        progress: Callable[[IngestProgress], None] | None = None,
    ) -> IngestTally:
        """Ingest everything below `paths`; what cannot be read is listed in the tally and does not stop the rest."""
        tally = IngestTally()
        files = [entry async for entry in self._discover(paths, tally)]
        total = sum(size for _, size in files)
        done = 0
        for path, size in files:
            await self._file(path, options, tally)
            done += size
            if progress:
                progress(IngestProgress(total, done, tally.new + tally.updated + tally.known))
        return tally

    async def _discover(self, paths: Sequence[Path], tally: IngestTally) -> AsyncIterator[tuple[Path, int]]:
        for entry in await asyncio.to_thread(lambda: list(self._reader.discover(paths))):
            if isinstance(entry, SkippedFile):
                self._skip(entry, tally)
            else:
                yield entry, _size(entry)

    async def _file(self, path: Path, options: IngestOptions, tally: IngestTally) -> None:
        tally.files += 1
        known = await self._truth.ingest.source(str(path))
        door = _Door(self._gatekeeper, self._truth)
        touched = False
        async for batch in self._reader.read(path, known):
            touched = True
            if isinstance(batch, SkippedFile):
                self._skip(batch, tally)
            else:
                await self._batch(batch, door, options, tally)
        tally.unchanged_files += not touched

    async def _batch(self, batch: TranscriptBatch, door: _Door, options: IngestOptions, tally: IngestTally) -> None:
        for warning in batch.warnings:
            tally.warnings.append(warning)
            self._emit(TranscriptWarning(warning.path, warning.place, warning.reason))
        wanted = [_overridden(raw, options) for raw in batch.exchanges if _recent(raw, options.since)]
        admitted = await door.admit(wanted)
        complete = len(wanted) == len(batch.exchanges)
        sessions = tuple(door.sessions(wanted))
        saved = await self._save(
            IngestBatch(
                sessions=sessions,
                exchanges=tuple(admitted),
                state=batch.state if complete else _unread(batch.state),
                warnings=batch.warnings,
                placeholders=door.placeholders(),
            ),
            dry_run=options.dry_run,
        )
        if not options.dry_run:
            await self._reconsider(admitted, frozenset(saved.new))
        _count(tally, admitted, saved)
        redactions = sum(exchange.redactions for exchange in admitted)
        self._emit(
            ExchangesIngested(batch.state.path, len(saved.new), len(saved.known), len(saved.updated), redactions)
        )

    async def _save(self, batch: IngestBatch, *, dry_run: bool) -> SavedExchanges:
        if not dry_run:
            return await self._truth.ingest.save(batch)
        ids = [exchange.id for exchange in batch.exchanges]
        stored = await self._truth.exchanges.get(ids)
        return SavedExchanges(
            new=tuple(one for one in ids if one not in stored), known=tuple(one for one in ids if one in stored)
        )

    async def _reconsider(self, admitted: Sequence[Exchange], new: frozenset[str]) -> None:
        """Judge once more what came just before the new exchanges of a session: they accept it, or correct it."""
        first: dict[str, str] = {}
        for exchange in admitted:
            if exchange.id in new:
                first.setdefault(exchange.session_id, exchange.id)
        for earliest in first.values():
            before, _ = await self._truth.exchanges.around(earliest, HINDSIGHT, 0)
            await self._truth.exchanges.reconsider([one.id for one in before if one.id not in new])

    def _skip(self, skipped: SkippedFile, tally: IngestTally) -> None:
        tally.failed += 1
        tally.skipped.append(skipped)
        self._emit(FileSkipped(skipped.path, skipped.reason))


class _Door:
    """The gatekeeper with the placeholder memories of the sessions of one file."""

    def __init__(self, gatekeeper: Gatekeeper, truth: Truth) -> None:
        self._gatekeeper = gatekeeper
        self._truth = truth
        self._memories: dict[str, PlaceholderMemory] = {}
        self._sessions: dict[str, Session] = {}

    async def admit(self, raws: Sequence[RawExchange]) -> list[Exchange]:
        """Redact a batch in a thread: patterns cost processor time, and the reader waits meanwhile."""
        for raw in raws:
            if raw.session.id not in self._memories:
                state = await self._truth.ingest.placeholders(raw.session.id)
                self._memories[raw.session.id] = self._gatekeeper.memory(state)
        return await asyncio.to_thread(
            lambda: [self._gatekeeper.admit(raw, self._memories[raw.session.id]) for raw in raws]
        )

    def sessions(self, raws: Sequence[RawExchange]) -> list[Session]:
        """Return the sessions of a batch, redacted, each once in its latest form."""
        latest = {raw.session.id: raw.session for raw in raws}
        return [self._gatekeeper.admit_session(one, self._memories[one.id]) for one in latest.values()]

    def placeholders(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return the state of every memory, to be stored with the batch."""
        return {session: memory.state() for session, memory in self._memories.items()}


def _overridden(raw: RawExchange, options: IngestOptions) -> RawExchange:
    if options.project is None and options.agent is None:
        return raw
    session = replace(
        raw.session, project=options.project or raw.session.project, agent=options.agent or raw.session.agent
    )
    return replace(raw, session=session)


def _recent(raw: RawExchange, since: datetime | None) -> bool:
    return since is None or raw.timestamp is None or raw.timestamp >= since


def _unread(state: SourceState) -> SourceState:
    """Return `state` such that the next run reads the file from its start: this one left exchanges out."""
    return replace(state, size=0, modified_ns=0, head="", resume={})


def _count(tally: IngestTally, admitted: Sequence[Exchange], saved: SavedExchanges) -> None:
    by_id = {exchange.id: exchange for exchange in admitted}
    fresh = [by_id[one] for one in dict.fromkeys((*saved.new, *saved.updated))]
    tally.new += len(saved.new)
    tally.known += len(saved.known)
    tally.updated += len(saved.updated)
    tally.found.update(exchange.session_id for exchange in admitted)
    tally.ingested.update(exchange.session_id for exchange in fresh)
    tally.levels.update(exchange.sensitivity.value for exchange in fresh)
    tally.redactions += sum(exchange.redactions for exchange in fresh)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
