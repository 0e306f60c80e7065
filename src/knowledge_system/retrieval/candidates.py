"""From owners the index named to rows the truth has, with every condition of the request checked on the row."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.knowledge import ItemStatus, KnowledgeItem
from knowledge_system.domain.search import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.domain.search import SearchRequest, SourceRef
    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.domain.truth import Truth
    from knowledge_system.retrieval.fusion import Fused

UNKNOWN_TIME: Final = datetime.fromtimestamp(0, UTC)
"""Time of an exchange whose transcript has none, as in the index."""


@dataclass(slots=True)  # not frozen, as `Fused`
class Candidate:
    """A living row that the index found, with its relevance, score so far and the reasons collected."""

    row: KnowledgeItem | Exchange
    found: Fused
    score: float
    why: tuple[str, ...] = ()
    folded: bool = False
    """True when it repeats a better hit and stands below everything that does not."""

    @property
    def id(self) -> str:
        """The id of the row."""
        return self.row.id

    def moved(self, score: float, why: Iterable[str] = (), *, folded: bool = False) -> Candidate:
        """Return the candidate with another score, further reasons, and folded if it is or was."""
        return Candidate(self.row, self.found, score, (*self.why, *why), folded or self.folded)


@dataclass(slots=True)
class Pool:
    """Candidates that passed, the number of index hits without a living row, and places of exchanges behind items."""

    candidates: list[Candidate] = field(default_factory=list)
    dropped: int = 0
    places: dict[str, SourceRef] = field(default_factory=dict)


async def read(truth: Truth, request: SearchRequest, found: Sequence[Fused], wanted: int) -> Pool:
    """Return up to `wanted` candidates in order of relevance; reads the truth in pages until there are enough."""
    pool = Pool()
    for start in range(0, len(found), wanted):
        page = found[start : start + wanted]
        known = await truth.ledger.found([one.owner_id for one in page])
        rows = known.rows
        pool.places.update(known.places)
        pool.dropped += sum(one.owner_id not in rows for one in page)
        pool.candidates += [
            Candidate(rows[one.owner_id], one, one.relevance)
            for one in page
            if one.owner_id in rows and accepts(request, rows[one.owner_id])
        ]
        if len(pool.candidates) >= wanted:
            break
    del pool.candidates[wanted:]
    return pool


def accepts(request: SearchRequest, row: KnowledgeItem | Exchange) -> bool:
    """Whether a row meets the conditions of the request, whatever the index said."""
    moment = happened(row)
    conditions = (
        not request.projects or row.project in request.projects,
        not request.intents or row.intent in request.intents,
        request.since is None or moment >= to_utc(request.since),
        request.as_of is None or moment <= to_utc(request.as_of),
        _of_scope(request, row),
    )
    return all(conditions)


def happened(row: KnowledgeItem | Exchange) -> datetime:
    """Return when an exchange took place, or when an item was learned to be true."""
    moment = row.valid_from if isinstance(row, KnowledgeItem) else row.timestamp
    return to_utc(moment) if moment else UNKNOWN_TIME


def current(request: SearchRequest, item: KnowledgeItem) -> bool:
    """Whether an item counts as current at the time the request looks from."""
    if request.as_of is None or item.valid_to is None:
        return item.status is ItemStatus.ACTIVE
    return to_utc(item.valid_to) > to_utc(request.as_of)


def _of_scope(request: SearchRequest, row: KnowledgeItem | Exchange) -> bool:
    if not isinstance(row, KnowledgeItem):
        return request.scope is not Scope.ITEMS and not request.types
    return (
        request.scope is not Scope.EXCHANGES
        and (not request.types or row.type.value in request.types)
        and (request.include_deprecated or current(request, row))
    )
