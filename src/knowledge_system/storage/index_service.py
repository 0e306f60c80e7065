"""The process that holds the index of a resident service: it does what it is told over a socket, and ends with it.

Started as `python -P -m knowledge_system.storage.index_service DESCRIPTOR PARENT`; the first message opens the index.
Signals that are meant for the whole group are left to the parent, which closes the index in order. Engine calls run on
the event loop: they hold the interpreter lock, so another thread would only add two changes of thread to a search.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError
from knowledge_system.storage import index_wire
from knowledge_system.storage.edge import EdgeIndex
from knowledge_system.storage.edge_live import EdgeOptions
from knowledge_system.storage.index_wire import Frames, Kind, Message
from knowledge_system.storage.parentage import die_with

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from knowledge_system.domain.index import IndexPoint

_SWITCH: Final = 0.0005
"""Seconds after which a thread that cuts texts into words lets a search go first (the default is 0.005)."""
_OOM: Final = b"500"
"""Added to this process's chance of being ended when memory runs out: it can be restarted, the service cannot."""
_EXPECTED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Service:
    """Answers messages, many at a time. When nobody is left to answer to, the process ends at once.

    Whatever still ran would work for nobody, and the files are safe at any moment.
    """

    def __init__(self) -> None:
        self._index: EdgeIndex | None = None
        self._transport: asyncio.Transport | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, asyncio.Queue[Message]] = {}

    async def connect(self, descriptor: int) -> None:
        """Take messages from the inherited end of the pair."""
        end = socket.socket(fileno=descriptor)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, index_wire.BUFFER)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_unix_connection(lambda: Frames(self._receive, _end), sock=end)

    def _receive(self, message: Message) -> None:
        if message.kind is Kind.CANCEL:
            if message.request in self._tasks:
                self._tasks[message.request].cancel()
        elif message.kind is Kind.END:
            self._into_stream(message.request, message)
        elif message.kind is Kind.PIECE:
            self._into_stream(message.head[0], message)
        else:
            if message.kind is Kind.REBUILD:
                self._streams[message.request] = asyncio.Queue()
            self._tasks[message.request] = asyncio.get_running_loop().create_task(self._handle(message))

    def _into_stream(self, rebuild: int, message: Message) -> None:
        if rebuild in self._streams:
            self._streams[rebuild].put_nowait(message)

    def _send(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.write(index_wire.frame(message))

    async def _handle(self, message: Message) -> None:
        try:
            answer = await self._answer(message)
        except KnowledgeError as error:
            answer = index_wire.error_message(message.request, error)
        except asyncio.CancelledError:
            given_up = DependencyUnavailable("the request was given up", hint="Repeat it.")
            answer = index_wire.error_message(message.request, given_up)
        except Exception as error:  # noqa: BLE001 -- the edge of this process: one request's failure is no other's
            unexpected = KnowledgeError(f"{type(error).__name__}: {error}", hint="Report it; the index goes on.")
            answer = index_wire.error_message(message.request, unexpected)
        finally:
            self._tasks.pop(message.request, None)
            self._streams.pop(message.request, None)
        self._send(answer)

    async def _answer(self, message: Message) -> Message:
        request = message.request
        if message.kind is Kind.PING:
            return Message(request, Kind.ANSWER)
        if message.kind is Kind.OPEN:
            return Message(request, Kind.ANSWER, await self._open(message.head))
        if self._index is None:
            raise DependencyUnavailable("the index is not open", hint="Open it first.")
        if message.kind is Kind.QUERY:
            return index_wire.found_message(request, await self._index.found(index_wire.queries_of(message)))
        return Message(request, Kind.ANSWER, await self._other(self._index, message))

    async def _open(self, head: dict[str, Any]) -> dict[str, Any]:
        options = EdgeOptions(**head["options"])
        space = EmbeddingSpace(**head["space"])
        self._index = await EdgeIndex.open(Path(head["directory"]), space, options)
        return await self._status(self._index)

    async def _other(self, index: EdgeIndex, message: Message) -> object:
        """Do what is not asked hundreds of times a second."""
        result: object = None
        match message.kind:
            case Kind.APPLY:
                dropped, points = index_wire.points_of(message)
                await index.apply(points, dropped)
            case Kind.FLUSH:
                await index.flush()
            case Kind.CLOSE:
                await index.close()
            case Kind.OWNERS:
                result = await index.owners(*message.head)
            case Kind.STATUS:
                result = await self._status(index)
            case Kind.OPTIMIZE:
                result = asdict(await index.optimize())
            case Kind.VERIFY:
                result = asdict(await index.verify())
            case Kind.REBUILD:
                result = asdict(await index.rebuild(self._points(self._streams[message.request])))
            case _:
                raise KnowledgeError(f"{message.kind.name} is no request", hint="Report it.")
        return result

    async def _status(self, index: EdgeIndex) -> dict[str, Any]:
        return {**asdict(await index.status()), "space": None}

    async def _points(self, stream: asyncio.Queue[Message]) -> AsyncIterator[Sequence[IndexPoint]]:
        """Yield what the parent sends; each piece is acknowledged when it is taken, so that few are in memory."""
        while (message := await stream.get()).kind is Kind.PIECE:
            self._send(Message(message.request, Kind.ANSWER))
            yield index_wire.points_of(message)[1]


def _end() -> None:
    os._exit(0)


async def serve(descriptor: int) -> None:
    """Serve until the other end closes, which ends the process."""
    await Service().connect(descriptor)
    await asyncio.Event().wait()


def main(arguments: list[str]) -> None:
    """Run; never returns."""
    descriptor, parent = map(int, arguments)
    for one in _EXPECTED:
        signal.signal(one, signal.SIG_IGN)
    die_with(parent)
    sys.setswitchinterval(_SWITCH)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_OOM)
    asyncio.run(serve(descriptor))


if __name__ == "__main__":
    main(sys.argv[1:])
