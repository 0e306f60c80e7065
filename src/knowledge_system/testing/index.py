"""An index in memory: exact cosine search and BM25 in a few lines, for tests that need no files."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from knowledge_system.domain.errors import DependencyUnavailable, UsageError
from knowledge_system.domain.index import IndexHit, IndexHits, IndexStatus, OptimizeReport, VerifyReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.domain.index import IndexFilter, IndexPoint, IndexQuery

_K1: Final = 1.5
_B: Final = 0.75
_AVERAGE: Final = 128.0
_WORD: Final = re.compile(r"\w+")
_FIELDS: Final = {
    "kinds": "kind",
    "types": "type",
    "projects": "project",
    "views": "view",
    "statuses": "status",
    "intents": "intent",
}


@dataclass(slots=True)
class _Stored:
    point: IndexPoint
    words: Counter[str] = field(default_factory=Counter)


class MemoryIndex:
    """`VectorIndex` and `IndexMaintenance` in memory. Passes the contract suite of the real one.

    Words are lower-cased runs of letters and digits: no stemming, no splitting of identifiers. `flushes` counts calls;
    set `broken` to a reason and every call raises DependencyUnavailable.
    """

    def __init__(self, space: EmbeddingSpace) -> None:
        self.flushes = 0
        self.broken = ""
        self._space = space
        self._points: dict[str, _Stored] = {}
        self._closed = False

    async def apply(self, points: Sequence[IndexPoint], drop_owners: Sequence[str] = ()) -> None:
        """Replace every point of `drop_owners` and upsert `points`."""
        self._usable()
        for point in points:
            self._check(point.vector)
        dropped = set(drop_owners)
        self._points = {key: stored for key, stored in self._points.items() if stored.point.owner_id not in dropped}
        self._points.update({point.id: _Stored(point, Counter(_words(point.words))) for point in points})

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        """Answer each query exactly, best first."""
        self._usable()
        return [self._answer(query) for query in queries]

    def _answer(self, query: IndexQuery) -> IndexHits:
        self._check(query.vector)
        scores = self._words(query.words) if query.vector is None else self._dense(query.vector)
        hits = [
            IndexHit(stored.point.owner_id, stored.point.ordinal, stored.point.view, score)
            for key, score in scores.items()
            if matches((stored := self._points[key]).point, query.where)
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.owner_id, hit.ordinal))
        return IndexHits.of(hits[: max(0, query.limit)])

    def _dense(self, vector: Vector) -> dict[str, float]:
        keys = [key for key, stored in self._points.items() if stored.point.vector is not None]
        if not keys:
            return {}
        matrix = np.stack([np.asarray(self._points[key].point.vector, np.float32) for key in keys])
        query = np.asarray(vector, np.float32)
        norms = np.maximum(np.linalg.norm(matrix, axis=1) * np.linalg.norm(query), 1e-12)
        return dict(zip(keys, (matrix @ query / norms).tolist(), strict=True))

    def _words(self, text: str) -> dict[str, float]:
        with_words = {key: stored.words for key, stored in self._points.items() if stored.words}
        scores: Counter[str] = Counter()
        for term in set(_words(text)):
            having = {key: words for key, words in with_words.items() if term in words}
            idf = math.log1p((len(with_words) - len(having) + 0.5) / (len(having) + 0.5))
            for key, words in having.items():
                norm = _K1 * (1 - _B + _B * words.total() / _AVERAGE)
                scores[key] += idf * words[term] * (_K1 + 1) / (words[term] + norm)  # type: ignore[assignment]
        return dict(scores)

    async def owners(self, after: str = "", limit: int = 1000) -> list[tuple[str, int]]:
        """Return `(owner_id, points)` in ascending order of id, after `after`."""
        self._usable()
        counts = Counter(stored.point.owner_id for stored in self._points.values())
        return sorted((owner, count) for owner, count in counts.items() if owner > after)[:limit]

    async def status(self) -> IndexStatus:
        """Return counts; always healthy."""
        self._usable()
        vectors = sum(stored.point.vector is not None for stored in self._points.values())
        return IndexStatus("memory", self._space, len(self._points), vectors, 0, 0)

    async def flush(self) -> None:
        """Count the call; memory has nothing to flush."""
        self._usable()
        self.flushes += 1

    async def close(self) -> None:
        """Refuse further calls."""
        self._closed = True

    async def optimize(self) -> OptimizeReport:
        """Do nothing: the search is exact."""
        self._usable()
        return OptimizeReport(
            swapped=False, points=len(self._points), recall=1.0, seconds=0.0, detail="already optimal"
        )

    async def verify(self) -> VerifyReport:
        """Report what is there."""
        self._usable()
        return VerifyReport(ok=True, points=len(self._points))

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Replace everything by the stream, once the stream has ended well."""
        self._usable()
        built = MemoryIndex(self._space)
        async for some in points:
            await built.apply(some)
        self._points = built._points
        return OptimizeReport(swapped=True, points=len(self._points), recall=1.0, seconds=0.0)

    def _usable(self) -> None:
        if self._closed or self.broken:
            raise DependencyUnavailable(self.broken or "the index is closed", hint="Open it again.")

    def _check(self, vector: Vector | None) -> None:
        if vector is None:
            return
        if len(vector) != self._space.dimension or not np.isfinite(np.asarray(vector, np.float32)).all():
            raise UsageError(
                f"a vector of {len(vector)} values was given to an index of {self._space.dimension}",
                hint="Embed with the model of this index, or open the index of that model.",
            )


def matches(point: IndexPoint, where: IndexFilter) -> bool:
    """Return whether all conditions of `where` hold for the point; a missing fact fulfils none."""
    facts = {**point.payload, "view": point.view}
    for attribute, name in _FIELDS.items():
        wanted = getattr(where, attribute)
        if wanted and facts.get(name) not in wanted:
            return False
    created = facts.get("created")
    if where.created_from is None and where.created_to is None:
        return True
    return isinstance(created, (int, float)) and (
        (where.created_from is None or created >= where.created_from)
        and (where.created_to is None or created <= where.created_to)
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
