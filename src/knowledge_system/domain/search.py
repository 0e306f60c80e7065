"""A question and its answer: request, hits, and what is logged."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge_system.domain.sensitivity import Sensitivity

DEFAULT_LIMIT = 10


class Scope(StrEnum):
    """What is searched."""

    ITEMS = "items"
    EXCHANGES = "exchanges"
    ALL = "all"


class Accuracy(StrEnum):
    """`high` asks for the larger embedding space where it covers the data."""

    NORMAL = "normal"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A question with its filters. `threshold` None means the default calibrated for the model; 0 hides nothing.

    `as_of` answers as the system would have answered then: later knowledge is left out, items superseded since count
    as current. `for_intent` is what the asker is about to do: items learned doing the same are a little preferred.
    """

    query: str
    scope: Scope = Scope.ALL
    types: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    since: datetime | None = None
    as_of: datetime | None = None
    accuracy: Accuracy = Accuracy.NORMAL
    threshold: float | None = None
    limit: int = DEFAULT_LIMIT
    include_deprecated: bool = False
    for_intent: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRef:
    """Where a hit comes from: file as given at ingest, session, and index of the exchange in the file."""

    path: str
    session_id: str
    exchange_index: int


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One ranked result; `why` explains its rank in words, one reason an entry."""

    id: str
    kind: str
    type: str | None
    title: str
    content: str
    score: float
    similarity: float
    confidence: float | None
    freshness: str
    project: str
    session_id: str
    created_at: datetime
    sensitivity: Sensitivity
    superseded_by: str | None
    why: tuple[str, ...]
    source: tuple[SourceRef, ...]


@dataclass(frozen=True, slots=True)
class SearchResponse:
    """The answer. `degraded` names what could not be used (`embedding-backlog`, `index-rebuilding`, …)."""

    request: SearchRequest
    results: tuple[SearchHit, ...]
    took_ms: float
    degraded: tuple[str, ...] = ()
    dropped: int = 0
    """Index hits that had no live row in the truth."""


@dataclass(frozen=True, slots=True)
class SearchLogEntry:
    """One search as it is logged; `query` is None when the text is sensitive and only its hash is kept."""

    created_at: datetime
    query: str | None
    query_hash: str
    scope: str
    filters: dict[str, str] = field(default_factory=dict)
    results: int = 0
    top_score: float | None = None
    took_ms: float = 0.0
    dropped: int = 0
