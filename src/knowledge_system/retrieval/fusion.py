"""Scores of the arms become one relevance, comparable across questions.

``relevance = (mean(cosine of the whole, cosine of the best window) + WORDS_WEIGHT * share) / (1 + WORDS_WEIGHT)``
where ``share = bm25 / max(best bm25 of the question, EVIDENCE_PER_TERM * terms of the question)``.
Adding scores instead of reciprocal ranks keeps how much better a hit is; dividing by what a question of this length
can reach keeps a few accidental words from counting as much as a full match. `docs/decisions/0005-retrieval.md` has the
figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from knowledge_system.retrieval.gather import Arm, Arms

WORDS_WEIGHT: Final = 0.3
EVIDENCE_PER_TERM: Final = 3.0
"""BM25 that a term of the question brings when it is matched reasonably; less than that in sum is weak evidence."""
TYPICAL_COSINE: Final = 0.25
"""Cosine of a text that has no vector yet: that of a neighbour that is not relevant."""
SESSION_WEIGHT: Final = 0.3
SESSION_BEST: Final = 3
"""The best so many hits of a session speak for the session."""


@dataclass(slots=True)  # not frozen, which would take five times as long: hundreds are made for every search
class Fused:
    """One owner with its relevance in [0, 1] and what it rests on.

    `similarity` is the best cosine, 0 when no arm found it by meaning; ranks are from 1, None where the arm did not
    find it; `ordinal` is the passage that matched best by meaning. `notes` are reasons of others that stand in `why`.
    """

    owner_id: str
    relevance: float
    similarity: float = 0.0
    meaning_rank: int | None = None
    words_share: float = 0.0
    words_rank: int | None = None
    ordinal: int = 0
    notes: tuple[str, ...] = ()


def fuse(arms: Arms, terms: int) -> list[Fused]:
    """Return every owner found, most relevant first. `terms` is the number of meaningful words in the question."""
    whole, window, words = arms.whole.scores, arms.window.scores, arms.words.scores
    owners = arms.owners()
    scale = max(max(words.values(), default=0.0), EVIDENCE_PER_TERM * max(1, terms))
    share = np.maximum(_column(words, owners, 0.0), 0.0) / scale
    cosine = (_column(whole, owners, _floor(arms.whole)) + _column(window, owners, _floor(arms.window))) / 2
    relevance = np.clip((cosine + WORDS_WEIGHT * share) / (1 + WORDS_WEIGHT), 0.0, 1.0)
    similarity = np.clip(np.maximum(_column(whole, owners, 0.0), _column(window, owners, 0.0)), 0.0, 1.0)
    found = map(
        Fused,
        owners,
        relevance.tolist(),
        similarity.tolist(),
        map(arms.whole.ranks().get, owners),
        share.tolist(),
        map(arms.words.ranks().get, owners),
        map(arms.window.ordinals.get, owners, repeat(0)),
    )
    return sorted(found, key=lambda one: (-one.relevance, one.owner_id))


def _column(scores: Mapping[str, float], owners: Sequence[str], missing: float) -> NDArray[np.float64]:
    return np.fromiter(map(scores.get, owners, repeat(missing)), np.float64, len(owners))


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


def _floor(arm: Arm) -> float:
    return min(arm.scores.values()) if arm.cut and arm.scores else TYPICAL_COSINE
