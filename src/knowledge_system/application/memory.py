"""Watching the memory of the resident service: a sample a minute, and what it is made of when it is too much."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from knowledge_system.application.upkeep import Job
from knowledge_system.domain.clock import to_public
from knowledge_system.domain.events import MemoryHigh, MemoryMeasured
from knowledge_system.operations import memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from knowledge_system.application.compose import Parts
    from knowledge_system.operations.memory import Sample

Document = dict[str, Any]
FOLDER = "memory"
"""Directory in the home with samples and snapshots."""
_MB = 1_000_000


class MemoryMonitor:
    """Samples this process, keeps a day of samples here and in the home, and a snapshot when memory is above the limit.

    `take` is what measures; tests hand in their own.
    """

    def __init__(self, parts: Parts, take: Callable[[str], Sample] = memory.sample) -> None:
        self._parts = parts
        self._take = take
        self._log = memory.SampleLog(parts.home().path / FOLDER)
        self.samples: deque[Sample] = deque(maxlen=memory.KEPT)

    @property
    def limit(self) -> int:
        """Bytes that may be resident."""
        return self._parts.settings.tree.telemetry.memory_limit_mb * _MB

    def resident(self) -> int:
        """Return the bytes of this process that are resident now."""
        return memory.resident()

    async def look(self) -> None:
        """Take a sample; above the limit keep what memory is made of, at most once an hour (D61), and say so."""
        now = self._parts.clock.now()
        taken = await asyncio.to_thread(self._take, to_public(now))
        self.samples.append(taken)
        self._parts.emit(MemoryMeasured(taken.rss, taken.traced or 0, taken.gc_objects))
        await asyncio.to_thread(self._log.add, taken)
        if taken.rss > self.limit:
            path = await asyncio.to_thread(lambda: self._log.snapshot(now, lambda: self._made_of(taken)))
            self._parts.emit(MemoryHigh(taken.rss, self.limit, path.name if path else ""))

    async def document(self) -> Document:
        """Return what `knowledge doctor memory` shows of this process."""
        taken = await asyncio.to_thread(self._take, to_public(self._parts.clock.now()))
        document: Document = {
            "pid": taken.pid,
            "rss": taken.rss,
            "limit": self.limit,
            "traced": None if taken.traced is None else {"current": taken.traced, "peak": taken.traced_peak},
            "gc": {"objects": taken.gc_objects, "uncollectable": len(gc.garbage), "collections": _collections()},
            "caches": await _caches(self._parts),
            "processes": await asyncio.to_thread(_children),
            "growth": memory.growth(list(self.samples) or await asyncio.to_thread(self._log.read)),
            "types": await asyncio.to_thread(memory.types),
            "allocations": await asyncio.to_thread(memory.allocations),
        }
        return {**document, "guide": memory.guide(document, self.limit), "exit_code": 0}

    def _made_of(self, taken: Sample) -> Document:
        made_of = {"types": memory.types(50), "allocations": memory.allocations(50)}
        return {**asdict(taken), "limit": self.limit, **made_of}


def memory_job(monitor: MemoryMonitor) -> Job:
    """Return the regular look, for a resident process."""
    return Job("watch-memory", timedelta(seconds=memory.EVERY), monitor.look, timedelta(seconds=5))


async def _caches(parts: Parts) -> list[Document]:
    """Return the caches of this process with what bounds them."""
    most = parts.settings.tree.cache.l1.max
    return [{**one, "limit": most} for one in await (await parts.caches()).held()]


def _collections() -> list[int]:
    return [int(one["collections"]) for one in gc.get_stats()]


def _children() -> list[Document]:
    """Return the processes that this one has started: those of the index and the embedding model, for two."""
    import psutil

    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            words, name = child.cmdline(), child.name()
            if "-m" in words[:-1]:  # the module says more than the interpreter
                name = words[words.index("-m") + 1].rpartition(".")[2]
            found.append({"pid": child.pid, "name": name, "rss": child.memory_info().rss})
        except psutil.Error:
            continue
    return found
