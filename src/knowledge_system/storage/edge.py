"""The vector index embedded in this process: `VectorIndex` and `IndexMaintenance` on Qdrant Edge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import Busy
from knowledge_system.domain.index import IndexStatus
from knowledge_system.storage.edge_live import EdgeOptions, Live, Write
from knowledge_system.storage.edge_maintenance import Maintenance
from knowledge_system.storage.edge_owners import Owners
from knowledge_system.storage.edge_recovery import open_current
from knowledge_system.storage.index_files import allocated_bytes
from knowledge_system.storage.index_generations import Generations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from knowledge_system.domain.embedding import EmbeddingSpace
    from knowledge_system.domain.index import (
        IndexHits,
        IndexPoint,
        IndexQuery,
        OptimizeReport,
        VerifyReport,
    )
    from knowledge_system.storage.index_found import FoundPoints

_LOOK_EVERY: Final = 0.02
"""Seconds between two attempts to get the lock."""


class EdgeIndex:
    """An index of one embedding space in a directory. Use it from one event loop.

    What `apply` acknowledged survives the end of the process, however it ends; a power failure can take what came after
    the last `flush`, so keep the outbox entries until then. `status().healthy` is False, with the reason in `detail`,
    after the files were found broken: the index then answers from what it has been given since, until `rebuild`.
    """

    def __init__(self, live: Live, space: EmbeddingSpace) -> None:
        self._live = live
        self._space = space
        self._maintenance = Maintenance(live)
        self._owners = Owners(live)
        self._closed = False

    @classmethod
    async def open(cls, directory: Path, space: EmbeddingSpace, options: EdgeOptions | None = None) -> EdgeIndex:
        """Open the index of `space` below `directory`, creating it when there is none.

        Broken files are no error: the index comes up empty and not healthy, for the caller to rebuild. Raises Busy
        when another process has it open, DependencyUnavailable when the directory cannot be used.
        """
        options = options or EdgeOptions()
        generations = Generations(directory, space)
        await _acquired(generations, options.lock_within)
        try:
            pointer, shard = await open_current(generations, space.dimension, options)
        except BaseException:
            generations.release()
            raise
        live = Live(generations, pointer, shard, options)
        live.flush_soon()
        return cls(live, space)

    async def apply(self, points: Sequence[IndexPoint], drop_owners: Sequence[str] = ()) -> None:
        """Replace every point of `drop_owners` and upsert `points`. Idempotent; durable after the next `flush`."""
        await self._live.apply(Write(tuple(points), tuple(drop_owners)))

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        """Answer each query, best first. Points without a vector are found by words only."""
        return [one.hits() for one in await self.found(queries)]

    async def found(self, queries: Sequence[IndexQuery]) -> list[FoundPoints]:
        """Answer each query as the engine does: for whoever hands the answer on."""
        return await self._live.query(queries)

    async def owners(self, after: str = "", limit: int = 1000) -> list[tuple[str, int]]:
        """Return `(owner_id, points)` in ascending order of id, after `after`: for comparing with the truth."""
        return await self._owners.page(after, limit)

    async def status(self) -> IndexStatus:
        """Return counts and health. `bytes_on_disk` counts allocated blocks, not the size of sparse files."""
        live = self._live
        live.require_open()
        counts = await live.on_engine(live.shard.counts)
        size = await live.on_files(allocated_bytes, live.generations.path(live.pointer.generation))
        return IndexStatus(
            backend="edge",
            space=self._space,
            points=counts.points,
            vectors=counts.vectors,
            indexed_vectors=counts.indexed,
            bytes_on_disk=size,
            healthy=not live.pointer.rebuild,
            detail=live.pointer.rebuild or live.flush_problem,
        )

    async def flush(self) -> None:
        """Make everything applied so far durable against power loss and refresh the checksums."""
        self._live.require_open()
        await self._live.flush()

    async def close(self) -> None:
        """Stop maintenance, flush and release the files. Calling it twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._live.begin_closing()
        await self._maintenance.stop()
        await self._live.close()

    async def optimize(self) -> OptimizeReport:
        """Build or improve the HNSW graph by size; swap only when recall against exact search holds.

        `recall` is the worst recall@10 of the canary's classes (unfiltered, and by kind, type, project, view, status).
        """
        return await self._maintenance.optimize()

    async def verify(self) -> VerifyReport:
        """Check checksums and load a copy in a child process; a crash there is a report, not a crash here."""
        return await self._maintenance.verify()

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Build a new index beside the old one from `points`, verify it, and swap it in.

        What is applied meanwhile is kept and wins over the stream. The index is healthy afterwards.
        """
        return await self._maintenance.rebuild(points)


async def _acquired(generations: Generations, within: float) -> None:
    """Lock the directory, waiting for a process that is about to end. Raises Busy when it has not ended by then."""
    loop = asyncio.get_running_loop()
    latest = loop.time() + within
    while True:
        try:
            return generations.acquire()
        except Busy:
            if loop.time() >= latest:
                raise
        await asyncio.sleep(_LOOK_EVERY)
