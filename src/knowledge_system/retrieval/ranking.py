"""Bounded, explained adjustments to the relevance, and the order of hits that belong together.

All adjustments of a hit multiply to a factor within `LEAST` and `MOST`, so none overturns a clear difference in
relevance. Exchanges are not adjusted for age: an old answer is as right as the code it is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from knowledge_system.domain.knowledge import KnowledgeItem
from knowledge_system.retrieval.candidates import Candidate, current, happened
from knowledge_system.retrieval.fusion import with_sessions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from knowledge_system.domain.search import SearchRequest
    from knowledge_system.domain.sessions import Exchange

LEAST: Final = 0.85
MOST: Final = 1.15
FRESH_DAYS: Final = 30
RECENT_DAYS: Final = 180
FRESHNESS_FACTOR: Final = {"fresh": 1.03, "recent": 1.01, "old": 1.0, "unknown": 1.0}
CONFIDENCE_SPAN: Final = 0.1
"""Between an item of confidence 0 and one of confidence 1."""
THIN_FACTOR: Final = 0.9
"""An answer that was interrupted or says next to nothing is seldom what somebody looks for weeks later."""
THIN_CHARACTERS: Final = 60
SAME_INTENT_FACTOR: Final = 1.02
"""A nudge between equals: what an item was learned for says little about what it is good for."""
REPLACED_FACTOR: Final = 0.85
LEADING_SHARE: Final = 0.75
"""An item leads its own exchange when it is at least so relevant in comparison."""
SAME_WORDS: Final = 0.9
"""Jaccard similarity of the word sets above which two texts say the same."""
COMPARED_CHARACTERS: Final = 4_000
LOOKED_AT_PER_RESULT: Final = 2
"""Candidates per result that are compared with each other, at most."""


def freshness(moment: datetime, now: datetime) -> str:
    """Return `fresh` up to 30 days, `recent` up to 180, `old` beyond, `unknown` for the time 0."""
    if moment.timestamp() == 0:
        return "unknown"
    age = (now - moment).days
    return "fresh" if age <= FRESH_DAYS else "recent" if age <= RECENT_DAYS else "old"


def rank(request: SearchRequest, candidates: Sequence[Candidate], now: datetime) -> list[Candidate]:
    """Return the candidates in their final order, scored and explained."""
    moved = _by_sessions(candidates)
    ranked = [_adjusted(request, one, moved[one.id], now) for one in candidates]
    ranked = _in_order(_items_lead(request, ranked))
    ranked = _fold_repeated(ranked, request.limit)
    return _replaced_below(_in_order(ranked))


def age(moment: datetime, now: datetime) -> str:
    """Return the age in words: `today`, `3 days ago`, `5 months ago`."""
    days = max(0, (now - moment).days)
    if days == 0:
        return "today"
    for size, unit in ((365, "year"), (30, "month"), (1, "day")):
        if days >= 2 * size or (size == 1 and days):
            return f"{days // size} {unit}{'s' if days // size > 1 else ''} ago"
    return "today"


def _by_sessions(candidates: Sequence[Candidate]) -> dict[str, float]:
    relevance = {one.id: one.score for one in candidates}
    kinds = {one.id: f"{isinstance(one.row, KnowledgeItem)}/{one.row.session_id}" for one in candidates}
    return with_sessions(relevance, kinds)


def _adjusted(request: SearchRequest, candidate: Candidate, score: float, now: datetime) -> Candidate:
    row = candidate.row
    factor, why = _item_factor(request, row, now) if isinstance(row, KnowledgeItem) else _exchange_factor(row, now)
    return candidate.moved(min(1.0, score * min(MOST, max(LEAST, factor))), why)


def _item_factor(request: SearchRequest, item: KnowledgeItem, now: datetime) -> tuple[float, list[str]]:
    moment = happened(item)
    factor = FRESHNESS_FACTOR[freshness(moment, now)] * (1 + CONFIDENCE_SPAN * (item.confidence - 0.5))
    why = [f"learned {age(moment, now)}", f"confidence {item.confidence:.2f}"]
    if request.for_intent is not None and item.intent == request.for_intent:
        factor *= SAME_INTENT_FACTOR
        why.append(f"learned while {item.intent}, as now")
    if not current(request, item):
        factor *= REPLACED_FACTOR
        why.append(f"superseded by {item.superseded_by}" if item.superseded_by else f"{item.status.value}")
    return factor, why


def _exchange_factor(exchange: Exchange, now: datetime) -> tuple[float, list[str]]:
    moment = happened(exchange)
    why = [] if freshness(moment, now) == "unknown" else [f"from {age(moment, now)}"]
    if exchange.facts.interrupted:
        return THIN_FACTOR, [*why, "ranked lower: the answer was interrupted"]
    if len(exchange.assistant.strip()) < THIN_CHARACTERS:
        return THIN_FACTOR, [*why, "ranked lower: hardly any answer"]
    return 1.0, why


def _items_lead(request: SearchRequest, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Let an item stand before the exchange it rests on, and fold that exchange into it."""
    exchanges = {one.id: one for one in candidates if not isinstance(one.row, KnowledgeItem)}
    changed: dict[str, Candidate] = {}
    for one in candidates:
        if not isinstance(one.row, KnowledgeItem) or not current(request, one.row):
            continue
        bases = [exchanges[key] for key in dict.fromkeys(e.exchange_id for e in one.row.evidence) if key in exchanges]
        near = [base for base in bases if one.score >= LEADING_SHARE * base.score]
        if not near:
            continue
        lead = max([one.score, *(base.score for base in near)])
        reason = f"rests on {len(near)} exchange{'s' if len(near) > 1 else ''} found as well"
        changed[one.id] = one.moved(lead, [reason])
        for base in near:
            note = f"told by {one.id} above"
            changed[base.id] = base.moved(base.score, [note], folded=True)
    return [changed.get(one.id, one) for one in candidates]


def _fold_repeated(ranked: Sequence[Candidate], limit: int) -> list[Candidate]:
    """Fold candidates that say the same as a better one of their kind, until `limit` stand that are shown."""
    kept: dict[bool, list[tuple[str, frozenset[str]]]] = {True: [], False: []}
    result: list[Candidate] = []
    standing = 0
    for one in ranked[: LOOKED_AT_PER_RESULT * limit]:
        row = one.row
        words = frozenset() if one.folded else _words_of(one)
        better = kept[isinstance(row, KnowledgeItem)]
        twin = _twin(words, better)
        if twin is not None:
            result.append(one.moved(one.score, [f"says the same as {twin}"], folded=True))
            continue
        if words:
            better.append((one.id, words))
        result.append(one)
        replaced = isinstance(row, KnowledgeItem) and row.superseded_by  # and moves further down
        standing += not one.folded and not replaced
        if standing == limit:
            break
    return [*result, *ranked[len(result) :]]


def _twin(words: frozenset[str], better: Iterable[tuple[str, frozenset[str]]]) -> str | None:
    """Return the first of `better` whose word set has a Jaccard similarity of at least `SAME_WORDS` with `words`."""
    size = len(words)
    least, most = SAME_WORDS * size, size / SAME_WORDS
    for identity, other in better:
        if least <= len(other) <= most:  # others cannot have enough in common
            common = len(words & other)
            if common >= SAME_WORDS * (size + len(other) - common):
                return identity
    return None


def _words_of(candidate: Candidate) -> frozenset[str]:
    row = candidate.row
    first, second = (row.title, row.content) if isinstance(row, KnowledgeItem) else (row.user, row.assistant)
    half = COMPARED_CHARACTERS // 2
    if len(second) <= half:
        return frozenset(f"{first[:half]} {second}".split())
    return frozenset((*first[:half].split(), *second[:half].split(), *second[half:][-half:].split()))


def _in_order(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sort by score, items before exchanges when equal, folded ones at the end."""
    return sorted(candidates, key=lambda one: (one.folded, -one.score, not isinstance(one.row, KnowledgeItem), one.id))


def _replaced_below(ranked: Sequence[Candidate]) -> list[Candidate]:
    """Move an item that was replaced to just below the one that replaced it, when both were found."""
    places = {one.id: place for place, one in enumerate(ranked)}
    moved: list[tuple[int, int, Candidate]] = []
    for place, one in enumerate(ranked):
        below = max(place, _place_of_successor(one, ranked, places))
        moved.append((below, place, one))
    moved.sort(key=lambda entry: (entry[0], entry[0] != entry[1], entry[1]))
    result = [one for _, _, one in moved]
    by_old = {one.row.superseded_by: one.id for one in result if isinstance(one.row, KnowledgeItem)}
    return [one.moved(one.score, [f"supersedes {by_old[one.id]}"]) if one.id in by_old else one for one in result]


def _place_of_successor(one: Candidate, ranked: Sequence[Candidate], places: dict[str, int]) -> int:
    """Return the place of the last item in the chain that replaced `one`, or -1."""
    place, seen = -1, {one.id}
    while isinstance(one.row, KnowledgeItem) and one.row.superseded_by in places:
        if one.row.superseded_by in seen:
            break
        seen.add(one.row.superseded_by)
        one = ranked[places[one.row.superseded_by]]
        place = max(place, places[one.id])
    return place
