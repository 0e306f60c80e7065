"""The path of a session: what the developer wants, what for, and how it goes; one point an exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from knowledge_system.domain.sessions import Exchange


class Intent(StrEnum):
    """What the developer wants from one prompt. No intent (None beside it) is an approval, a chore, small talk."""

    LEARNING = "learning"
    DEBUGGING = "debugging"
    FEATURE_DEV = "feature-dev"
    REFACTORING = "refactoring"
    TESTING = "testing"
    OPTIMIZATION = "optimization"
    DOCUMENTATION = "documentation"
    EXPLORATION = "exploration"


class SessionState(StrEnum):
    """How the session stands after an exchange."""

    EXPLORING = "exploring"
    IMPLEMENTING = "implementing"
    VERIFYING = "verifying"
    BLOCKED = "blocked"
    ON_TRACK = "on_track"
    OFF_TRACK = "off_track"


class Engagement(StrEnum):
    """Whether a concept is being learned (asked about, read up) or applied (used in edits and commands)."""

    LEARNING = "learning"
    APPLYING = "applying"


@dataclass(frozen=True, slots=True)
class ActiveConcept:
    """A technology, component or idea that the session is about now; `weight` in [0, 1] fades with distance."""

    name: str
    engagement: Engagement
    weight: float


@dataclass(frozen=True, slots=True)
class TrajectoryPoint:
    """Where a session stands after one exchange.

    Confidences are in [0, 1]. `changed` names what differs from the point before (`intent`, `goal`, `state`) and
    `trigger` says in words what the transcript showed. `method` is the name and version of what judged.
    """

    exchange_id: str
    session_id: str
    index: int
    at: datetime
    intent: Intent | None
    intent_confidence: float
    goal: str
    state: SessionState
    state_confidence: float
    concepts: tuple[ActiveConcept, ...] = ()
    changed: tuple[str, ...] = ()
    trigger: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class TrajectoryStatistics:
    """Sums over points: exchanges and seconds by state and intent, and transitions `(from, to) → count`."""

    sessions: int
    points: int
    intents: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, int] = field(default_factory=dict)
    seconds_in_state: Mapping[str, float] = field(default_factory=dict)
    state_transitions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    intent_transitions: Mapping[tuple[str, str], int] = field(default_factory=dict)


class Trajectories(Protocol):
    """Stored trajectories."""

    async def untracked(self, limit: int) -> list[Exchange]:
        """Return exchanges that have no point for their present content, in session order, oldest session first."""
        ...

    async def save(self, points: Sequence[TrajectoryPoint], versions: Mapping[str, str]) -> None:
        """Store points, replacing those of the same exchanges, and the intent of the exchanges; atomically.

        `versions` maps exchange id to the content hash that was judged; an exchange that grew stays untracked.
        """
        ...

    async def history(self, session_id: str) -> list[TrajectoryPoint]:
        """Return the points of a session in the order of its exchanges."""
        ...

    async def of(self, exchange_ids: Sequence[str]) -> dict[str, TrajectoryPoint]:
        """Return the points of these exchanges, as far as there are any, by exchange id."""
        ...

    async def latest(self, session_ids: Sequence[str]) -> dict[str, TrajectoryPoint]:
        """Return the last point of each session that has one."""
        ...

    async def statistics(self, project: str | None = None, since: datetime | None = None) -> TrajectoryStatistics:
        """Return sums over all sessions, or over those of a project or since a moment."""
        ...
