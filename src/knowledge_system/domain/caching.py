"""What all processes over one database know of their caches together: counts, and what is held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector

HITS = ("l1", "l2", "shared", "stale")
"""Results of a request that were answered without asking anew; the others are `miss` and `bypass` (not cacheable)."""


@dataclass(frozen=True, slots=True)
class CacheCount:
    """Requests of one operation with one result; `saved_nano` is what the answers cost when they were made."""

    operation: str
    result: str
    requests: int
    saved_nano: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """Entries that one process, or `processes` together, hold in memory."""

    entries: int
    bytes: int
    processes: int = 1


class CacheBook(Protocol):
    """The counts of all processes, by day; and what the living ones hold."""

    async def add(self, process: str, counts: Sequence[CacheCount], holding: Holding | None) -> None:
        """Add to the counts of today and note what `process` holds; None when it ends and holds nothing more."""
        ...

    async def counts(self, since: datetime | None = None) -> list[CacheCount]:
        """Return the counts since the day of `since` (default: all that are kept), by operation and result."""
        ...

    async def holding(self) -> Holding:
        """Return what processes hold that were heard of lately."""
        ...


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question of the search log and how often it was asked."""

    text: str
    times: int


class Questions(Protocol):
    """What is asked often, and the vectors kept for it. Only questions whose text the search log may hold."""

    async def most_asked(self, since: datetime, limit: int) -> tuple[list[AskedQuestion], int]:
        """Return the questions asked most since then, and how many distinct ones are known by their hash only."""
        ...

    async def keep(self, space: EmbeddingSpace, vectors: Mapping[str, Vector]) -> None:
        """Keep vectors of questions, by content hash, for every process."""
        ...

    async def kept(self, space: EmbeddingSpace, limit: int) -> dict[str, Vector]:
        """Return the vectors kept last, by content hash."""
        ...

    async def release(self) -> int:
        """Keep none any more; return how many there were."""
        ...

    async def count(self) -> int:
        """Return how many questions are kept, in any space."""
        ...
