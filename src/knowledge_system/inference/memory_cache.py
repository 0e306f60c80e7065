"""The first cache level: in this process, bounded by entries and bytes, least recently used goes first."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OVERHEAD = 200
"""Bytes counted for an entry beside its key and value."""


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    expires: float


class MemoryCache:
    """A ResponseCache in memory. An expired entry stays until its room is needed: `stale` may still serve it."""

    def __init__(self, max_entries: int, max_bytes: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._bytes = 0
        self._hits = 0
        self._misses = 0

    async def get(self, key: str) -> tuple[bytes, float] | None:
        """Return a value that is still fresh, and the seconds it has left."""
        entry = self._entries.get(key)
        left = 0.0 if entry is None else entry.expires - self._monotonic()
        if entry is None or left <= 0:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return entry.value, left

    def stale(self, key: str) -> bytes | None:
        """Return a value whatever its age: better than nothing when nothing else may be had."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Store; a value larger than the whole cache, or without time to live, is not stored."""
        self._drop(key)
        size = _size(key, value)
        if ttl <= 0 or size > self._max_bytes or self._max_entries <= 0:
            return
        self._entries[key] = _Entry(value, self._monotonic() + ttl)
        self._bytes += size
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def clear(self) -> int:
        """Remove everything; return how many entries there were."""
        count = len(self._entries)
        self._entries.clear()
        self._bytes = 0
        return count

    async def stats(self) -> Mapping[str, float]:
        """Return hits, misses, size and bytes of this process."""
        return {"hits": self._hits, "misses": self._misses, "size": len(self._entries), "bytes": self._bytes}

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry.value)


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _OVERHEAD
