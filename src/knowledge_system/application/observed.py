"""Ports that tell how long they took: thin wrappers, put around the real ones where those are made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from knowledge_system.domain.events import TextsEmbedded, VectorsSearched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from knowledge_system.domain.embedding import EmbeddingModel, EmbeddingSpace, Vector
    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.index import (
        IndexHits,
        IndexPoint,
        IndexQuery,
        IndexStatus,
        OptimizeReport,
        OwnedIndex,
        VerifyReport,
    )


class ObservedIndex:
    """Announces `VectorsSearched`; everything else is passed on."""

    def __init__(self, inner: OwnedIndex, dimension: int, emit: Emit) -> None:
        self.inner = inner
        self._dimension = dimension
        self._emit = emit

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        """Answer each query, best first."""
        began = time.perf_counter()
        found = await self.inner.query(queries)
        dense = sum(query.vector is not None for query in queries)
        if dense:
            self._emit(VectorsSearched(self._dimension, dense, time.perf_counter() - began))
        return found

    async def apply(self, points: Sequence[IndexPoint], drop_owners: Sequence[str] = ()) -> None:
        """Replace every point of `drop_owners` and upsert `points`."""
        await self.inner.apply(points, drop_owners)

    async def owners(self, after: str = "", limit: int = 1000) -> list[tuple[str, int]]:
        """Return `(owner_id, points)` in ascending order of id, after `after`."""
        return await self.inner.owners(after, limit)

    async def status(self) -> IndexStatus:
        """Return counts and health."""
        return await self.inner.status()

    async def flush(self) -> None:
        """Make everything applied so far durable."""
        await self.inner.flush()

    async def close(self) -> None:
        """Flush and release the files."""
        await self.inner.close()

    async def optimize(self) -> OptimizeReport:
        """Build or improve the graph."""
        return await self.inner.optimize()

    async def verify(self) -> VerifyReport:
        """Check files and contents."""
        return await self.inner.verify()

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Build a new index from `points` and swap it in."""
        return await self.inner.rebuild(points)


class ObservedModel:
    """Announces `TextsEmbedded`."""

    def __init__(self, inner: EmbeddingModel, emit: Emit) -> None:
        self._inner = inner
        self._emit = emit

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the model."""
        return self._inner.space

    @property
    def max_tokens(self) -> int:
        """As the model's."""
        return self._inner.max_tokens

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit-length vector per text, in order."""
        began = time.perf_counter()
        vectors = await self._inner.embed(texts)
        space = self.space
        self._emit(TextsEmbedded(space.key, space.dimension, len(texts), time.perf_counter() - began))
        return vectors
