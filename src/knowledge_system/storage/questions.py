"""Questions that are asked often, and their vectors kept for every process: `cache warm` writes, searching reads.

The vectors lie where all vectors do (`knowledge_vectors`, by content hash and space); here is only which are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, func, select, update

from knowledge_system.domain.caching import AskedQuestion
from knowledge_system.storage.engine_schema import kept_questions
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.schema import knowledge_vectors, passages, search_logs
from knowledge_system.storage.statements import chunks, insert_or_replace
from knowledge_system.storage.vectors import FLOAT_BYTES, SqlVectors, from_blob

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector


class SqlQuestions(SqlPort):
    """The port `Questions` on SQL."""

    @uninterrupted
    async def most_asked(self, since: datetime, limit: int) -> tuple[list[AskedQuestion], int]:
        """Return the questions asked most since then, the newest of equals first, and how many are hashes only."""
        columns = search_logs.c
        often = (
            select(columns.query, func.count())
            .where(columns.created_at >= since, columns.query.is_not(None))
            .group_by(columns.query)
            .order_by(func.count().desc(), func.max(columns.id).desc())
            .limit(limit)
        )
        hidden = select(func.count(func.distinct(columns.query_hash))).where(
            columns.created_at >= since, columns.query.is_(None)
        )
        async with self._connections.read() as connection:
            rows = (await connection.execute(often)).all()
            return [AskedQuestion(text, int(times)) for text, times in rows], await connection.scalar(hidden) or 0

    @uninterrupted
    async def keep(self, space: EmbeddingSpace, vectors: Mapping[str, Vector]) -> None:
        """Keep vectors by content hash. Raises UsageError for a vector of another dimension."""
        await SqlVectors(self._connections, self._clock).put(space, vectors)
        now = self._clock.now()
        rows = [{"space": space.key, "content_hash": key, "kept_at": now} for key in vectors]
        stored = knowledge_vectors.c

        def apply(connection: Connection) -> None:
            insert_or_replace(connection, kept_questions, rows)
            for part in chunks(vectors):  # what is kept is used: pruning spares it
                same = stored.content_hash.in_(part), stored.space == space.key
                connection.execute(update(knowledge_vectors).where(*same).values(last_used_at=now))

        await self._connections.change(apply)

    @uninterrupted
    async def kept(self, space: EmbeddingSpace, limit: int) -> dict[str, Vector]:
        """Return the vectors kept last; one whose bytes do not fit the dimension counts as missing."""
        columns, stored = kept_questions.c, knowledge_vectors.c
        same = (stored.content_hash == columns.content_hash) & (stored.space == columns.space)
        statement = (
            select(columns.content_hash, stored.embedding)
            .join(knowledge_vectors, same)
            .where(columns.space == space.key)
            .order_by(columns.kept_at.desc(), columns.content_hash.desc())
            .limit(limit)
        )
        rows = await self._connections.look(lambda connection: connection.execute(statement).all())
        whole = space.dimension * FLOAT_BYTES
        return {key: from_blob(blob) for key, blob in rows if len(blob) == whole}

    @uninterrupted
    async def count(self) -> int:
        """Return how many questions are kept, in any space."""
        everything = select(func.count()).select_from(kept_questions)
        return await self._connections.look(lambda connection: connection.scalar(everything) or 0)

    @uninterrupted
    async def release(self) -> int:
        """Keep none any more, and erase the vectors that were there for no other reason."""
        columns, stored = kept_questions.c, knowledge_vectors.c
        kept = exists().where(columns.content_hash == stored.content_hash, columns.space == stored.space)
        referred = exists().where(passages.c.content_hash == stored.content_hash)
        async with self._connections.write() as connection:
            await connection.execute(delete(knowledge_vectors).where(kept, ~referred))
            return (await connection.execute(delete(kept_questions))).rowcount
