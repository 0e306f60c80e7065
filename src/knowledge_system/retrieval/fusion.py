"""Scores of the arms become one relevance, comparable across questions.

``relevance = (mean(cosine of the whole, cosine of the best window) + WORDS_WEIGHT * share) / (1 + WORDS_WEIGHT)``
where ``share = bm25 / max(best bm25 of the question, EVIDENCE_PER_TERM * terms of the question)``.
Adding scores instead of reciprocal ranks keeps how much better a hit is; dividing by what a question of this length
can reach keeps a few accidental words from counting as much as a full match. `docs/decisions/0005-retrieval.md` has the
figures.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, overload

from knowledge_system.domain.index import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from knowledge_system.retrieval.gather import Arms

WORDS_WEIGHT: Final = 0.3
EVIDENCE_PER_TERM: Final = 3.0
"""BM25 that a term of the question brings when it is matched reasonably; less than that in sum is weak evidence."""
TYPICAL_COSINE: Final = 0.25
"""Cosine of a text that has no vector yet: that of a neighbour that is not relevant."""
SESSION_WEIGHT: Final = 0.3
SESSION_BEST: Final = 3
"""The best so many hits of a session speak for the session."""


@dataclass(slots=True)  # not frozen, which would take five times as long: dozens are made for every search
class Fused:
    """One owner with its relevance in [0, 1] and what it rests on.

    `similarity` is the best cosine, 0 when no arm found it by meaning; ranks are from 1, equal for equal scores, None
    where the arm did not find it; `ordinal` is the window that matched best by meaning. `notes` are reasons of others
    that stand in `why`.
    """

    owner_id: str
    relevance: float
    similarity: float = 0.0
    meaning_rank: int | None = None
    words_share: float = 0.0
    words_rank: int | None = None
    ordinal: int = 0
    notes: tuple[str, ...] = ()


class Fusion(Sequence[Fused]):
    """Every owner found, most relevant first, equal ones in a fixed order. A `Fused` is made of those that are read."""

    __slots__ = ("_arms", "_order", "_scale")

    def __init__(self, arms: _Arms, order: list[tuple[float, bytes]], scale: float) -> None:
        """Take the relevance, negated, of every owner in ascending order; `scale` is a full match by words."""
        self._arms = arms
        self._order = order
        self._scale = scale

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> Fused: ...
    @overload
    def __getitem__(self, place: slice) -> list[Fused]: ...
    def __getitem__(self, place: int | slice) -> Fused | list[Fused]:
        """Return one, or those of a slice."""
        return self._made(self._order[place]) if isinstance(place, slice) else self._made([self._order[place]])[0]

    def __iter__(self) -> Iterator[Fused]:
        return iter(self._made(self._order))

    def _made(self, some: Sequence[tuple[float, bytes]]) -> list[Fused]:
        whole, window, words, ordinals = self._arms
        meaning_rank, words_rank = _ranks(whole), _ranks(words)
        return [
            Fused(
                owner_of(key),
                -negated,
                _bounded(max(whole.get(key, 0.0), window.get(key, 0.0))),
                meaning_rank(whole.get(key)),
                max(0.0, words.get(key, 0.0)) / self._scale,
                words_rank(words.get(key)),
                ordinals.get(key, 0),
            )
            for negated, key in some
        ]


class _Arms(NamedTuple):
    """Best scores by owner, falling: of the whole text, of a window, by words; and the ordinal of the best window."""

    whole: dict[bytes, float]
    window: dict[bytes, float]
    words: dict[bytes, float]
    ordinals: dict[bytes, int]


def fuse(arms: Arms, terms: int) -> Fusion:
    """Return every owner found, most relevant first. `terms` is the number of meaningful words in the question.

    One loop over plain numbers: between two searches the processor forgets what a few dozen calls of NumPy need, and a
    search spent .4 ms in them that take .15 one after the other.
    """
    best = _best(arms)
    whole, window, words, _ = best
    scale = max(max(words.values(), default=0.0), EVIDENCE_PER_TERM * max(1, terms))
    no_whole, no_window = _floor(whole, cut=arms.cut), _floor(window, cut=arms.cut)
    order = []
    for key in {**whole, **window, **words}:
        cosine = (whole.get(key, no_whole) + window.get(key, no_window)) / 2
        share = words.get(key, 0.0) / scale
        order.append((-_bounded((cosine + WORDS_WEIGHT * max(share, 0.0)) / (1 + WORDS_WEIGHT)), key))
    order.sort()
    return Fusion(best, order, scale)


def _best(arms: Arms) -> _Arms:
    best = _Arms({}, {}, {}, {})
    whole, window, words, ordinals = best
    for key, ordinal, score in zip(arms.near.keys, arms.near.ordinals, arms.near.scores, strict=True):
        if not ordinal:
            whole.setdefault(key, score)
        elif key not in window:
            window[key], ordinals[key] = score, ordinal
    for key, score in zip(arms.said.keys, arms.said.scores, strict=True):
        words.setdefault(key, score)
    return best


def _floor(best: Mapping[bytes, float], *, cut: bool) -> float:
    """Return the score of an owner that was not found."""
    return min(best.values()) if cut and best else TYPICAL_COSINE


def _ranks(best: Mapping[bytes, float]) -> Callable[[float | None], int | None]:
    """Return what tells the rank of a score, from 1, the same for equal scores."""
    falling = [-score for score in best.values()]
    return lambda score: None if score is None else 1 + bisect_left(falling, -score)


def _bounded(value: float) -> float:
    return 0.0 if value < 0 else min(value, 1.0)


def with_sessions(relevance: Mapping[str, float], sessions: Mapping[str, str]) -> dict[str, float]:
    """Return the relevance of each owner, moved towards that of its session; stays in [0, 1].

    A question is about a piece of work, and its answer is seldom alone: the exchanges around it speak of the same
    thing. A session with fewer than `SESSION_BEST` hits is filled up with the lowest relevance at hand.
    """
    lowest = min(relevance.values(), default=0.0)
    members: dict[str, list[float]] = {}
    for owner, value in relevance.items():
        members.setdefault(sessions[owner], []).append(value)
    level = {session: _level(values, lowest) for session, values in members.items()}
    return {
        owner: (value + SESSION_WEIGHT * level[sessions[owner]]) / (1 + SESSION_WEIGHT)
        for owner, value in relevance.items()
    }


def _level(values: Sequence[float], lowest: float) -> float:
    best = sorted(values, reverse=True)[:SESSION_BEST]
    return (sum(best) + lowest * (SESSION_BEST - len(best))) / SESSION_BEST
