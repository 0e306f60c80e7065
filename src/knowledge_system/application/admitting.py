"""The process that reads and redacts ahead of its parent; see `read_ahead`.

Started as `python -P -m knowledge_system.application.admitting PARENT`. It is told what to work with, then file after
file; it answers with the outcomes of each and None for its end, and asks (a session's id) for placeholders that were
stored before it started. Every message is a length and a pickle. It dies with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pickle  # as in `read_ahead`: both ends are ours
import signal
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO

from knowledge_system.application.read_ahead import LENGTH
from knowledge_system.extraction.admission import Admission
from knowledge_system.processes.parentage import die_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from knowledge_system.domain.sessions import SourceState
    from knowledge_system.extraction.admission import Numbers
    from knowledge_system.extraction.ingestion import IngestOptions

    File = tuple[Path, SourceState | None]
    """A file and how far it has been read before."""


PIPE_BYTES = 2**20
"""The most that Linux lets an ordinary user's pipe hold."""


class Admitting:
    """The child's side of the conversation. `given` ends when the parent does."""

    def __init__(self, given: BinaryIO, said: BinaryIO) -> None:
        self._given = given
        self._said = said
        self._files: deque[File] = deque()
        self._numbers: dict[str, Numbers] = {}
        self._numbered: frozenset[str] | None = None

    def run(self) -> None:
        """Work until there is nothing more to come."""
        reader, gatekeeper, options = self._received()
        (self._numbered,) = self._received()
        admission = Admission(reader, gatekeeper, self._recall)
        with asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(_Here())
            while file := self._files.popleft() if self._files else self._receive():
                runner.run(self._admit(admission, file, options))

    async def _admit(self, admission: Admission, file: File, options: IngestOptions) -> None:
        path, known = file
        async for outcome in admission.outcomes(path, known, options):
            self._numbers.update(getattr(outcome, "placeholders", {}))
            self._say((path, outcome))
        self._say((path, None))

    async def _recall(self, session: str) -> Numbers:
        """Return a session's numbers: those given out here, which may not be stored yet, or those stored before."""
        if session not in self._numbers and self._numbered is not None and session not in self._numbered:
            self._numbers[session] = {}
        if session not in self._numbers:
            self._say(session)
            while isinstance(answer := self._received(), tuple):
                self._files.append(answer)
            self._numbers[session] = answer
        return self._numbers[session]

    def _say(self, message: object) -> None:
        data = pickle.dumps(message)
        self._said.write(len(data).to_bytes(LENGTH) + data)
        self._said.flush()

    def _received(self) -> Any:
        """Return the next message, which must come: the parent is gone when it does not."""
        message = self._receive()
        if message is None:
            raise SystemExit(1)
        return message

    def _receive(self) -> Any:
        size = self._given.read(LENGTH)
        data = self._given.read(int.from_bytes(size)) if size else b""
        return pickle.loads(data) if data else None  # noqa: S301 -- written by our own parent


class _Here(ThreadPoolExecutor):
    """Runs at once what would run in a thread: nobody else waits here, and changing cores costs a tenth of the time."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 -- handed on to whoever asks for the result, as a thread would
            done.set_exception(error)
        return done


def _widen(pipe: int) -> None:
    """Let the pipe hold more than a batch, where the system can: the parent is often busy for a while."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a limit of the system's, or of the user's pipes together
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def main() -> None:
    """Talk over the standard streams; whatever else is printed must not get between."""
    die_with(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches both: the parent decides, and ends this process
    _widen(sys.stdout.fileno())
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as said:
        sys.stdout = sys.stderr
        Admitting(sys.stdin.buffer, said).run()


if __name__ == "__main__":
    main()
