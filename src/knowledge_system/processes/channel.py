"""One process that was started, as its parent sees it: requests with deadlines, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import DependencyUnavailable
from knowledge_system.processes import wire
from knowledge_system.processes.wire import Control, Frames, Message

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_CRASHES: Final = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""What broken files make of the engine; any other end says nothing about the files."""
_TAIL: Final = 2000
_GOODBYE: Final = 10.0
"""Seconds that a process gets to end when its socket is closed."""
_LOOKS: Final = 4
"""How often within the longest permitted silence it is looked after."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a process ended. `crashed` when the engine itself gave up, as it does on broken files."""

    reason: str
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """What a process runs: a module whose end calls `service.run`, and what people call the process."""

    module: str
    name: str


@dataclass(slots=True)
class _Request:
    answer: asyncio.Future[Message]
    began: float
    within: float


class ChildProcess:
    """A running process. Made by `start`; `ended` tells why it ended, once it has.

    `silence` is how long it may say nothing at all while an answer is due: then it hangs, and is killed.
    """

    def __init__(self, program: Program, process: Process, silence: float) -> None:
        self._program = program
        self._process = process
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, _Request] = {}
        self._numbers = itertools.count(1)
        self._why = ""
        self._heard = self._loop.time()
        self._look: asyncio.TimerHandle | None = None
        self._life: asyncio.Task[None] | None = None
        self._silence = silence
        self.ended: asyncio.Future[Ending] = self._loop.create_future()

    @classmethod
    async def start(cls, program: Program, silence: float) -> ChildProcess:
        """Start a process. Raises DependencyUnavailable when there can be none."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await _spawned(program, ours, theirs)
        started = cls(program, process, silence)
        started._life = started._loop.create_task(started._live())
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.BUFFER)
        started._transport, _ = await started._loop.create_unix_connection(
            lambda: Frames(started._receive, lambda: None),
            sock=ours,  # why it ended is told by its status, in `_live`
        )
        return started

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def bear(self, silence: float) -> None:
        """Bear so many seconds of silence from now on."""
        self._silence = silence
        if self._look is not None:
            self._look.cancel()
            self._look_later()

    def number(self) -> int:
        """Return a number for the next request."""
        return next(self._numbers)

    def send(self, message: Message) -> None:
        """Say something that has no answer; harmless when nobody hears it."""
        if self._transport is not None:
            self._transport.write(wire.frame(message))

    def ask(self, message: Message, within: float) -> asyncio.Future[Message]:
        """Send a request; the future fails with what the process says, or DependencyUnavailable after `within` s."""
        answer: asyncio.Future[Message] = self._loop.create_future()
        if self.ended.done():
            answer.set_exception(self._unavailable(self.ended.result().reason))
            return answer
        self._requests[message.request] = _Request(answer, self._loop.time(), within)
        self.send(message)
        if self._look is None:
            self._look_later()
        return answer

    async def give_up(self, request: int, answer: asyncio.Future[Message]) -> None:
        """Cancel a request and wait until what it left behind is cleaned up."""
        self.send(Message(request, Control.CANCEL))
        await asyncio.wait([answer])
        forget(answer)

    def kill(self, reason: str) -> None:
        """End it now."""
        self._why = self._why or reason
        self._kill()

    async def end(self) -> None:
        """Close the socket, which ends it, and wait for that; it is killed when it takes too long."""
        if self._transport is not None:
            self._transport.abort()
        if self._life is not None:  # not `ended`: a loop that is itself ending cancels the life before it begins
            await asyncio.wait([self._life], timeout=_GOODBYE)
            self._kill()
            await asyncio.wait([self._life])

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _receive(self, message: Message) -> None:
        self._heard = self._loop.time()
        request = self._requests.pop(message.request, None)
        if request is None or request.answer.done():
            return
        if message.kind == Control.FAILED:
            request.answer.set_exception(wire.error_of(message))
        else:
            request.answer.set_result(message)

    async def _live(self) -> None:
        """See it through to its end."""
        ending = Ending("the service is ending")
        try:
            said = await self._said()
            ending = _ending(await self._process.wait(), said, self._why)
        finally:
            self._kill()  # no harm to one that has ended
            self._close(ending)

    async def _said(self) -> bytes:
        stderr, said = self._process.stderr, b""
        while stderr is not None and (some := await stderr.read(_TAIL)):
            said = (said + some)[-_TAIL:]
        return said

    def _close(self, ending: Ending) -> None:
        """Fail what it still owed, and say that it has ended."""
        if self._transport is not None:
            self._transport.abort()
        if self._look is not None:
            self._look.cancel()
        self.ended.set_result(ending)  # first: who is told that a request failed must find that out too
        requests, self._requests = self._requests, {}
        for request in requests.values():
            if not request.answer.done():
                request.answer.set_exception(self._unavailable(ending.reason))

    def _unavailable(self, reason: str) -> DependencyUnavailable:
        text = f"the process of the {self._program.name} does not answer: {reason}"
        return DependencyUnavailable(text, hint="Try again in a moment: it is started again by itself.")

    def _look_later(self) -> None:
        after = self._silence / _LOOKS
        self._look = self._loop.call_later(after, self._look_after, self._loop.time() + after)

    def _look_after(self, due: float) -> None:
        """Kill it when it hangs, fail what is overdue, and ask for a sign of life when it is quiet."""
        self._look = None
        now = self._loop.time()
        if now - due > self._silence / _LOOKS:
            self._heard = now  # this process was not running either: it cannot judge
        quiet = now - max(self._heard, min((request.began for request in self._requests.values()), default=now))
        self._fail_overdue(now, forget=quiet < self._silence)
        if quiet >= self._silence:
            self.kill(f"it said nothing for {quiet:.1f} s")
        elif self._requests:
            if quiet >= self._silence / _LOOKS:
                self.send(Message(0, Control.PING))
            self._look_later()

    def _fail_overdue(self, now: float, *, forget: bool) -> None:
        for number, request in list(self._requests.items()):
            if now - request.began < request.within:
                continue
            if not request.answer.done():
                request.answer.set_exception(self._unavailable(f"no answer within {request.within:g} s"))
            if forget:
                del self._requests[number]


async def _spawned(program: Program, ours: socket.socket, theirs: socket.socket) -> Process:
    arguments = ["-P", "-m", program.module, str(theirs.fileno()), str(os.getpid())]
    nothing = asyncio.subprocess.DEVNULL
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=nothing,
            stdout=nothing,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[theirs.fileno()],
        )
    except BaseException as error:
        ours.close()
        if not isinstance(error, OSError):
            raise
        hint = "Check the limits on processes and memory of the user who runs this."
        raise DependencyUnavailable(f"cannot start the process of the {program.name}: {error}", hint=hint) from error


def _ending(status: int, said: bytes, why: str) -> Ending:
    if why:
        return Ending(why)
    how = f"it died by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    text = f"{how}: {lines[-1][:300]}" if lines else how
    return Ending(text, crashed=-status in _CRASHES)


def forget(answer: asyncio.Future[Message]) -> None:
    """Make nobody wait for an answer, nor miss its failure."""
    answer.cancel()
    if not answer.cancelled():
        answer.exception()


def memory_of(pid: int) -> int | None:
    """Return the resident memory of a process in bytes; None where the system does not tell (Linux does)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 -- a path of the kernel, read at every scrape
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
