"""Is a candidate new, or does the knowledge already have it?

Two items are the same when they belong to one project and their texts are equal after folding white space and case, or
their vectors are at least `duplicate_at` alike (cosine). Across projects they stay apart: a filter by project must not
lose one of them; generalising over projects is the work of concepts.

Below `duplicate_at` likeness alone does not tell a second telling from a second fact. Where a model may be asked, it is
asked about such pairs (`doubtful_pairs`); where not, both items stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from knowledge_system.domain.sessions import normalised

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.knowledge import KnowledgeItem

DOUBT_KEPT = 0.7
"""Share of the remaining doubt (1 minus confidence) that survives another exchange saying the same."""
CONFIDENCE_CEILING = 0.99


@dataclass(frozen=True, slots=True)
class Known:
    """An item the knowledge already has, with its vector."""

    item: KnowledgeItem
    vector: Vector


class Relation(StrEnum):
    """How two items relate: they say the same, the newer replaces the older, or neither."""

    SAME = "same"
    SUPERSEDES = "supersedes"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Pair:
    """An item that is known and one that is new, and their cosine similarity; `older` was true first."""

    older: KnowledgeItem
    newer: KnowledgeItem
    likeness: float


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a model said about a pair, and which one under which prompt."""

    relation: Relation
    prompt: str
    provider: str
    model: str


def cosine(left: Vector, right: Vector) -> float:
    """Return the cosine similarity of two unit-length vectors."""
    return sum(a * b for a, b in zip(left, right, strict=True))


def duplicate_of(item: KnowledgeItem, vector: Vector, known: Iterable[Known], duplicate_at: float) -> Known | None:
    """Return the closest known item that says the same as `item`, or None."""
    text = _folded(item)
    best: tuple[float, Known] | None = None
    for one in known:
        if one.item.project != item.project or one.item.id == item.id:
            continue
        likeness = 1.0 if _folded(one.item) == text else cosine(vector, one.vector)
        if likeness >= duplicate_at and (best is None or likeness > best[0]):
            best = (likeness, one)
    return best[1] if best else None


def doubtful_pairs(
    item: KnowledgeItem, vector: Vector, known: Iterable[Known], between: tuple[float, float]
) -> list[Pair]:
    """Return `item` beside each known item of its project and type whose cosine lies in the half-open `between`.

    An item that is a duplicate anyway has no doubtful pairs: call this after `duplicate_of` found none. Items that are
    true since the same moment or in the other order count as well: they may say the same.
    """
    lowest, below = between
    found = []
    for one in known:
        other = one.item
        if other.id == item.id or (other.project, other.type) != (item.project, item.type):
            continue
        if lowest <= (likeness := cosine(vector, one.vector)) < below:
            older, newer = (other, item) if other.valid_from <= item.valid_from else (item, other)
            found.append(Pair(older, newer, likeness))
    return found


def reinforced(old: float, new: float) -> float:
    """Return the confidence of an item that another exchange supports with confidence `new`.

    The stronger of both, and of the doubt that remains `DOUBT_KEPT` survives: agreement helps, with a ceiling, because
    exchanges of one project are not independent witnesses.
    """
    stronger = max(old, new)
    return max(stronger, min(CONFIDENCE_CEILING, 1 - (1 - stronger) * DOUBT_KEPT))


def _folded(item: KnowledgeItem) -> str:
    return normalised(item.content).casefold()
