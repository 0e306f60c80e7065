"""The generation being served: one engine thread, one file thread, one writer at a time, a journal for swaps."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError, UsageError
from knowledge_system.storage import index_manifest
from knowledge_system.storage.edge_engine import PIECE, prepare
from knowledge_system.storage.index_files import require_space, usable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from knowledge_system.domain.index import IndexPoint, IndexQuery
    from knowledge_system.storage.edge_engine import Shard
    from knowledge_system.storage.index_found import FoundPoints
    from knowledge_system.storage.index_generations import Generations, Pointer

QUERIES_AT_ONCE: Final = 32
"""Queries per engine call; each costs at most a few milliseconds of the interpreter lock."""
_MOST_JOURNAL: Final = 200_000
"""Points written during an optimisation beyond which it is given up rather than kept in memory (300 MB at 384)."""
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """Limits of the adapter. Times are seconds.

    `flush_after`: at most this long after a write everything is flushed. `minimum_free`: bytes that stay free on the
    disk. `open_deadline` and `work_deadline`: after them a child that checks files at opening, or one that optimises or
    verifies, is killed. `recall_wanted`: the least recall@10 of any class of the canary with which a copy is served.
    `lock_within`: how long opening waits for another process that still has the index. `distrust`: a reason not to
    load what is there, but to begin with an empty index that asks for a rebuild. `inline`: run the engine on the
    event loop, for a process that does nothing else; the engine holds the interpreter lock during a call anyway.
    """

    flush_after: float = 5.0
    minimum_free: int = 64 * 2**20
    open_deadline: float = 300.0
    work_deadline: float = 3600.0
    recall_wanted: float = 0.97
    lock_within: float = 0.0
    distrust: str = ""
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """One `apply`, kept for replaying on another copy."""

    points: tuple[IndexPoint, ...]
    drop_owners: tuple[str, ...]

    def replaced(self) -> Iterator[tuple[Sequence[str], set[str]]]:
        """Yield owners to remove in pieces, each with the ids of their points that this write brings.

        Whoever writes those first and removes the others then has an owner that is found all the while.
        """
        dropped = set(self.drop_owners)
        brought: dict[str, set[str]] = {}
        for point in self.points:
            if point.owner_id in dropped:
                brought.setdefault(point.owner_id, set()).add(point.id)
        for owners in _pieces(self.drop_owners):
            yield owners, {identity for owner in owners for identity in brought.get(owner, ())}


@dataclass(slots=True)
class Journal:
    """Writes made since a copy was taken. `overflowed` once they are too many to keep."""

    writes: list[Write] = field(default_factory=list)
    points: int = 0
    overflowed: bool = False

    def add(self, write: Write) -> None:
        """Remember a write."""
        self.points += len(write.points) + len(write.drop_owners)
        if self.points > _MOST_JOURNAL:
            self.overflowed = True
            self.writes.clear()
        if not self.overflowed:
            self.writes.append(write)

    def take(self) -> list[Write]:
        """Return the writes so far and forget them."""
        taken, self.writes, self.points = self.writes, [], 0
        return taken


class Live:
    """The open shard of the current generation. `writing` is held by whoever changes files."""

    def __init__(self, generations: Generations, pointer: Pointer, shard: Shard, options: EdgeOptions) -> None:
        self.generations = generations
        self.pointer = pointer
        self.shard = shard
        self.options = options
        self.writing = asyncio.Lock()
        self.journal: Journal | None = None
        self.flush_problem = ""
        self.version = 0
        self._dirty = True  # opening a shard already changes its files
        self._closing = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._engine = ThreadPoolExecutor(1, "index-engine")
        self._files = ThreadPoolExecutor(1, "index-files")

    @property
    def closing(self) -> bool:
        """Whether the index is closed or about to be."""
        return self._closing.is_set()

    async def on_engine(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run a call of the engine on its thread."""
        if self.options.inline:
            result = work(*arguments)
            await asyncio.sleep(0)  # searches get their turn
            return result
        return await _to_the_end(asyncio.get_running_loop().run_in_executor(self._engine, work, *arguments))

    async def on_files(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run file work on its thread; searches go on meanwhile."""
        return await _to_the_end(asyncio.get_running_loop().run_in_executor(self._files, work, *arguments))

    def require_open(self) -> None:
        """Raise DependencyUnavailable once the index is being closed."""
        if self.closing:
            raise DependencyUnavailable("the index is closed", hint="Open it again; nothing is lost.")

    async def apply(self, write: Write) -> None:
        """Write, journal, and make sure a flush follows within `flush_after` seconds."""
        check_vectors(write.points, self.shard.dimension)
        async with self.writing:
            self.require_open()
            if not write.points and not write.drop_owners:
                return
            require_space(self.generations.root, self.options.minimum_free)
            if not self._dirty:
                await self.on_files(self._mark_dirty)
            self.version += 1
            if self.journal is not None:
                self.journal.add(write)
            self.flush_soon()
            await self.replay(self.shard, [write])

    async def replay(self, shard: Shard, writes: Sequence[Write]) -> None:
        """Make writes on a shard in pieces, between which searches get their turn."""
        for write in writes:
            for points in _pieces(write.points):
                await self.on_engine(shard.upsert, await self.on_files(prepare, points))
            for owners, kept in write.replaced():
                await self.on_engine(shard.drop, owners, kept)

    async def query(self, queries: Sequence[IndexQuery]) -> list[FoundPoints]:
        """Search the current shard."""
        self.require_open()
        for query in queries:
            if query.vector is not None and len(query.vector) != self.shard.dimension:
                raise wrong_dimension(len(query.vector), self.shard.dimension)
        answers: list[FoundPoints] = []
        loop = asyncio.get_running_loop()
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[start : start + QUERIES_AT_ONCE]
            if self.options.inline:
                answers += self._query(some)
            else:
                answers += await loop.run_in_executor(self._engine, self._query, some)
        return answers

    def _query(self, queries: Sequence[IndexQuery]) -> list[FoundPoints]:
        return self.shard.query(queries)

    async def flush(self) -> None:
        """Flush and refresh the checksums, if anything may have changed."""
        async with self.writing:
            await self.flush_locked()

    async def flush_locked(self) -> None:
        """Do the work of `flush`; the caller holds `writing`."""
        if self._dirty:
            await self.on_engine(self.shard.flush)
            await self.on_files(self._refresh)
        self.flush_problem = ""

    def _mark_dirty(self) -> None:
        with usable(self.generations.root):
            index_manifest.mark_dirty(self.generations.path(self.pointer.generation))
        self._dirty = True

    def _refresh(self) -> None:
        with usable(self.generations.root):
            index_manifest.refresh(self.generations.path(self.pointer.generation))
        self._dirty = False

    def flush_soon(self) -> None:
        """Make sure that everything is flushed within `flush_after` seconds."""
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush_later())

    async def _flush_later(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.flush_after):
                await self._closing.wait()
                return
        try:
            await self.flush()
        except KnowledgeError as error:
            self.flush_problem = f"the last flush failed: {error.message}"

    async def swap(self, pointer: Pointer, shard: Shard) -> None:
        """Flush `shard` of another generation and serve it from now on; the caller holds `writing`."""
        await self.on_engine(shard.flush)
        with usable(self.generations.root):
            await self.on_files(index_manifest.refresh, self.generations.path(pointer.generation))
        old, old_pointer = self.shard, self.pointer
        # On the event loop: pointer and shard change together, whatever is cancelled when.
        self.generations.point_at(pointer)
        self.shard, self.pointer, self._dirty = shard, pointer, False
        self.version += 1
        await self.on_engine(old.close)
        await self.on_files(self.generations.remove, old_pointer.generation)

    def begin_closing(self) -> None:
        """Refuse new work; the flush timer ends."""
        self._closing.set()

    async def close(self) -> None:
        """Flush, release files, lock and threads."""
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        async with self.writing:
            try:
                await self.on_engine(self.shard.close)
                await self.on_files(self._refresh)
            finally:
                self.generations.release()
                self._engine.shutdown(wait=False)
                self._files.shutdown(wait=False)


async def _to_the_end(work: asyncio.Future[_Result]) -> _Result:
    """Wait for work on a thread; when cancelled, still until it has ended, so that locks cover what they protect."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _pieces(values: Sequence[_Result]) -> Iterator[Sequence[_Result]]:
    return (values[start : start + PIECE] for start in range(0, len(values), PIECE))


def check_vectors(points: Sequence[IndexPoint], dimension: int) -> None:
    """Raise UsageError for a vector of another dimension, or of values that are no numbers."""
    for point in points:
        if point.vector is None:
            continue
        if len(point.vector) != dimension:
            raise wrong_dimension(len(point.vector), dimension)
        if not np.isfinite(np.frombuffer(point.vector, np.float32)).all():
            raise UsageError(
                f"a vector of {point.owner_id} has values that are no numbers", hint="Embed the passage again."
            )


def wrong_dimension(got: int, wanted: int) -> UsageError:
    """Return the error for a vector of `got` values where `wanted` are."""
    return UsageError(
        f"a vector of {got} values was given to an index of {wanted}",
        hint="Embed with the model of this index, or open the index of that model.",
    )
