"""What processes share about their caches, in memory: the reference of the semantics of `domain.caching`."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from knowledge_system.domain.caching import AskedQuestion, CacheCount, Holding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.domain.search import SearchLogEntry

HEARD_WITHIN = timedelta(minutes=2)


class MemoryCacheBook:
    """A CacheBook."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests: Counter[tuple[date, str, str]] = Counter()
        self._saved: Counter[tuple[date, str, str]] = Counter()
        self._holdings: dict[str, tuple[Holding, datetime]] = {}

    async def add(self, process: str, counts: Sequence[CacheCount], holding: Holding | None) -> None:
        """Add, and note what the process holds."""
        now = self._clock.now()
        for one in counts:
            key = (now.date(), one.operation, one.result)
            self._requests[key] += one.requests
            self._saved[key] += one.saved_nano
        self._holdings.pop(process, None)
        if holding is not None:
            self._holdings[process] = (holding, now)

    async def counts(self, since: datetime | None = None) -> list[CacheCount]:
        """Return the sums."""
        requests: Counter[tuple[str, str]] = Counter()
        saved: Counter[tuple[str, str]] = Counter()
        for key, number in self._requests.items():
            if since is None or key[0] >= since.date():
                requests[key[1:]] += number
                saved[key[1:]] += self._saved[key]
        return [CacheCount(*key, requests[key], saved[key]) for key in sorted(requests)]

    async def holding(self) -> Holding:
        """Return the sums over the living."""
        limit = self._clock.now() - HEARD_WITHIN
        living = [one for one, seen in self._holdings.values() if seen > limit]
        return Holding(sum(one.entries for one in living), sum(one.bytes for one in living), len(living))


class MemoryQuestions:
    """Questions over a search log that is a list."""

    def __init__(self, log: Sequence[SearchLogEntry] = ()) -> None:
        self._log = log
        self._kept: dict[tuple[str, str], Vector] = {}

    async def most_asked(self, since: datetime, limit: int) -> tuple[list[AskedQuestion], int]:
        """Count."""
        recent = [entry for entry in self._log if entry.created_at >= since]
        newest = {entry.query: place for place, entry in enumerate(recent)}
        times = Counter(entry.query for entry in recent if entry.query is not None)
        often = sorted(times, key=lambda text: (-times[text], -newest[text]))
        hidden = {entry.query_hash for entry in recent if entry.query is None}
        return [AskedQuestion(text, times[text]) for text in often[:limit]], len(hidden)

    async def keep(self, space: EmbeddingSpace, vectors: Mapping[str, Vector]) -> None:
        """Keep, the newest last."""
        for key, vector in vectors.items():
            before = self._kept.pop((space.key, key), vector)
            self._kept[space.key, key] = before

    async def kept(self, space: EmbeddingSpace, limit: int) -> dict[str, Vector]:
        """Return the newest."""
        own = [(key, vector) for (name, key), vector in self._kept.items() if name == space.key]
        return dict(own[::-1][:limit])

    async def release(self) -> int:
        """Drop all."""
        count = len(self._kept)
        self._kept.clear()
        return count

    async def count(self) -> int:
        """Return how many there are."""
        return len(self._kept)
