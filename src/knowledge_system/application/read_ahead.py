"""Reading and redacting in a child process, while this one stores and indexes.

The two halves of an ingest cost about the same and share nothing but the numbers of placeholders, so on two cores an
ingest takes little more than half the time. The child runs the same `Admission`; what it needs to know it asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle  # the other end is our own child, started by us, behind a pipe that nobody else has
import sys
from typing import TYPE_CHECKING, Any, Protocol

from knowledge_system.domain.errors import DependencyUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from knowledge_system.domain.sensitivity import Gatekeeper
    from knowledge_system.domain.sessions import SourceState, TranscriptReader
    from knowledge_system.extraction.admission import Numbers, Outcome
    from knowledge_system.extraction.ingestion import Found, IngestOptions

LEAST = 4 * 2**20
"""Bytes to read from which a child pays: it starts in 0.25 s, and reads and redacts 4 MB in 0.4 s."""
FILES_AHEAD = 32
"""Files that the child is told about before it has finished the first of them."""
BYTES_AHEAD = 8 * 2**20
"""Bytes of outcomes that wait here to be stored; the child stops until there is room."""
SESSIONS_NAMED = 50_000
"""Sessions with placeholders up to which the child is told them all: then it asks for those alone, and never waits
for an answer about a new one."""
UNREAD = 2**20
"""Bytes of what nobody wants any more that are taken at a time."""
LENGTH = 8
"""Bytes of the length before each message."""


class ReadAhead:
    """Implements `Ahead` of `extraction.ingestion`. Use `close` when done: it ends a child that nobody needed."""

    def __init__(self, reader: TranscriptReader, gatekeeper: Gatekeeper, *, least: int = LEAST) -> None:
        self._reader = reader
        self._gatekeeper = gatekeeper
        self._least = least
        self._idle: _Child | None = None
        self._begun: _Run | None = None
        self._options: IngestOptions | None = None

    @property
    def least(self) -> int:
        """Bytes still to read from which starting the child pays; none do on a single core."""
        return self._least if _cores() > 1 else sys.maxsize

    async def prepare(self, found: Found, options: IngestOptions, *, unread: bool) -> None:
        """Start the child if it pays, so that it gets ready while the database is being opened.

        With `unread` nothing has ever been stored, so it can begin to read as well.
        """
        if found.total >= self.least:
            self._options = options
            self._idle = await self._start(options)
            if unread:
                self._begun = await self._begin(list(found.sizes), options, _NothingRead())
                await self._begun.told.wait()  # now: opening the database keeps this thread busy

    async def close(self) -> None:
        """End what was prepared and not used."""
        begun, self._begun = self._begun, None
        idle, self._idle = self._idle, None
        if begun is not None:
            await begun.end()
        if idle is not None:
            await idle.end()

    async def outcomes(
        self, files: Sequence[Path], options: IngestOptions, log: Log
    ) -> AsyncGenerator[tuple[Path, Outcome | None]]:
        """Yield what the child finds, file by file; ends early when the child dies. Cancelling ends the child."""
        if self._options != options or (self._begun and self._begun.files != files):
            await self.close()  # prepared for something else
        run, self._begun = self._begun or await self._begin(files, options, log), None
        finished = 0
        try:
            while finished < len(files) and (found := await run.next()):
                finished += found[1] is None
                yield found
            if finished < len(files):
                await run.broken()
        finally:
            await run.end()

    async def _begin(self, files: Sequence[Path], options: IngestOptions, log: Log) -> _Run:
        numbered = await log.numbered(SESSIONS_NAMED)
        child, self._idle = self._idle or await self._start(options), None
        return _Run(child, log, files, numbered)

    async def _start(self, options: IngestOptions) -> _Child:
        """Start a child and tell it at once what it has to load, which takes it longest."""
        child = await _Child.start()
        with contextlib.suppress(ConnectionError):  # whoever listens to it finds out
            await child.send((self._reader, self._gatekeeper, options))
        return child


class Log(Protocol):
    """What the child has to know of an `IngestLog`."""

    async def source(self, path: str) -> SourceState | None:
        """Return how far a file has been read."""
        ...

    async def placeholders(self, session_id: str) -> Numbers:
        """Return the placeholder memory of a session."""
        ...

    async def numbered(self, limit: int) -> frozenset[str] | None:
        """Return the sessions that have one, unless they are more than `limit`."""
        ...


class _NothingRead:
    """The log of a database that does not exist yet."""

    async def source(self, path: str) -> None:
        """Say that the file was never read."""

    async def placeholders(self, session_id: str) -> Numbers:
        """Return no placeholders."""
        del session_id
        return {}

    async def numbered(self, limit: int) -> frozenset[str]:
        """Return no session."""
        del limit
        return frozenset()


class _Run:
    """The conversation with one child: files to it, its questions answered, its outcomes kept until they are wanted."""

    def __init__(self, child: _Child, log: Log, files: Sequence[Path], numbered: frozenset[str] | None) -> None:
        self.files = files
        self.told = asyncio.Event()
        self._child = child
        self._log = log
        self._room = asyncio.Semaphore(FILES_AHEAD)
        self._found: asyncio.Queue[tuple[int, tuple[Path, Outcome | None] | None]] = asyncio.Queue()
        self._waiting = 0
        self._drained = asyncio.Event()
        self._tasks = [asyncio.create_task(self._tell(numbered)), asyncio.create_task(self._listen())]

    async def next(self) -> tuple[Path, Outcome | None] | None:
        """Return the next outcome, None when there will be none."""
        size, found = await self._found.get()
        self._waiting -= size
        self._drained.set()
        if found is not None and found[1] is None:
            self._room.release()
        return found

    async def broken(self) -> None:
        """Raise what broke the conversation, unless it was the child's death."""
        await asyncio.gather(*self._tasks)

    async def end(self) -> None:
        """End the conversation and the child."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._child.end()

    async def _tell(self, numbered: frozenset[str] | None) -> None:
        """Send the sessions that have placeholders, then file after file with how far each has been read."""
        try:
            await self._child.send((numbered,))
            for path in self.files:
                if self._room.locked():
                    self.told.set()
                await self._room.acquire()
                await self._child.send((path, await self._log.source(str(path))))
        except ConnectionError:
            pass  # the child is gone: whoever listens to it finds out
        except BaseException:
            self._child.hang_up()
            raise
        finally:
            self.told.set()

    async def _listen(self) -> None:
        """Take what the child says until it ends; answer at once when it asks for a session's placeholders."""
        try:
            while said := await self._child.receive():
                size, message = said
                if isinstance(message, str):
                    await self._child.send(await self._log.placeholders(message))
                    continue
                self._found.put_nowait((size, message))
                self._waiting += size
                while self._waiting > BYTES_AHEAD:
                    self._drained.clear()
                    await self._drained.wait()
        except ConnectionError:
            pass  # as above
        finally:
            self._found.put_nowait((0, None))


class _Child:
    """The child process and its two pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise DependencyUnavailable("a child process has no pipes", hint="Report this with the platform's name.")
        self._process = process
        self._input, self._output = process.stdin, process.stdout

    @classmethod
    async def start(cls) -> _Child:
        """Start the child. Raises DependencyUnavailable when the system refuses."""
        arguments = ["-P", "-m", "knowledge_system.application.admitting", str(os.getpid())]
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdin=pipe, stdout=pipe, stderr=null
            )
        except OSError as error:
            hint = "Check the limits on processes and memory of the user who runs this."
            raise DependencyUnavailable(f"cannot start the process that reads ahead: {error}", hint=hint) from error
        return cls(process)

    async def send(self, message: object) -> None:
        """Send one message. Raises ConnectionError when the child is gone."""
        data = pickle.dumps(message)
        self._input.write(len(data).to_bytes(LENGTH) + data)
        await self._input.drain()

    async def receive(self) -> tuple[int, Any] | None:
        """Return the size and content of the child's next message, None when it has ended."""
        try:
            size = int.from_bytes(await self._output.readexactly(LENGTH))
            data = await self._output.readexactly(size)
        except asyncio.IncompleteReadError:
            return None
        return size, pickle.loads(data)  # noqa: S301 -- written by our own child

    def hang_up(self) -> None:
        """Close the child's input, which ends it when it has done what it knows of."""
        self._input.close()

    async def end(self) -> None:
        """End the child and wait until it is gone."""
        self.hang_up()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self._gone())

    async def _gone(self) -> None:
        """Wait until the child is gone; asyncio sees that only behind all it said, read by somebody or not."""
        with contextlib.suppress(ConnectionError):
            while await self._output.read(UNREAD):
                pass
        await self._process.wait()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
