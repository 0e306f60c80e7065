"""Embeddings by content hash and space, and which owner's passages they belong to."""

from __future__ import annotations

import contextlib
import sys
from array import array
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, func, insert, or_, select, update

from knowledge_system.domain.embedding import Coverage
from knowledge_system.domain.errors import Busy, DependencyUnavailable, UsageError
from knowledge_system.storage import hot_queries
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.schema import exchanges, knowledge_items, knowledge_vectors, passages
from knowledge_system.storage.statements import chunks, erase, present, upserting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector

TOUCH_AFTER = timedelta(days=1)
"""`last_used_at` is kept to the day: a search must not write for every vector it reads."""
FLOAT_BYTES = 4


def to_blob(vector: Vector) -> bytes:
    """Return the stored form: float32, little endian."""
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return vector.tobytes()


def from_blob(blob: bytes) -> Vector:
    """Invert `to_blob`."""
    vector = array("f")
    vector.frombytes(blob)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


class SqlVectors(SqlPort):
    """The port `Vectors` on SQL."""

    @uninterrupted
    async def get(self, space: EmbeddingSpace, hashes: Sequence[str]) -> dict[str, Vector]:
        """Return the vectors that exist; one whose bytes do not fit the dimension counts as missing."""
        found: dict[str, Vector] = {}
        stale: list[str] = []
        touch_before = self._clock.now() - TOUCH_AFTER

        def work(connection: Connection) -> None:
            for part in chunks(hashes):
                for row in connection.execute(hot_queries.vectors_by_hash(space.key, part)):
                    if len(row.embedding) == space.dimension * FLOAT_BYTES:
                        found[row.content_hash] = from_blob(row.embedding)
                    if row.last_used_at < touch_before:
                        stale.append(row.content_hash)

        if hashes:
            await self._connections.look(work)
        if stale:
            with contextlib.suppress(Busy, DependencyUnavailable):  # a note for pruning is not worth failing a search
                await self._touch(space, stale)
        return found

    @uninterrupted
    async def put(self, space: EmbeddingSpace, vectors: Mapping[str, Vector]) -> None:
        """Store vectors; a hash that exists keeps its vector. Raises UsageError for a vector of another dimension."""
        if any(len(vector) != space.dimension for vector in vectors.values()):
            raise UsageError(f"A vector does not fit the space {space.key}.", hint="embed with the model of this space")
        now = self._clock.now()
        own = {"space": space.key, "model": space.model, "dimension": space.dimension, "revision": space.revision}
        used = {"created_at": now, "last_used_at": now}
        rows = [{"content_hash": key, **own, **used, "embedding": to_blob(vector)} for key, vector in vectors.items()]
        if not rows:
            return

        def work(connection: Connection) -> None:
            statement = upserting(connection.dialect.name, knowledge_vectors)
            broken = func.length(knowledge_vectors.c.embedding) != space.dimension * FLOAT_BYTES
            statement = statement.on_conflict_do_update(
                index_elements=["content_hash", "space"],
                set_={"embedding": statement.excluded.embedding},
                where=broken,
            )
            connection.execute(statement, rows)

        await self._connections.change(work)

    @uninterrupted
    async def refer(self, owner_hashes: Mapping[str, Sequence[str]]) -> None:
        """Replace what these owners refer to: content hashes of their passages, whole first."""
        async with self._connections.write() as connection:
            living = await present(connection, exchanges.c.id, owner_hashes)
            living |= await present(connection, knowledge_items.c.id, owner_hashes)
            await erase(connection, passages.c.owner_id, living)
            rows = [
                {"owner_id": owner, "ordinal": ordinal, "content_hash": key}
                for owner, hashes in owner_hashes.items()
                if owner in living
                for ordinal, key in enumerate(hashes)
            ]
            if rows:
                await connection.execute(insert(passages), rows)

    @uninterrupted
    async def references(self, owners: Sequence[str]) -> dict[str, list[str]]:
        """Return the content hashes of the passages of each owner that has any, whole first."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        async with self._connections.read() as connection:
            for part in chunks(owners):
                for owner, key in await connection.execute(hot_queries.passages_of(part)):
                    found[owner].append(key)
        return dict(found)

    @uninterrupted
    async def coverage(self, space: EmbeddingSpace, owners: Sequence[str] | None = None) -> Coverage:
        """Return how much of all living owners, or of those named, has its vector in `space`."""
        tables = exchanges, knowledge_items
        embeddable = covered = 0
        found: set[str] = set()
        async with self._connections.read() as connection:
            if owners is None:
                for table in tables:
                    embeddable += await connection.scalar(hot_queries.embeddable_count(table)) or 0
                covered = await connection.scalar(hot_queries.covered_count(space.key)) or 0
            for part in chunks(owners or ()):
                for table in tables:
                    embeddable += await connection.scalar(hot_queries.embeddable_among(table, part)) or 0
                found.update((await connection.scalars(hot_queries.covered_among(space.key, part))).all())
        return Coverage(embeddable, min(covered + len(found), embeddable), frozenset(found))

    @uninterrupted
    async def holds(self, space: EmbeddingSpace) -> bool:
        """Tell whether any vector of `space` is stored."""
        async with self._connections.read() as connection:
            return await connection.scalar(hot_queries.first_of(space.key)) is not None

    @uninterrupted
    async def prune(self, spaces: Sequence[EmbeddingSpace], keep_from: datetime) -> int:
        """Delete vectors last used before `keep_from` that are of no space of `spaces` or that no owner refers to."""
        columns = knowledge_vectors.c
        referred = exists(select(passages.c.content_hash).where(passages.c.content_hash == columns.content_hash))
        unwanted = or_(columns.space.not_in([space.key for space in spaces]), ~referred)
        async with self._connections.write() as connection:
            statement = delete(knowledge_vectors).where(columns.last_used_at < keep_from, unwanted)
            return (await connection.execute(statement)).rowcount

    async def _touch(self, space: EmbeddingSpace, hashes: Sequence[str]) -> None:
        columns = knowledge_vectors.c
        now = self._clock.now()
        async with self._connections.write() as connection:
            for part in chunks(hashes):
                same = columns.content_hash.in_(part), columns.space == space.key
                await connection.execute(update(knowledge_vectors).where(*same).values(last_used_at=now))
