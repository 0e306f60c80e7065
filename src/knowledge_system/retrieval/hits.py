"""Candidates become hits: what is shown of a row, where it comes from, and why it stands where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.knowledge import KnowledgeItem
from knowledge_system.domain.search import SearchHit, SourceRef
from knowledge_system.retrieval.candidates import current, happened
from knowledge_system.retrieval.excerpts import excerpt, title
from knowledge_system.retrieval.ranking import freshness
from knowledge_system.retrieval.terms import found_terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from knowledge_system.domain.search import SearchRequest
    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.retrieval.candidates import Candidate

SHOWN_TERMS: Final = 6
SHOWN_SOURCES: Final = 20
MATCHED_CHARACTERS: Final = 20_000
"""Characters of a row in which the words of the question are looked for when its rank is explained."""
LATE_ORDINAL: Final = 2
"""Passages from this ordinal on come from the end of a long text."""


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """From where hits are looked at: the request, the meaningful words of its question, and the time."""

    request: SearchRequest
    terms: list[str]
    now: datetime


def present(ranked: Sequence[Candidate], places: Mapping[str, SourceRef], view: Viewpoint) -> tuple[SearchHit, ...]:
    """Return the hits for the ranked candidates; `places` tells where the exchanges behind items stand."""
    return tuple(
        item_hit(one, one.row, places, view) if isinstance(one.row, KnowledgeItem) else exchange_hit(one, one.row, view)
        for one in ranked
    )


def item_hit(candidate: Candidate, item: KnowledgeItem, places: Mapping[str, SourceRef], view: Viewpoint) -> SearchHit:
    """Return the hit of an item; its sources are the exchanges it rests on, as far as they still exist."""
    return SearchHit(
        id=item.id,
        kind="item",
        type=item.type.value,
        title=item.title,
        content=item.content,
        score=round(candidate.score, 4),
        similarity=round(candidate.found.similarity, 4),
        confidence=item.confidence,
        freshness=freshness(happened(item), view.now),
        project=item.project,
        session_id=item.session_id,
        created_at=item.valid_from,
        sensitivity=item.sensitivity,
        superseded_by=None if current(view.request, item) else item.superseded_by,
        why=_why(candidate, f"{item.title}\n{item.content}", view),
        source=tuple(places[key] for key in evidence_ids(item) if key in places),
    )


def exchange_hit(candidate: Candidate, exchange: Exchange, view: Viewpoint) -> SearchHit:
    """Return the hit of an exchange: its prompt's first line, and the part of its answer that matches."""
    late = candidate.found.ordinal >= LATE_ORDINAL
    return SearchHit(
        id=exchange.id,
        kind="exchange",
        type=None,
        title=title(exchange.user, exchange.assistant),
        content=excerpt(exchange.assistant.strip() or exchange.user, view.terms, late=late),
        score=round(candidate.score, 4),
        similarity=round(candidate.found.similarity, 4),
        confidence=None,
        freshness=freshness(happened(exchange), view.now),
        project=exchange.project,
        session_id=exchange.session_id,
        created_at=happened(exchange),
        sensitivity=exchange.sensitivity,
        superseded_by=None,
        why=_why(candidate, f"{exchange.user}\n{exchange.assistant}", view),
        source=(_source(exchange),),
    )


def evidence_ids(item: KnowledgeItem) -> list[str]:
    """Return the ids of the exchanges an item rests on, once each, at most `SHOWN_SOURCES`."""
    return list(dict.fromkeys(one.exchange_id for one in item.evidence))[:SHOWN_SOURCES]


def _why(candidate: Candidate, text: str, view: Viewpoint) -> tuple[str, ...]:
    same_project = ["same project"] if candidate.row.project in view.request.projects else []
    return (*_matches(candidate, text, view.terms), *same_project, *candidate.why)


def _matches(candidate: Candidate, text: str, terms: list[str]) -> list[str]:
    found = candidate.found
    reasons = []
    if found.similarity > 0:
        rank = f", rank {found.meaning_rank}" if found.meaning_rank else ""
        reasons.append(f"matches by meaning ({found.similarity:.2f}{rank})")
    if found.words_rank:
        words = found_terms(terms, text[:MATCHED_CHARACTERS])[:SHOWN_TERMS]
        reasons.append(f"matches the words: {', '.join(words)}" if words else "matches by words")
    return [*reasons, *found.notes]


def _source(exchange: Exchange) -> SourceRef:
    return SourceRef(exchange.path, exchange.session_id, exchange.index)
