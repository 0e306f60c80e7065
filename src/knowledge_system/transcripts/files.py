"""The transcript reader over files: recognise, resume, read in bounded batches, never raise for bad content."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from knowledge_system.domain.sessions import SkippedFile, SourceState, TranscriptBatch
from knowledge_system.transcripts import discovery
from knowledge_system.transcripts.assembly import Assembler
from knowledge_system.transcripts.detection import HEAD, Format, detect
from knowledge_system.transcripts.knowledge_transcript import NotReadable
from knowledge_system.transcripts.lines import MAX_LINE, read_lines
from knowledge_system.transcripts.projects import Projects
from knowledge_system.transcripts.read_log import ReadLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator, Sequence

    from knowledge_system.domain.sessions import JsonObject

BATCH_EXCHANGES = 64
BATCH_CHARACTERS = 4 * 1024 * 1024
"""A batch ends with the exchange that fills it to one of these; texts are capped, so both bound memory."""

_HEAD_DIGEST = 4096
_GUARD = 1024
_TINY = 4096
_LINES_A_STEP = 256
_NEVER = -1
"""Modification time in the state of a file that is not read to its end: no file has it, so reading goes on."""
_DRIFT_SHARE = 0.5
_DRIFT_LEAST = 3
_DRIFTED = "the format may have changed; update, or report it with the agent's version"

Outcome = TranscriptBatch | SkippedFile


class FileTranscriptReader:
    """Reads the transcripts of all known formats. Implements `TranscriptReader`; safe to use from several tasks."""

    def __init__(self, *, batch_exchanges: int = BATCH_EXCHANGES, batch_characters: int = BATCH_CHARACTERS) -> None:
        self._limits = (batch_exchanges, batch_characters)

    def discover(self, paths: Sequence[Path]) -> Iterator[Path | SkippedFile]:
        """Yield the files below `paths` that may be transcripts, in a stable order, and what could not be looked at."""
        return discovery.discover(paths)

    async def read(self, path: Path, known: SourceState | None = None) -> AsyncIterator[Outcome]:
        """Yield the batches of a file as `TranscriptReader.read` promises; each is read in a thread when asked for."""
        stopped = threading.Event()
        steps = _Steps(_batches(Path(path), known, self._limits, stopped), stopped)
        try:
            while (outcome := await asyncio.to_thread(steps.next)) is not None:
                yield outcome
        finally:
            steps.stop()
            await asyncio.shield(asyncio.to_thread(steps.close))


class _Steps:
    """Runs a blocking iterator step by step in threads, and ends it also while a step is under way."""

    def __init__(self, outcomes: Generator[Outcome], stopped: threading.Event) -> None:
        self._outcomes = outcomes
        self._lock = threading.Lock()
        self._stopped = stopped

    def next(self) -> Outcome | None:
        """Return the next outcome, None at the end."""
        with self._lock:
            return None if self._stopped.is_set() else next(self._outcomes, None)

    def stop(self) -> None:
        """Let the step under way end early, and no further one begin."""
        self._stopped.set()

    def close(self) -> None:
        """Wait for the step under way and close the iterator, and with it the file."""
        with self._lock:
            self._outcomes.close()


def _batches(
    path: Path, known: SourceState | None, limits: tuple[int, int], stopped: threading.Event
) -> Generator[Outcome]:
    """Yield the outcomes of one file; ends early when `stopped` is set."""
    if problem := discovery.unusable_name(path):
        yield SkippedFile(ascii(str(path)), problem)
        return
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            yield SkippedFile(str(path), "is no regular file: name a file or a folder")
            return
        with path.open("rb") as stream:
            yield from _Reading(path, stream, known, limits).outcomes(stopped)
    except FileNotFoundError:
        yield SkippedFile(str(path), "does not exist: check the path")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        yield SkippedFile(str(path), f"cannot be read ({reason}): check its permissions")


class _Reading:
    """One reading of one file."""

    def __init__(self, path: Path, stream: BinaryIO, known: SourceState | None, limits: tuple[int, int]) -> None:
        self._path = path
        self._stream = stream
        self._limits = limits
        self._status = os.fstat(stream.fileno())
        self._size = self._status.st_size
        self._complete = True
        self._log = ReadLog(str(path))
        head = stream.read(HEAD)
        self._head = head[:_HEAD_DIGEST]
        self._known = known if known and known.head == self._head_digest(known.size) else None
        self._found = detect(head, self._size)

    def outcomes(self, stopped: threading.Event) -> Iterator[Outcome]:
        """Yield the batches, or the one reason why there are none."""
        known = self._known
        if known and (known.size, known.modified_ns) == (self._size, self._status.st_mtime_ns):
            return
        if isinstance(self._found, str):
            yield SkippedFile(str(self._path), self._found)
            return
        resume = self._resume(self._found)
        to = Assembler(self._path, self._found.name, Projects(), resume)
        self._state = self._state_of(self._found, to, whole=False)
        yield from self._read(self._found, to, resume, stopped)

    def _head_digest(self, size: int) -> str:
        """Return a digest of the first bytes that a file of `size` bytes had."""
        return _digest(self._head[:size])

    def _resume(self, found: Format) -> JsonObject:
        """Return the state to go on from; an empty one when the file did not just grow."""
        known = self._known
        if known is None or not found.growing or known.format != found.key or self._size <= known.size:
            return {}
        guard = known.resume.get("guard")
        return known.resume if guard and guard == self._guard(known.resume.get("offset") or 0) else {}

    def _guard(self, offset: int) -> str:
        """Return a digest of the bytes before `offset`: it changes when the file was rewritten there."""
        start = max(0, offset - _GUARD)
        self._stream.seek(start)
        return _digest(self._stream.read(offset - start))

    def _read(self, found: Format, to: Assembler, resume: JsonObject, stopped: threading.Event) -> Iterator[Outcome]:
        parser = found.parser(to, self._log)
        steps = parser.document(self._stream, self._size) if found.is_document else self._lines(parser, to, resume)
        given = False
        try:
            for _ in steps:
                if stopped.is_set():
                    return
                while self._full(to):
                    yield self._batch(found, to, last=False)
                    given = True
        except NotReadable as reason:
            if not given:
                yield SkippedFile(str(self._path), str(reason))
                return
        except OSError as error:
            self._log.report("file", f"reading stopped ({error.strerror}): ingest the file again to read the rest")
            self._complete = False
        to.close()
        self._check(to)
        while to.ready_count > self._limits[0]:
            yield self._batch(found, to, last=False)
        yield self._batch(found, to, last=True)

    def _lines(self, parser: Any, to: Assembler, resume: JsonObject) -> Iterator[None]:
        offset, number, seen = resume.get("offset") or 0, resume.get("line") or 1, 0
        for line in read_lines(self._stream, self._size, offset=offset, number=number):
            if line.lost:
                limit = MAX_LINE // 1024 // 1024
                self._log.report(
                    line.place, f"a line of {line.lost // 1024 // 1024} MB is longer than {limit} MB: skipped"
                )
                continue
            parser.line(line)
            if to.ready_size != seen or not line.number % _LINES_A_STEP:
                seen = to.ready_size
                yield
        parser.end()

    def _full(self, to: Assembler) -> bool:
        return to.ready_count >= self._limits[0] or to.ready_size >= self._limits[1]

    def _batch(self, found: Format, to: Assembler, *, last: bool) -> TranscriptBatch:
        """Return the next batch. Its state says "read until here": only the last one's is that of the whole file."""
        taken = to.take(self._limits[0])
        if last or not to.ready_count:  # else several exchanges ended on one line: the state waits for the last of them
            self._state = self._state_of(found, to, whole=last and self._complete)
        return TranscriptBatch(taken, self._log.drain() if last else (), self._state, last)

    def _state_of(self, found: Format, to: Assembler, *, whole: bool) -> SourceState:
        resume = to.state() if found.growing else {}
        if resume:
            resume["guard"] = self._guarded(resume["offset"])
        size = self._size if whole else resume.get("offset", 0)
        return SourceState(
            path=str(self._path),
            format=found.key,
            size=size,
            modified_ns=self._status.st_mtime_ns if whole else _NEVER,
            head=self._head_digest(size),
            exchanges=to.count,
            resume=resume,
        )

    def _guarded(self, offset: int) -> str:
        """Return the guard for `offset` without losing the place of reading."""
        place = self._stream.tell()
        guard = self._guard(offset)
        self._stream.seek(place)
        return guard

    def _check(self, to: Assembler) -> None:
        """Warn when a file of a known format gives markedly less than its own markers promise."""
        missing = to.markers - to.accounted
        if missing >= _DRIFT_LEAST and to.accounted < to.markers * _DRIFT_SHARE:
            self._log.report(
                "file",
                f"{missing} of {to.markers} user turns were not understood: the format may have changed; report it",
            )
        elif not to.count and self._size > _TINY:
            self._log.report("file", f"no exchange in it though its format is known: {_DRIFTED}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
