"""Files in, stored exchanges out: read, redacted at the door, saved batch by batch with the position reached."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from knowledge_system.domain.events import ExchangesIngested, FileSkipped, TranscriptWarning
from knowledge_system.domain.sessions import SkippedFile
from knowledge_system.domain.tracing import span
from knowledge_system.domain.truth import IngestBatch, SavedExchanges
from knowledge_system.extraction.admission import Admission

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.sensitivity import Gatekeeper
    from knowledge_system.domain.sessions import Exchange, ReadWarning, TranscriptReader
    from knowledge_system.domain.truth import IngestLog, Truth
    from knowledge_system.extraction.admission import Outcome


_LEFT_ALONE = "the process that reads ahead ended too early: the rest is read without it, which takes longer"
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
class Found:
    """What lies below some paths: files with their sizes in bytes, in the order they are read, and what was skipped."""

    sizes: Mapping[Path, int]
    skipped: tuple[SkippedFile, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())


async def find(reader: TranscriptReader, paths: Sequence[Path]) -> Found:
    """Look for the files that an ingest of `paths` has to read."""

    def look() -> Found:
        entries = list(reader.discover(paths))
        sizes = {entry: _size(entry) for entry in entries if not isinstance(entry, SkippedFile)}
        return Found(sizes, tuple(entry for entry in entries if isinstance(entry, SkippedFile)))

    return await asyncio.to_thread(look)


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """Position of a run: bytes of all files, bytes done, exchanges stored."""

    total_bytes: int
    done_bytes: int
    exchanges: int


class Ahead(Protocol):
    """Reads and redacts in a process of its own, ahead of what is being stored."""

    @property
    def least(self) -> int:
        """Bytes still to read from which starting that process pays."""
        ...

    def outcomes(
        self, files: Sequence[Path], options: IngestOptions, log: IngestLog
    ) -> AsyncGenerator[tuple[Path, Outcome | None]]:
        """Yield what `Admission.outcomes` does for each file in turn, then None for its end.

        `log` tells how far each file was read before. Ends early when the process dies; what was yielded until then
        holds.
        """
        ...


class Ingestion:
    """Reads transcripts into the truth. Never holds more than a few batches of one file."""

    def __init__(
        self, reader: TranscriptReader, gatekeeper: Gatekeeper, truth: Truth, emit: Emit, ahead: Ahead | None = None
    ) -> None:
        self._reader = reader
        self._truth = truth
        self._emit = emit
        self._ahead = ahead
        self._admission = Admission(reader, gatekeeper, truth.ingest.placeholders)

    async def run(
        self,
        paths: Sequence[Path] | Found,
        options: IngestOptions,
        progress: Callable[[IngestProgress], None] | None = None,
    ) -> IngestTally:
        """Ingest everything below `paths`; what cannot be read is listed in the tally and does not stop the rest."""
        with span("find-transcripts"):
            found = paths if isinstance(paths, Found) else await find(self._reader, paths)
        tally, sizes = IngestTally(), found.sizes
        for skipped in found.skipped:
            self._skip(skipped, tally)
        total, done, touched = found.total, 0, False
        async with aclosing(self._outcomes(sizes, options)) as outcomes:
            async for path, outcome in outcomes:
                touched = touched or outcome is not None
                if isinstance(outcome, SkippedFile):
                    self._skip(outcome, tally)
                elif outcome is not None:
                    await self._batch(outcome, options, tally)
                else:
                    tally.files += 1
                    tally.unchanged_files += not touched
                    touched, done = False, done + sizes[path]
                    if progress:
                        progress(IngestProgress(total, done, tally.new + tally.updated + tally.known))
        return tally

    async def _outcomes(
        self, sizes: Mapping[Path, int], options: IngestOptions
    ) -> AsyncGenerator[tuple[Path, Outcome | None]]:
        """Yield the outcomes of all files, ahead of this process from the first one that changed with much behind it.

        A dry run stores nothing, so what is ahead would know more than the truth: it stays in this process.
        """
        files, left = list(sizes), sum(sizes.values())
        ahead = None if options.dry_run else self._ahead
        finished = 0
        while finished < len(files):
            path = files[finished]
            known = await self._truth.ingest.source(str(path))
            if ahead and left >= ahead.least and (known is None or known.size != sizes[path]):
                async with aclosing(ahead.outcomes(files[finished:], options, self._truth.ingest)) as outcomes:
                    async for at, outcome in outcomes:
                        yield at, outcome
                        finished += outcome is None
                ahead = None
                if finished < len(files):
                    self._emit(TranscriptWarning(str(files[finished]), "file", _LEFT_ALONE))
                continue
            async with aclosing(self._admission.outcomes(path, known, options)) as admitted:
                async for outcome in admitted:
                    yield path, outcome
            yield path, None
            finished += 1
            left -= sizes[path]

    async def _batch(self, batch: IngestBatch, options: IngestOptions, tally: IngestTally) -> None:
        for warning in batch.warnings:
            tally.warnings.append(warning)
            self._emit(TranscriptWarning(warning.path, warning.place, warning.reason))
        with span("store-exchanges", exchanges=len(batch.exchanges)):
            saved = await self._save(batch, dry_run=options.dry_run)
        if not options.dry_run:
            await self._reconsider(batch.exchanges, frozenset(saved.new))
        _count(tally, batch.exchanges, saved)
        redactions = sum(exchange.redactions for exchange in batch.exchanges)
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
            if again := [one.id for one in before if one.id not in new]:
                await self._truth.exchanges.reconsider(again)

    def _skip(self, skipped: SkippedFile, tally: IngestTally) -> None:
        tally.failed += 1
        tally.skipped.append(skipped)
        self._emit(FileSkipped(skipped.path, skipped.reason))


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
