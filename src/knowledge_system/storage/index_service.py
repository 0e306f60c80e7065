"""The process that holds the index of a resident service.

Started as `python -P -m knowledge_system.storage.index_service DESCRIPTOR PARENT`; the first message opens the index.
Engine calls run on the event loop: they hold the interpreter lock, so another thread would only add two changes of
thread to a search.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError
from knowledge_system.processes.service import Service, run
from knowledge_system.processes.wire import Control, Message
from knowledge_system.storage import index_wire
from knowledge_system.storage.edge import EdgeIndex
from knowledge_system.storage.edge_live import EdgeOptions
from knowledge_system.storage.index_wire import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from knowledge_system.domain.index import IndexPoint


class IndexService(Service):
    """Answers what is asked of one index."""

    def __init__(self) -> None:
        super().__init__()
        self._index: EdgeIndex | None = None
        self._streams: dict[int, asyncio.Queue[Message]] = {}

    def receive(self, message: Message) -> None:
        """Begin what a message asks for, or lead the points of a rebuild to it."""
        if message.kind == Kind.END:
            self._into_stream(message.request, message)
        elif message.kind == Kind.PIECE:
            self._into_stream(message.head[0], message)
        else:
            if message.kind == Kind.REBUILD:
                self._streams[message.request] = asyncio.Queue()
            super().receive(message)

    def ended(self, request: int) -> None:
        """Forget the points of a rebuild that is over."""
        self._streams.pop(request, None)

    def _into_stream(self, rebuild: int, message: Message) -> None:
        if rebuild in self._streams:
            self._streams[rebuild].put_nowait(message)

    async def answer(self, message: Message) -> Message:
        """Do what is asked. Raises what `EdgeIndex` raises."""
        request = message.request
        if message.kind == Kind.OPEN:
            return Message(request, Control.ANSWER, await self._open(message.head))
        if self._index is None:
            raise DependencyUnavailable("the index is not open", hint="Open it first.")
        if message.kind == Kind.QUERY:
            return index_wire.found_message(request, await self._index.found(index_wire.queries_of(message)))
        return Message(request, Control.ANSWER, await self._other(self._index, message))

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
                raise KnowledgeError(f"{message.kind} is no request", hint="Report it.")
        return result

    async def _status(self, index: EdgeIndex) -> dict[str, Any]:
        return {**asdict(await index.status()), "space": None}

    async def _points(self, stream: asyncio.Queue[Message]) -> AsyncIterator[Sequence[IndexPoint]]:
        """Yield what the parent sends; each piece is acknowledged when it is taken, so that few are in memory."""
        while (message := await stream.get()).kind == Kind.PIECE:
            self.send(Message(message.request, Control.ANSWER))
            yield index_wire.points_of(message)[1]


if __name__ == "__main__":
    run(IndexService, sys.argv[1:])
