"""The system beside a running service: what needs the data directory goes through it, the rest reads the database."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from knowledge_system import __version__
from knowledge_system.application.addresses import CALL_PATH, LEASE, SERVICE, VERSION_HEADER
from knowledge_system.application.calls import error_of, request_arguments
from knowledge_system.application.system import KnowledgeSystem, silent
from knowledge_system.domain.clock import to_stored
from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError, UsageError
from knowledge_system.storage.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from knowledge_system.application.compose import Parts
    from knowledge_system.application.system import Progress
    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.search import SearchRequest
    from knowledge_system.extraction.ingestion import IngestOptions

Document = dict[str, Any]
CONNECT_WITHIN = 5.0
"""Seconds that the service, on this machine, has to accept a connection."""
STARTING_WITHIN = 15.0
"""Seconds that a command waits for a service that is just starting."""
GIVEN_BACK_WITHIN = 5.0
"""Seconds that a process which has the directory merely at hand gets to give it back."""
DIAGNOSED_WITHIN = 30.0
"""Seconds that the service has to say how it is: one that hangs is what is being looked for."""
_LOOK_EVERY = 0.05
IMPORT_BYTES = 4_000_000
"""Size of the pieces in which an import travels; the service refuses bodies above ten megabytes."""


class Service:
    """The way to a running service: its address, and the token that only the owner of the home can read."""

    def __init__(self, url: str, token: str) -> None:
        self._place = urlsplit(url)
        self._token = token

    async def call(
        self, verb: str, arguments: Document, progress: Progress | None = None, within: float | None = None
    ) -> Document:
        """Have the service do `verb`. Raises what it raised; DependencyUnavailable when it does not answer.

        It may take as long as it takes, or `within` seconds.
        """
        loop = asyncio.get_running_loop()

        def tell(stage: str, done: int, total: int) -> None:
            if progress is not None:
                loop.call_soon_threadsafe(progress, stage, done, total)

        return await asyncio.to_thread(self._call, verb, arguments, tell, within)

    def _call(
        self, verb: str, arguments: Document, tell: Callable[[str, int, int], None], within: float | None
    ) -> Document:
        connection = http.client.HTTPConnection(
            self._place.hostname or "", self._place.port or 80, timeout=CONNECT_WITHIN
        )
        headers = {
            "authorization": f"Bearer {self._token}",
            "content-type": "application/json",
            VERSION_HEADER: __version__,
        }
        try:
            connection.connect()
            connection.sock.settimeout(within)  # an ingest takes as long as it takes; a dead service closes the socket
            connection.request("POST", CALL_PATH + verb, json.dumps(arguments).encode(), headers)
            response = connection.getresponse()
            return _outcome(_documents(response), tell)
        except (OSError, http.client.HTTPException) as error:
            raise DependencyUnavailable(
                f"the running service at {self._place.netloc} does not answer: {error}",
                hint="run the command again; if that does not help, restart the service",
            ) from error
        finally:
            connection.close()


def _documents(response: http.client.HTTPResponse) -> Iterator[Document]:
    if response.status != http.HTTPStatus.OK:
        problem = response.read(100_000)
        raise UsageError(
            f"the running service refused: {response.status} {problem[:300].decode(errors='replace')}",
            hint="restart the service: it may be of another version",
        )
    for line in response:
        yield json.loads(line)


def _outcome(documents: Iterator[Document], tell: Callable[[str, int, int], None]) -> Document:
    for document in documents:
        if "progress" in document:
            tell(*document["progress"])
        elif "error" in document:
            raise error_of(document["error"])
        else:
            return cast("Document", document["result"])
    raise http.client.IncompleteRead(b"")


async def find_service(home: Path, clock: Clock) -> Service | None:
    """Return the service that owns the data directory, None without one; waits for one that is just starting."""
    place = Home(home, clock)
    attempts = int(STARTING_WITHIN / _LOOK_EVERY)
    for _ in range(attempts):
        if (found := place.service()) is not None:
            return Service(*found)
        if (place.holder() or {}).get("purpose") != SERVICE:
            return None
        await asyncio.sleep(_LOOK_EVERY)
    return None


async def ask_for(home: Path, clock: Clock) -> None:
    """Ask a process that has the directory merely at hand to give it back, and wait for that a little."""
    place = Home(home, clock)
    for _ in range(int(GIVEN_BACK_WITHIN / _LOOK_EVERY)):
        if (place.holder() or {}).get("purpose") != LEASE:
            return
        place.want()
        await asyncio.sleep(_LOOK_EVERY)


class ServedSystem(KnowledgeSystem):
    """The same verbs as `KnowledgeSystem`; those that need the data directory are done by the service that owns it."""

    def __init__(self, parts: Parts, service: Service) -> None:
        super().__init__(parts)
        self._service = service

    async def ingest(self, paths: Sequence[Path], options: IngestOptions, progress: Progress) -> Document:
        """Have the service read files of this machine."""
        since = to_stored(options.since) if options.since else None
        arguments = {
            "paths": [str(path.expanduser().absolute()) for path in paths],
            "options": {**asdict(options), "since": since},
        }
        return await self._service.call("ingest", arguments, progress)

    async def search(self, request: SearchRequest) -> Document:
        """Have the service answer a question."""
        return await self._service.call("search", {"request": request_arguments(request)})

    async def forget(self, ids: Sequence[str]) -> Document:
        """Have the service erase items and exchanges."""
        return await self._service.call("forget", {"ids": list(ids)})

    async def supersede(self, old: str, new: str) -> Document:
        """Have the service mark an item as replaced."""
        return await self._service.call("supersede", {"old": old, "new": new})

    async def import_(self, lines: Iterable[str]) -> Document:
        """Send an export piece by piece."""
        total = {"new": 0, "known": 0, "redactions": 0}
        for piece in _pieces(lines):
            done = await self._service.call("import", {"lines": piece})
            total = {name: total[name] + done[name] for name in total}
        return total

    async def remember(self, arguments: Document) -> Document:
        """Have the service save a statement."""
        return await self._service.call("remember", arguments)

    async def feedback(self, arguments: Document) -> Document:
        """Have the service record a verdict."""
        return await self._service.call("feedback", arguments)

    async def status(self) -> Document:
        """Return what the database tells, and how the service's processes are."""
        document = await super().status()
        with contextlib.suppress(KnowledgeError):  # a service that is just ending: the database still tells the rest
            document |= await self._service.call("processes", {})
        return document

    async def doctor(self) -> Document:
        """Have the service examine itself."""
        return await self._service.call("doctor", {})

    async def diagnose(self, what: str) -> Document:
        """Have the service diagnose itself, unless it is what does not answer."""
        return await self._service.call("diagnose", {"what": what}, within=DIAGNOSED_WITHIN)

    async def config_undo(self, change: str) -> Document:
        """Have the service take back a change of settings: it is the one that follows it at once."""
        return await self._service.call("config_undo", {"change": change})

    async def cache_warm(self, queries: Sequence[str] | None, limit: int, days: int) -> Document:
        """Have the service prepare questions: it is the one that will be asked."""
        return await self._service.call("cache_warm", {"queries": queries, "limit": limit, "days": days})

    async def index_status(self) -> Document:
        """Return the state of the service's index."""
        return await self._service.call("index_status", {})

    async def index_rebuild(self) -> Document:
        """Have the service rebuild its index."""
        return await self._service.call("index_rebuild", {})

    async def index_optimize(self) -> Document:
        """Have the service optimise its index."""
        return await self._service.call("index_optimize", {})

    async def index_backfill(self, limit: int | None, progress: Progress = silent) -> Document:
        """Have the service embed what the larger space lacks."""
        return await self._service.call("index_backfill", {"limit": limit}, progress)

    async def index_verify(self) -> Document:
        """Have the service verify its index."""
        return await self._service.call("index_verify", {})


def _pieces(lines: Iterable[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line.encode("utf-8", "replace"))
        if size >= IMPORT_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
