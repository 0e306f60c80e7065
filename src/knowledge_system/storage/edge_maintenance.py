"""Optimise, verify and rebuild: on another generation, in a child process, swapped in when it proved good."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError
from knowledge_system.domain.index import IndexPoint, OptimizeReport, VerifyReport
from knowledge_system.storage import index_manifest
from knowledge_system.storage.edge_live import Journal, Live, Write
from knowledge_system.storage.edge_presets import needs_graph
from knowledge_system.storage.edge_process import Answer, run_child
from knowledge_system.storage.edge_recovery import create_shard, load_generation
from knowledge_system.storage.index_files import allocated_bytes, copy_sparse, require_space, usable
from knowledge_system.storage.index_generations import Pointer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from knowledge_system.storage.edge_engine import Counts

_FEW = 1000
"""Journalled points that are replayed under the write lock: about 40 ms."""


class Maintenance:
    """Slow work, one piece at a time. `close` cancels what runs."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._one = asyncio.Lock()
        self._children: set[asyncio.Task[Answer]] = set()

    @contextlib.asynccontextmanager
    async def _other_generation(self) -> AsyncIterator[str]:
        """Name a new generation, alone; at the end it is the live one or it is removed."""
        live = self._live
        async with self._one:
            live.require_open()
            name = live.generations.fresh()
            try:
                yield name
            finally:
                live.journal = None
                if live.pointer.generation != name:
                    await live.on_files(live.generations.remove, name)

    async def optimize(self) -> OptimizeReport:
        """Optimise a copy in a child, replay what was written meanwhile, swap if its recall holds."""
        started = time.monotonic()
        async with self._other_generation() as name:
            return await self._optimize(name, started)

    async def _optimize(self, name: str, started: float) -> OptimizeReport:
        live = self._live
        await self._copy(name, journal=Journal())
        answer = await self._child("optimize", name)
        recalls = {str(key): float(value) for key, value in answer.facts.get("recalls", {}).items()}
        worst = min(recalls, key=recalls.__getitem__, default="")
        recall = recalls.get(worst, 0.0)
        detail = "; ".join(answer.problems)
        if not detail and not answer.facts.get("changed"):
            detail, recall = "already optimal", 1.0
        elif not detail and recall < live.options.recall_wanted:
            detail = f"recall {recall:.3f} of {worst} is below {live.options.recall_wanted}: the old copy stays"
        elif not detail:
            detail = await self._take_over(Pointer(name, live.pointer.rebuild))
        points = (await live.on_engine(live.shard.counts)).points
        swapped = live.pointer.generation == name
        return OptimizeReport(swapped, points, recall, time.monotonic() - started, detail)

    async def _copy(self, name: str, journal: Journal | None) -> Counts:
        """Flush and copy the current generation and count it; from that very state on writes are journalled."""
        live = self._live
        source = live.generations.path(live.pointer.generation)
        async with live.writing:
            live.require_open()
            await live.flush_locked()
            with usable(live.generations.root):
                needed = await live.on_files(allocated_bytes, source)
                require_space(live.generations.root, 2 * needed + live.options.minimum_free)
                await live.on_files(copy_sparse, source, live.generations.path(name))
            live.journal = journal
            return await live.on_engine(live.shard.counts)

    async def _take_over(self, pointer: Pointer) -> str:
        """Open the finished generation, bring it up to date, serve it. Returns why not, empty when done."""
        live = self._live
        shard = await live.on_engine(load_generation, live.generations, pointer.generation, live.shard.dimension)
        try:
            while live.journal is not None and live.journal.points > _FEW:
                await live.replay(shard, live.journal.take())
            async with live.writing:
                live.require_open()
                if live.journal is not None:
                    if live.journal.overflowed:
                        return "too much was written meanwhile: try again when it is quieter"
                    await live.replay(shard, live.journal.take())
                    live.journal = None
                await live.swap(pointer, shard)
        finally:
            if live.shard is not shard:
                await live.on_engine(shard.close)
        return ""

    async def verify(self) -> VerifyReport:
        """Copy the flushed generation; a child checks its files, loads it and reads everything."""
        async with self._other_generation() as name:
            counts = await self._copy(name, journal=None)
            answer = await self._child("verify", name)
        problems = list(answer.problems)
        copied = [answer.facts.get(fact) for fact in ("points", "vectors", "words")]
        if not problems and copied != [counts.points, counts.vectors, counts.words]:
            problems.append(f"the copy has {copied} points, vectors and word vectors, this process counts {counts}")
        return VerifyReport(not problems, counts.points, tuple(problems))

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Fill a new generation from the stream, verify it, swap; then optimise if it is large enough for a graph."""
        started = time.monotonic()
        async with self._other_generation() as name:
            report = await self._rebuild(name, points, started)
        counts = await self._live.on_engine(self._live.shard.counts)
        if not report.swapped or not needs_graph(counts.vectors, self._live.shard.dimension):
            return report
        graph = await self.optimize()
        return replace(report, recall=graph.recall if graph.swapped else 1.0, detail=graph.detail)

    async def _rebuild(self, name: str, points: AsyncIterator[Sequence[IndexPoint]], started: float) -> OptimizeReport:
        live = self._live
        async with live.writing:
            live.require_open()
            live.journal = Journal()
        await self._fill(name, points)
        answer = await self._child("check", name)
        detail = "; ".join(answer.problems) or await self._take_over(Pointer(name))
        counts = await live.on_engine(live.shard.counts)
        swapped = live.pointer.generation == name
        return OptimizeReport(swapped, counts.points, 1.0 if swapped else 0.0, time.monotonic() - started, detail)

    async def _fill(self, name: str, points: AsyncIterator[Sequence[IndexPoint]]) -> None:
        live = self._live
        shard = await live.on_engine(create_shard, live.generations, name, live.shard.dimension)
        try:
            async for some in points:
                live.require_open()
                require_space(live.generations.root, live.options.minimum_free)
                await live.replay(shard, [Write(tuple(some), ())])
        finally:
            await live.on_engine(shard.close)
        with usable(live.generations.root):
            await live.on_files(index_manifest.refresh, live.generations.path(name))

    async def _child(self, command: str, name: str) -> Answer:
        live = self._live
        work = run_child(command, live.generations.path(name), live.shard.dimension, live.options.work_deadline)
        task = asyncio.get_running_loop().create_task(work)
        self._children.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if live.closing:
                raise DependencyUnavailable("the index is being closed", hint="Open it again and repeat.") from None
            raise
        finally:
            self._children.discard(task)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, KnowledgeError):
                await task

    async def stop(self) -> None:
        """End the children and wait until whatever ran has cleaned up."""
        for task in self._children:
            task.cancel()
        async with self._one:
            pass
