"""How much two sessions are alike: by goal, by what they are about, by what is wanted."""

from __future__ import annotations

from array import array
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Final

from knowledge_system.trajectory.goals import content_words
from knowledge_system.trajectory.prompts import read_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.trajectory import TrajectoryPoint

GOAL_SHARE: Final = 0.6
CONCEPT_SHARE: Final = 0.3
INTENT_SHARE: Final = 0.1


class Path:
    """A session by its last point."""

    def __init__(self, point: TrajectoryPoint) -> None:
        self.point = point

    @property
    def session_id(self) -> str:
        """Id of the session."""
        return self.point.session_id

    @property
    def goal(self) -> str:
        """What the session is for."""
        return self.point.goal

    @cached_property
    def words(self) -> frozenset[str]:
        """Content words of the goal."""
        return content_words(read_prompt(self.point.goal).words)

    @cached_property
    def weights(self) -> dict[str, float]:
        """Active concepts with their weights."""
        return {one.name: one.weight for one in self.point.concepts}


def alike(one: Path, other: Path, meaning: float | None = None) -> float:
    """Return the similarity of two sessions, in [0, 1]; `meaning` is the cosine of their goals, if it is known."""
    goal = _overlap(one.words, other.words) if meaning is None else max(0.0, meaning)
    intent = float(one.point.intent is not None and one.point.intent is other.point.intent)
    return min(1.0, GOAL_SHARE * goal + CONCEPT_SHARE * _shared(one, other) + INTENT_SHARE * intent)


def shortlist(own: Path, others: Sequence[Path], most: int) -> list[Path]:
    """Return the `most` that are most alike by words, concepts and intent."""
    return sorted(others, key=lambda other: (-alike(own, other), other.session_id))[:most]


def cosine(first: Vector, second: Vector) -> float:
    """Return the cosine of two vectors stored as 32-bit floats."""
    a, b = array("f", first), array("f", second)
    length = sqrt(sum(x * x for x in a)) * sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


def _overlap(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / len(first | second) if first and second else 0.0


def _shared(one: Path, other: Path) -> float:
    names = one.weights.keys() | other.weights.keys()
    least = sum(min(one.weights.get(name, 0.0), other.weights.get(name, 0.0)) for name in names)
    most = sum(max(one.weights.get(name, 0.0), other.weights.get(name, 0.0)) for name in names)
    return least / most if most else 0.0
