"""The caches of one process: the second level, the generation, and counts on their way into the database."""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from knowledge_system.domain.caching import CacheCount, Holding
from knowledge_system.domain.errors import KnowledgeError, UsageError
from knowledge_system.domain.events import CacheConsulted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.events import Event
    from knowledge_system.settings import Configuration
    from knowledge_system.storage.database import CacheState
    from knowledge_system.storage.redis_cache import RedisCache

MOST_OPERATIONS = 200
"""Operations counted by name; callers choose the names, so what comes after is counted as `other`."""
OTHER = "other"


class Caching(Protocol):
    """Whatever holds answers or vectors in memory."""

    async def cache_stats(self) -> Mapping[str, float]:
        """Return at least `size` and `bytes`, after dropping what an advanced generation made unreachable."""
        ...


class Caches:
    """What the caches of this process share with those of others, and what they tell them.

    Engines announce every look into a cache through `emit`; it is counted here and reaches the database with `flush`.
    """

    def __init__(self, parts: Parts, state: CacheState, l2: RedisCache | None) -> None:
        self._parts = parts
        self.state = state
        self.l2 = l2
        self._process = uuid.uuid4().hex
        self._holders: list[tuple[str, Caching]] = []
        self._forget: list[Callable[[], None]] = []
        self._generation = 0
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}
        self._operations: set[str] = set()
        self._noted = False

    def emit(self, event: Event) -> None:
        """Count what is about a cache, and hand every event on."""
        if isinstance(event, CacheConsulted):
            self._count(event)
        self._parts.emit(event)

    def watch(self, holder: Caching, forget: Callable[[], None] | None = None, name: str = "answers") -> None:
        """Count what `holder` has in memory, shown as `name`.

        `forget` is called when the caches were cleared, by whichever process.
        """
        self._holders.append((name, holder))
        if forget is not None:
            self._forget.append(forget)

    def leave_out(self, holder: Caching) -> None:
        """Count `holder` no longer."""
        self._holders = [(name, one) for name, one in self._holders if one is not holder]

    async def follow(self) -> None:
        """Look whether the caches were cleared meanwhile."""
        generation = await self.state.generation.current()
        if generation != self._generation:
            self._generation = generation
            for forget in self._forget:
                forget()

    async def holding(self) -> Holding:
        """Return what this process holds in memory."""
        stats = [await holder.cache_stats() for _, holder in self._holders]
        return Holding(int(sum(one["size"] for one in stats)), int(sum(one["bytes"] for one in stats)))

    async def held(self) -> list[dict[str, Any]]:
        """Return `name`, `entries` and `bytes` of every cache of this process."""
        stats = [(name, await holder.cache_stats()) for name, holder in self._holders]
        return [{"name": name, "entries": int(one["size"]), "bytes": int(one["bytes"])} for name, one in stats]

    async def flush(self) -> None:
        """Write what was counted since the last time. Raises KnowledgeError, and counts on, when that fails."""
        await self.follow()
        await self._flush(await self.holding())

    async def leave(self) -> None:
        """Write the last counts; where that fails they are lost, and nothing else is."""
        with contextlib.suppress(KnowledgeError):
            await self._flush(None)

    async def _flush(self, holding: Holding | None) -> None:
        counts, self._counts = self._counts, {}
        empty = holding is None or not holding.entries
        if not counts and empty and not self._noted:
            return
        rows = [CacheCount(*key, *sums) for key, sums in counts.items()]
        try:
            await self.state.book.add(self._process, rows, None if empty else holding)
        except KnowledgeError:
            for (operation, result), (requests, saved) in counts.items():
                self._add(operation, result, requests, saved)
            raise
        self._noted = not empty

    def _count(self, event: CacheConsulted) -> None:
        name = event.operation
        if name not in self._operations:
            name = name if len(self._operations) < MOST_OPERATIONS else OTHER
            self._operations.add(name)
        self._add(name, event.result, 1, event.saved_nano)

    def _add(self, operation: str, result: str, requests: int, saved_nano: int) -> None:
        known = self._counts.get((operation, result), (0, 0))
        self._counts[operation, result] = (known[0] + requests, known[1] + saved_nano)


async def open_caches(parts: Parts) -> Caches:
    """Return the caches of `parts`; they are closed with them. Raises UsageError for an impossible `cache.l2`."""
    database = await parts.database()
    chosen = parts.settings.tree.cache.l2
    l2 = await _second_level(parts, await database.instance_id()) if chosen.url else None
    caches = Caches(parts, database.cache_state(), l2)
    await caches.follow()
    parts.at_close(caches.leave)
    return caches


async def _second_level(parts: Parts, instance: str) -> RedisCache:
    from knowledge_system.storage.redis_cache import RedisCache, connected, is_local

    chosen = parts.settings.tree.cache.l2
    url = chosen.url or ""
    if chosen.private and not is_local(url):
        raise UsageError(
            "cache.l2.private is for a Redis on this machine only",
            hint="use a Unix socket or a loopback address, or set cache.l2.private to false",
        )
    client = connected(url)
    parts.at_close(client.aclose)
    return RedisCache(client, parts.emit, namespace=instance)


def fingerprint(tree: Configuration) -> str:
    """Return 16 hexadecimal digits that stand for the settings that shape answers: models, addresses, prices, order."""
    shaping = [section.model_dump(mode="json") for section in (tree.inference, tree.embeddings.remote)]
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]
