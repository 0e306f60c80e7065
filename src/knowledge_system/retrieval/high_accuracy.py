"""`--accuracy high`: a second opinion from the larger space, where it covers what the question is about.

Vectors of two spaces are never compared: the owners that the larger space finds are merged with those of the first one
by rank (reciprocal rank fusion, Cormack, Clarke and Büttcher 2009). The i-th of the merged order gets the i-th best
relevance of the first order, so threshold and ranking keep their scale. What the larger space has no vector of keeps
its own rank there as well: not being embedded is no verdict. Whatever keeps the larger space from answering leaves the
normal answer, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError, UsageError
from knowledge_system.domain.index import IndexQuery
from knowledge_system.domain.inference import BudgetExhausted, PriceUnknown, PrivacyRefused
from knowledge_system.retrieval.fusion import fuse
from knowledge_system.retrieval.gather import DEPTH, DEPTH_PER_RESULT, Arms, index_filter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.domain.index import VectorIndex
    from knowledge_system.domain.search import SearchRequest
    from knowledge_system.domain.sensitivity import Sensitivity
    from knowledge_system.domain.truth import Truth
    from knowledge_system.retrieval.fusion import Fused

ACCURACY_HIGH_UNAVAILABLE: Final = "accuracy-high-unavailable"
RANK_OFFSET: Final = 60
"""The constant of reciprocal rank fusion, as published: it keeps one list's first place from deciding alone."""
REASONS: Final = (
    (BudgetExhausted, "budget"),
    (PriceUnknown, "price"),
    (PrivacyRefused, "privacy"),
    (UsageError, "configuration"),
    (DependencyUnavailable, "provider"),
)
"""Error of the embedding call → what follows `accuracy-high-` in `degraded`."""


@dataclass(frozen=True, slots=True)
class Refined:
    """Owners in their new order; `degraded` is empty when the larger space took part."""

    found: Sequence[Fused]
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HighAccuracy:
    """The larger space as a search uses it.

    `truth` and `index` open what they are called after. `embed` returns the vector of a question of a level within the
    time a search can wait, or raises. `min_coverage` is the least share of the owners at hand that must have a vector
    there.
    """

    truth: Callable[[], Awaitable[Truth]]
    space: EmbeddingSpace
    index: Callable[[], Awaitable[VectorIndex]]
    embed: Callable[[str, Sensitivity], Awaitable[Vector]]
    min_coverage: float

    async def refine(
        self, request: SearchRequest, question: str, sensitivity: Sensitivity, found: Sequence[Fused]
    ) -> Refined:
        """Return `found` merged with what the larger space finds, or as it was, with the reason.

        Coverage is counted among the owners found, all of which passed the request's filter; where nothing was found,
        over everything. No money is spent when it is too low.
        """
        near = [one.owner_id for one in found]
        coverage = await (await self.truth()).vectors.coverage(self.space, near or None)
        if not coverage.covered or coverage.share < self.min_coverage:
            least = f"{coverage.covered} of {coverage.embeddable} entries at hand have a vector of {self.space.model}"
            return _normal(found, "coverage", f"{least}; `knowledge index backfill` adds them")
        try:
            index = await self.index()  # first: what cannot be searched needs no vector that costs money
            far = await _searched(index, request, await self.embed(question, sensitivity))
        except KnowledgeError as error:
            reason = next((name for kind, name in REASONS if isinstance(error, kind)), "provider")
            return _normal(found, reason, error.message)
        missing = {owner for owner in near if owner not in coverage.owners}
        return Refined(merged(found, far, missing, self.space.model))


def merged(near: Sequence[Fused], far: Sequence[Fused], missing: Collection[str], label: str) -> list[Fused]:
    """Merge two orders of owners by rank. `missing` are owners of `near` that the far space has no vector of."""
    own = {one.owner_id: rank for rank, one in enumerate(near, start=1)}
    other = {one.owner_id: rank for rank, one in enumerate(far, start=1)}
    other |= {owner: own[owner] for owner in missing if owner in own and owner not in other}

    def points(owner: str) -> float:
        return sum(1 / (RANK_OFFSET + ranks[owner]) for ranks in (own, other) if owner in ranks)

    order = sorted({*own, *other}, key=lambda owner: (-points(owner), own.get(owner, len(own) + 1), owner))
    scale = [one.relevance for one in near or far]
    known = {one.owner_id: replace(one, meaning_rank=None) for one in far} | {one.owner_id: one for one in near}
    notes = {one.owner_id: f"rank {rank} by meaning in {label}" for rank, one in enumerate(far, start=1)}
    return [
        replace(
            known[owner],
            relevance=scale[min(place, len(scale) - 1)],
            notes=(notes[owner],) if owner in notes else (),
        )
        for place, owner in enumerate(order)
    ]


async def _searched(index: VectorIndex, request: SearchRequest, vector: Vector) -> Sequence[Fused]:
    """Return the owners that the larger space finds, best first, by whole text and window as in the first space."""
    depth = max(DEPTH, DEPTH_PER_RESULT * request.limit)
    (near,) = await index.query([IndexQuery(depth, vector=vector, where=index_filter(request))])
    return fuse(Arms(near, cut=len(near) >= depth), 0)


def _normal(found: Sequence[Fused], reason: str, words: str) -> Refined:
    """Return the order as it was; every hit says why the larger space took no part."""
    note = f"normal accuracy: {words}"
    degraded = (ACCURACY_HIGH_UNAVAILABLE, f"accuracy-high-{reason}")
    return Refined([replace(one, notes=(*one.notes, note)) for one in found], degraded)
