"""Optimise, verify and rebuild on a Qdrant server, which works on while it is searched and written."""

from __future__ import annotations

import asyncio
import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from knowledge_system.domain.index import IndexFilter, IndexQuery, OptimizeReport, VerifyReport
from knowledge_system.storage.edge_engine import DENSE, WORDS
from knowledge_system.storage.edge_inspect import problems_of
from knowledge_system.storage.edge_live import Journal, Write, check_vectors
from knowledge_system.storage.edge_presets import needs_graph, preset_for
from knowledge_system.storage.qdrant_collection import health_of
from knowledge_system.storage.qdrant_generations import ServerGenerations
from knowledge_system.storage.qdrant_requests import follows, lacking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from numpy.typing import NDArray
    from qdrant_client.http import models

    from knowledge_system.domain.embedding import EmbeddingSpace
    from knowledge_system.domain.index import IndexPoint
    from knowledge_system.storage.qdrant_collection import Collection
    from knowledge_system.storage.qdrant_wire import Link

RECALL_WANTED: Final = 0.97
"""As of the embedded index: the least recall@10 of any class of the canary."""
_SAMPLE: Final = 100
"""Points that are read back and searched for; recall of the canary has a standard error of .005 at .97 then."""
_FILTERED: Final = 30
_TOP: Final = 10
_NOISE: Final = 0.5
"""As of the embedded index's canary: a cosine of about .9 to the stored passage."""
_FEW: Final = 1000
"""Journalled points that are replayed while writers wait."""
_FIRST_LOOK: Final = 0.02
_LONGEST_LOOK: Final = 2.0
"""Seconds between two looks at a collection that is being optimised: they double from the first to the longest."""
_CALM_LOOKS: Final = 2
"""Looks in succession that must find nothing to do: a change is taken up a moment after it was acknowledged."""
_MOST_PROBLEMS: Final = 20
_ROUNDING: Final = 1e-3


@dataclass(slots=True)
class Served:
    """What is searched and written. `writing` is held by whoever writes; `journal` collects writes of a rebuild."""

    live: Collection
    generations: ServerGenerations
    work_within: float
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    one: asyncio.Lock = field(default_factory=asyncio.Lock)
    journal: Journal | None = None

    async def apply(self, points: Sequence[IndexPoint], drop_owners: Sequence[str]) -> None:
        """Write to the server, and note it for the generation that is being built."""
        check_vectors(points, self.live.dimension)
        write = Write(tuple(points), tuple(drop_owners))
        async with self.writing:
            self.live.link.require_open()
            if not write.points and not write.drop_owners:
                return
            if self.journal is not None:
                self.journal.add(write)
            await self.live.write(write)

    async def optimize(self) -> OptimizeReport:
        """Give the collection the parameters of its size, wait until the server has followed, measure recall."""
        started = time.monotonic()
        self.live.link.require_open()
        async with self.one:
            collection = await self.generations.served()
            before, info = await collection.counts(), await collection.described()
            preset = preset_for(before.vectors, collection.dimension)
            # A grey collection has work that waits for a change of its parameters.
            changed = not follows(info, preset) or str(info.status) == "grey"
            if changed:
                await collection.configure(preset)
            detail = await settled(collection, self.work_within)
            after = await collection.counts()
            recall = await worst_recall(collection)
            swapped = not detail and (changed or after.indexed != before.indexed)
            detail = detail or _judged(recall) or ("" if swapped else "already optimal")
        return OptimizeReport(swapped, after.points, recall, time.monotonic() - started, detail)

    async def verify(self) -> VerifyReport:
        """Compare state, parameters and counts, and read points back at random."""
        self.live.link.require_open()
        info = await self.live.described()
        health = health_of(info)
        problems = [health.problem] if health.problem else []
        problems += [f"the field {name} has no payload index" for name in lacking(info)]
        counts = await self.live.counts()
        if counts.vectors > counts.points or counts.words > counts.points:
            problems.append(f"there are more vectors than points: {counts}")
        records = await self.live.sample(_SAMPLE)
        for record in records:
            dense, words = _stored(record, DENSE), _stored(record, WORDS)
            wrong = problems_of(record, self.live.dimension, dense, words)
            problems += [f"point {record.id}: {problem}" for problem in wrong]
        problems += await self._lost(records)
        return VerifyReport(not problems, counts.points, tuple(problems[:_MOST_PROBLEMS]))

    async def _lost(self, records: Sequence[models.Record]) -> list[str]:
        """Return which points an exact search for their own vector does not find, nor an equal of theirs."""
        with_vectors = [(record, vector) for record in records if any(vector := _stored(record, DENSE) or ())]
        queries = [IndexQuery(1, vector=array("f", vector)) for _, vector in with_vectors]
        answers = await self.live.query(queries, exact=True)
        return [
            f"point {record.id}: a search for its own vector does not find it"
            for (record, _), found in zip(with_vectors, answers, strict=True)
            if not found.scores or found.scores[0] < 1 - _ROUNDING
        ]

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Fill a new generation from the stream, prove it, bring it up to date, switch to it."""
        started = time.monotonic()
        self.live.link.require_open()
        async with self.one:
            fresh = await self.generations.begun()
            switched = False
            try:
                self.journal = Journal()
                problem = await self._proved(fresh, await self._filled(fresh, points))
                problem = problem or await self._taken_over(fresh)
                switched = not problem
            finally:
                self.journal = None
                if not switched:
                    await self.generations.discard(fresh)
            counts = await self.live.counts()
            recall = await worst_recall(self.live) if switched else 0.0
        detail = problem or _judged(recall)
        return OptimizeReport(switched, counts.points, recall, time.monotonic() - started, detail)

    async def _filled(self, fresh: Collection, points: AsyncIterator[Sequence[IndexPoint]]) -> int:
        """Write the stream; return how many different points it had."""
        different: set[str] = set()
        async for some in points:
            fresh.link.require_open()
            check_vectors(some, fresh.dimension)
            await fresh.write(Write(tuple(some), ()))
            different.update(point.id for point in some)
        return len(different)

    async def _proved(self, fresh: Collection, streamed: int) -> str:
        """Let the server build the graph; return what is wrong with the result."""
        counts = await fresh.counts()
        if counts.points != streamed:
            return f"the new collection has {counts.points} points, {streamed} were written to it"
        if needs_graph(counts.vectors, fresh.dimension):
            preset = preset_for(counts.vectors, fresh.dimension)
            if not follows(await fresh.described(), preset):
                await fresh.configure(preset)
        return await settled(fresh, self.work_within)

    async def _taken_over(self, fresh: Collection) -> str:
        """Replay what was written meanwhile and switch; returns why not, empty when done."""
        while self.journal is not None and self.journal.points > _FEW:
            await self._replay(fresh, self.journal)
        async with self.writing:
            self.live.link.require_open()
            if self.journal is not None:
                if self.journal.overflowed:
                    return "too much was written meanwhile: try again when it is quieter"
                await self._replay(fresh, self.journal)
            await self.generations.switch(fresh)
            self.live.size = fresh.size
        return ""

    async def close(self) -> None:
        """Refuse new work, let the one piece of maintenance find that out and clean up, close the connections."""
        self.live.link.closing = True
        async with self.one:
            await self.live.link.close()

    async def _replay(self, fresh: Collection, journal: Journal) -> None:
        for write in journal.take():
            await fresh.write(write)


async def served(link: Link, space: EmbeddingSpace, work_within: float) -> Served:
    """Open the index of a space on a server, creating it when there is none."""
    generations = ServerGenerations(link, space)
    return Served(await generations.opened(), generations, work_within)


async def settled(collection: Collection, within: float) -> str:
    """Wait until the server has nothing to optimise; return why that did not come true."""
    loop = asyncio.get_running_loop()
    latest, pause, calm = loop.time() + within, _FIRST_LOOK, 0
    while True:
        collection.link.require_open()
        health = await collection.health()
        if health.problem:
            return health.problem
        calm = calm + 1 if health.settled and not await collection.working() else 0
        if calm == _CALM_LOOKS:
            return ""
        if loop.time() > latest:
            return f"the server was still optimising after {within:g} s; it goes on by itself"
        await asyncio.sleep(pause)
        pause = min(_LONGEST_LOOK, pause * 2)


async def worst_recall(collection: Collection, seed: int = 0) -> float:
    """Return the worst recall@10 against exact search: without a filter, and for the commonest type and project.

    A hit counts when its score reaches the score of the tenth exact hit, so ties do not look like losses.
    """
    records = await collection.sample(_SAMPLE)
    dense = [vector for record in records if (vector := _stored(record, DENSE)) is not None]
    samples = _moved(np.asarray(dense, np.float32).reshape(-1, collection.dimension), seed)
    classes = [IndexFilter()]
    classes += [IndexFilter(types=(value,)) for value in await collection.values("type")]
    classes += [IndexFilter(projects=(value,)) for value in await collection.values("project")]
    worst = 1.0
    for where in classes:
        some = samples if where == IndexFilter() else samples[:_FILTERED]
        worst = min(worst, await _recall(collection, some, where))
    return worst


def _stored(record: models.Record, name: str) -> Any:
    return record.vector.get(name) if isinstance(record.vector, dict) else None


def _moved(samples: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the samples, every second one moved by noise."""
    noise = np.random.default_rng(seed).normal(size=samples.shape).astype(np.float32)
    noise *= _NOISE / np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), 1e-9)
    samples[::2] += noise[::2]
    return samples


async def _recall(collection: Collection, samples: NDArray[np.float32], where: IndexFilter) -> float:
    queries = [IndexQuery(_TOP, vector=array("f", sample.tobytes()), where=where) for sample in samples]
    right = wanted = 0
    got, exact = await collection.query(queries), await collection.query(queries, exact=True)
    for found, best in zip(got, exact, strict=True):
        wanted += len(best.scores)
        right += sum(1 for score in found.scores if best.scores and score >= best.scores[-1] - 1e-6)
    return min(1.0, right / wanted) if wanted else 1.0


def _judged(recall: float) -> str:
    return "" if recall >= RECALL_WANTED else f"recall@10 is {recall:.3f}, {RECALL_WANTED} is wanted"
