"""The other end: a process that does what it is told over a socket, and ends with whoever started it.

Signals that are meant for the whole group are left to the parent, which ends it in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError
from knowledge_system.processes import wire
from knowledge_system.processes.parentage import die_with
from knowledge_system.processes.wire import Control, Frames, Message

if TYPE_CHECKING:
    from collections.abc import Callable

_SWITCH: Final = 0.0005
"""Seconds after which a thread that works in the background lets an answer go first (the default is 0.005)."""
_OOM: Final = b"500"
"""Added to this process's chance of being ended when memory runs out: it can be restarted, the service cannot."""
_EXPECTED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Service:
    """Answers messages, many at a time. When nobody is left to answer to, the process ends at once.

    Whatever still ran would work for nobody, and what is on the disk is safe at any moment.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._tasks: dict[int, asyncio.Task[Message]] = {}

    async def connect(self, descriptor: int) -> None:
        """Take messages from the inherited end of the pair."""
        end = socket.socket(fileno=descriptor)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.BUFFER)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_unix_connection(lambda: Frames(self.receive, self.end), sock=end)

    async def answer(self, message: Message) -> Message:
        """Return the answer to a request, or raise KnowledgeError."""
        raise NotImplementedError

    def end(self) -> None:
        """End this process: nobody is left to answer to."""
        os._exit(0)

    def ended(self, request: int) -> None:
        """Forget what was kept for a request."""

    def receive(self, message: Message) -> None:
        """Begin what a message asks for."""
        if message.kind == Control.PING:
            self.send(Message(message.request, Control.ANSWER))
        elif message.kind == Control.CANCEL:
            if message.request in self._tasks:
                self._tasks[message.request].cancel()
        else:
            task = asyncio.get_running_loop().create_task(self.answer(message))
            self._tasks[message.request] = task
            task.add_done_callback(lambda done: self._over(message.request, done))

    def send(self, message: Message) -> None:
        """Say something."""
        if self._transport is not None:
            self._transport.write(wire.frame(message))

    def _over(self, request: int, task: asyncio.Task[Message]) -> None:
        """Answer, also what was given up before it began."""
        del self._tasks[request]
        self.ended(request)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            error = DependencyUnavailable("the request was given up", hint="Repeat it.")
        elif error is not None and not isinstance(error, KnowledgeError):  # one request's failure is no other's
            error = KnowledgeError(f"{type(error).__name__}: {error}", hint="Report it; the process goes on.")
        self.send(task.result() if error is None else wire.error_message(request, error))


async def _serve(service: Service, descriptor: int) -> None:
    await service.connect(descriptor)
    await asyncio.Event().wait()


def run(make: Callable[[], Service], arguments: list[str]) -> None:
    """Serve until the other end closes, which ends the process; `arguments` are the descriptor and the parent's id."""
    descriptor, parent = map(int, arguments)
    for one in _EXPECTED:
        signal.signal(one, signal.SIG_IGN)
    die_with(parent)
    sys.setswitchinterval(_SWITCH)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_OOM)
    asyncio.run(_serve(make(), descriptor))
