"""The vector index on a Qdrant server: `VectorIndex` and `IndexMaintenance` over REST.

The server is asked for everything; nothing of the index is kept here. Services on one database may share it: each sees
what the others write. While one of them rebuilds, what the others apply goes to the generation that is replaced; the
comparison with the truth finds that afterwards, as it does whatever else is missing.

A key is only sent over https, to this machine, or to a host whose name has no dot (a service of the same container
network); redirects are not followed, and proxies of the environment are not used.

Written against the interface of 1.19, and not yet run against a server: see `testing/scripted_qdrant.py`.
"""

from __future__ import annotations

import asyncio
import bisect
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError, UsageError
from knowledge_system.domain.index import IndexStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from knowledge_system.domain.embedding import EmbeddingSpace
    from knowledge_system.domain.index import IndexHits, IndexPoint, IndexQuery, OptimizeReport, VerifyReport
    from knowledge_system.storage.qdrant_collection import Collection
    from knowledge_system.storage.qdrant_upkeep import Served
    from knowledge_system.storage.qdrant_wire import Link


@dataclass(frozen=True, slots=True)
class QdrantOptions:
    """Where the server is, `http(s)://host:port[/prefix]`, and its key.

    `within` bounds every request, `work_within` the wait for a server that optimises; both are seconds.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    within: float = 5.0
    work_within: float = 3600.0


@dataclass(frozen=True, slots=True)
class QdrantFacts:
    """What the server tells of itself and of this index; `error` says what is wrong, empty when nothing is.

    `collection` is the one behind the alias. `points` and `indexed_vectors` are the server's own approximate counts,
    the latter of sparse vectors too.
    """

    version: str = ""
    ready: bool = False
    collections: tuple[str, ...] = ()
    collection: str = ""
    status: str = ""
    optimizer_status: str = ""
    points: int = 0
    indexed_vectors: int = 0
    segments: int = 0
    error: str = ""


class QdrantIndex:
    """An index of one embedding space on a server. Use it from one event loop.

    What `apply` acknowledged is durable and found by searches, as far as the server keeps its promise; `flush` has
    nothing to add. Everything raises IndexUnavailable when the server does not answer well within its time, and
    DependencyUnavailable when the collection has vanished; UsageError when what was handed in does not fit.
    """

    def __init__(self, space: EmbeddingSpace, served: Served) -> None:
        self._space = space
        self._served = served
        self._walk: list[tuple[str, int]] = []
        self._last = ""
        self._closed = False

    @classmethod
    async def open(cls, space: EmbeddingSpace, options: QdrantOptions) -> QdrantIndex:
        """Open the collection of `space`, creating it when there is none.

        Raises UsageError for a URL that may not be used, or a collection of another dimension, which stays as it is.
        """
        # The client's modules take up to a second to import: beside the event loop, and only where a server is used.
        link_of, parts_of = await asyncio.to_thread(_imported)
        link: Link = link_of(options.url, options.api_key, options.within)
        try:
            return cls(space, await parts_of(link, space, options.work_within))
        except BaseException:
            await link.close()
            raise

    async def apply(self, points: Sequence[IndexPoint], drop_owners: Sequence[str] = ()) -> None:
        """Replace every point of `drop_owners` and upsert `points`. Idempotent; durable when it returns."""
        await self._served.apply(points, drop_owners)

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        """Answer each query, best first. Points without a vector are found by words only."""
        self._link.require_open()
        for query in queries:
            if query.vector is not None and len(query.vector) != self._space.dimension:
                raise _wrong_dimension(len(query.vector), self._space.dimension)
        return [found.hits() for found in await self._live.query(queries)]

    async def owners(self, after: str = "", limit: int = 1000) -> list[tuple[str, int]]:
        """Return `(owner_id, points)` in ascending order of id, after `after`: for comparing with the truth.

        A walk from page to page sees one state, that of its beginning, however much is written meanwhile.
        """
        self._link.require_open()
        if not after or after != self._last:
            self._walk = await self._listed()
        start = bisect.bisect_right(self._walk, (after, float("inf")))
        page = self._walk[start : start + limit]
        self._last = page[-1][0] if page else ""
        if not page:
            self._walk = []
        return page

    async def _listed(self) -> list[tuple[str, int]]:
        """List all owners of one generation: again when another one is served by the end."""
        while True:
            listed = await self._served.generations.served()
            try:
                owners = await listed.owners()
            except DependencyUnavailable:
                if await self._served.generations.current() == listed.name:
                    raise
                continue
            if await self._served.generations.current() == listed.name:
                return owners

    async def status(self) -> IndexStatus:
        """Return counts and health. The server does not tell the bytes on its disk: they are 0."""
        self._link.require_open()
        counts, health = await self._live.surveyed()
        return IndexStatus(
            backend="qdrant",
            space=self._space,
            points=counts.points,
            vectors=counts.vectors,
            indexed_vectors=counts.indexed,
            bytes_on_disk=0,
            healthy=not health.problem,
            detail=health.problem,
        )

    async def flush(self) -> None:
        """Do nothing: the server has written what it acknowledged."""
        self._link.require_open()

    async def close(self) -> None:
        """Refuse further calls, wait for a rebuild to give up, close the connections. Calling it twice is fine."""
        if self._closed:
            return
        self._closed = True
        await self._served.close()

    async def optimize(self) -> OptimizeReport:
        """Set the parameters for the present size and wait until the server has built the graph.

        `recall` is the worst recall@10 of the canary: without a filter, and for the commonest type and project.
        """
        return await self._served.optimize()

    async def verify(self) -> VerifyReport:
        """Check state, parameters and counts, and read points back at random."""
        return await self._served.verify()

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Build a new collection beside the old one from `points`, verify it, and switch to it.

        What is applied here meanwhile is kept and wins over the stream; searches never wait.
        """
        return await self._served.rebuild(points)

    async def remove_other_spaces(self) -> int:
        """Remove what other models of this dimension left on the server; return how many collections there were.

        Nobody follows them, so they would keep what is erased; they can be rebuilt when their model is chosen again.
        """
        self._link.require_open()
        return await self._served.generations.remove_other_spaces()

    async def telemetry(self) -> QdrantFacts:
        """Return what the server tells; never raises."""
        facts: dict[str, Any] = {}
        try:
            await self._tell(facts)
        except KnowledgeError as error:
            facts["error"] = error.message
        return QdrantFacts(**facts)

    async def _tell(self, facts: dict[str, Any]) -> None:
        """Collect facts one after the other: those that could be had stay when a later one cannot."""
        self._link.require_open()
        facts["version"] = (await self._link.ask("read the version", lambda api: api.service_api.root())).version
        facts["ready"] = await self._link.reaches("/readyz")
        facts["collections"] = tuple(await self._served.generations.collections())
        facts["collection"] = await self._served.generations.current() or ""
        health = await self._live.health()
        facts |= {"status": health.status, "optimizer_status": health.optimizer, "segments": health.segments}
        facts |= {"points": health.points, "indexed_vectors": health.indexed, "error": health.problem}

    @property
    def _live(self) -> Collection:
        return self._served.live

    @property
    def _link(self) -> Link:
        return self._served.live.link


def _imported() -> tuple[Any, Any]:
    """Import what needs the client."""
    wire = importlib.import_module("knowledge_system.storage.qdrant_wire")
    upkeep = importlib.import_module("knowledge_system.storage.qdrant_upkeep")
    return wire.Link, upkeep.served


def _wrong_dimension(got: int, wanted: int) -> UsageError:
    return UsageError(
        f"a vector of {got} values was given to an index of {wanted}",
        hint="Embed with the model of this index, or open the index of that model.",
    )
