"""Knowledge items: typed, evidenced, reusable statements."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from knowledge_system.domain.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.sessions import Exchange


class KnowledgeType(StrEnum):
    """What kind of statement an item is."""

    CODING_PATTERN = "coding_pattern"
    BUG_SOLUTION = "bug_solution"
    TEST_STRATEGY = "test_strategy"
    ARCHITECTURAL_DECISION = "architectural_decision"
    DEPLOYMENT_APPROACH = "deployment_approach"
    IMPLEMENTATION_STRATEGY = "implementation_strategy"
    TOOL_USAGE = "tool_usage"
    OPTIMIZATION = "optimization"
    INTEGRATION_PATTERN = "integration_pattern"
    REFACTORING = "refactoring"


class ItemStatus(StrEnum):
    """`active` is found by default; `superseded` and `deprecated` only when asked for."""

    ACTIVE = "active"
    SUPERSEDED = "superseded"
    DEPRECATED = "deprecated"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where an item comes from: half-open character span in one field (`user`, `assistant`) of an exchange."""

    exchange_id: str
    field: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class KnowledgeItem:
    """One typed, evidenced, reusable statement.

    `confidence` is a calibrated probability in [0, 1]. `valid_from` is when it was learned to be true (the time of the
    exchange), `valid_to` when it was superseded or deprecated. `support` counts the exchanges behind it.
    """

    id: str
    type: KnowledgeType
    title: str
    content: str
    confidence: float
    project: str
    session_id: str
    created_at: datetime
    updated_at: datetime
    valid_from: datetime
    evidence: tuple[Evidence, ...]
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    status: ItemStatus = ItemStatus.ACTIVE
    valid_to: datetime | None = None
    superseded_by: str | None = None
    intent: str | None = None
    support: int = 1
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the extractor proposes for one exchange, before deduplication: no id, no dates yet."""

    type: KnowledgeType
    title: str
    content: str
    confidence: float
    evidence: tuple[Evidence, ...]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on one exchange: the items it is worth, or why it stays an exchange only.

    An empty `candidates` with a `reason` means "nothing to learn here", which is not the same as a failure to judge.
    """

    exchange_id: str
    candidates: tuple[Candidate, ...] = ()
    reason: str = ""
    plausibility: float | None = None
    """Of a rejected exchange: the probability that there is knowledge in it all the same; None: the reason is final."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One exchange to judge, with the exchanges around it in its session and the vectors of its own texts.

    `following` are the next exchanges (acceptance or correction shows there); `passages` are the exchange's passages
    with their vectors, in the order of `retrieval` passages, whole exchange first. `learned` are the items that were
    learned from it when it was judged before.
    """

    exchange: Exchange
    preceding: tuple[Exchange, ...]
    following: tuple[Exchange, ...]
    passages: tuple[tuple[str, Vector], ...]
    learned: tuple[KnowledgeItem, ...] = ()


class Extractor(Protocol):
    """Judges exchanges and proposes items."""

    @property
    def version(self) -> str:
        """Name and version of the method; stored with each item."""
        ...

    async def judge(self, episodes: Sequence[Episode]) -> list[Verdict]:
        """Return one verdict per episode, in order."""
        ...


def item_id(exchange_id: str, ordinal: int) -> str:
    """Return the identity of the `ordinal`-th item learned from an exchange: `k` and 24 hexadecimal digits."""
    return "k" + hashlib.sha256(f"{exchange_id}\0{ordinal}".encode()).hexdigest()[:24]
