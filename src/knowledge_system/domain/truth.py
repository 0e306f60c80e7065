"""Ports of the truth: what the database keeps. Narrow, by verb; one transaction a call."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from knowledge_system.domain.embedding import Coverage, EmbeddingSpace, Vector
    from knowledge_system.domain.knowledge import Evidence, KnowledgeItem
    from knowledge_system.domain.search import SearchLogEntry, SourceRef
    from knowledge_system.domain.sensitivity import Sensitivity
    from knowledge_system.domain.sessions import Exchange, ReadWarning, Session, SourceState

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """Return `text` as every database keeps it: NUL and lone surrogates become U+FFFD, nothing else changes."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return _UNSTORABLE.sub("\ufffd", text)


@dataclass(frozen=True, slots=True)
class SavedExchanges:
    """What a save did, in ids: `known` were there with the same or a longer text; `updated` grew."""

    new: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IngestBatch:
    """Everything one batch of a file writes, in one transaction."""

    sessions: tuple[Session, ...]
    exchanges: tuple[Exchange, ...]
    state: SourceState
    warnings: tuple[ReadWarning, ...] = ()
    placeholders: Mapping[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """Placeholder memory by session id."""
    follows: int | None = None
    """`revision` in the stored `resume` of the source that this batch rests on, 0 for none; None rests on nothing."""


class IngestLog(Protocol):
    """What has been read so far."""

    async def source(self, path: str) -> SourceState | None:
        """Return how far `path` has been read, or None."""
        ...

    async def placeholders(self, session_id: str) -> dict[str, dict[str, int]]:
        """Return the placeholder memory of a session, empty when it has none."""
        ...

    async def numbered(self, limit: int) -> frozenset[str] | None:
        """Return the ids of the sessions whose placeholder memory is not empty; None when they exceed `limit`."""
        ...

    async def save(self, batch: IngestBatch) -> SavedExchanges:
        """Store a batch: sessions, exchanges, outbox entries, source state; atomically.

        An exchange whose id was forgotten is counted as known and not stored. An exchange already stored is replaced
        only by a version with more text (it grew since), and is then to be learned again. Raises Busy, and stores
        nothing, when the source is at another revision than the batch follows.
        """
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """Filter and position of a listing: rows after the cursor `after`, newest first."""

    limit: int = 50
    after: str | None = None
    project: str | None = None
    type: str | None = None
    session_id: str | None = None
    include_inactive: bool = False


class Exchanges(Protocol):
    """Stored sessions and exchanges."""

    async def get(self, ids: Sequence[str], *, tools: bool = True) -> dict[str, Exchange]:
        """Return the exchanges that exist, by id; without their tool calls, most of their bytes, when not `tools`."""
        ...

    async def around(self, exchange_id: str, before: int, after: int) -> tuple[list[Exchange], list[Exchange]]:
        """Return up to `before` preceding and `after` following exchanges of the same session, in order."""
        ...

    async def page(self, page: Page) -> tuple[list[Exchange], str | None]:
        """Return one page, newest first, and the cursor of the next."""
        ...

    async def unlearned(self, limit: int) -> list[Exchange]:
        """Return exchanges that have not been judged since they were stored or grew, oldest first.

        At most `limit`, fewer when they are large; none only when there are none.
        """
        ...

    async def reconsider(self, ids: Sequence[str]) -> None:
        """Make exchanges unlearned again: what followed them sheds new light on what they were worth."""
        ...

    async def sessions(self, page: Page) -> tuple[list[Session], str | None]:
        """Return one page of sessions, newest first, and the cursor of the next."""
        ...

    async def forget(self, ids: Sequence[str]) -> int:
        """Erase exchanges and what rests on them alone, leave a tombstone so that no later ingest brings them back."""
        ...


@dataclass(frozen=True, slots=True)
class Learned:
    """What learning decided about some exchanges, stored in one transaction together with their new state."""

    judged: Mapping[str, str]
    """Exchange id → outcome: `item`, `merged`, or the reason for nothing."""
    created: tuple[KnowledgeItem, ...] = ()
    reinforced: tuple[tuple[str, tuple[Evidence, ...], float], ...] = ()
    """Existing item id, evidence it gains, its new confidence."""
    superseded: tuple[tuple[str, str], ...] = ()
    """Old item id, id of the item that replaces it."""
    withdrawn: tuple[str, ...] = ()
    """Items learned earlier from an exchange that has since grown and no longer supports them.

    Each loses the evidence of the exchanges judged here; what rests on others too stays, the rest is erased. An item
    that is also in `created` takes the new text and keeps its place in the history.
    """
    versions: Mapping[str, str] = field(default_factory=dict)
    """Exchange id → content hash that was judged; an exchange that grew meanwhile stays to be learned."""
    levels: Mapping[str, Sensitivity] = field(default_factory=dict)
    """Exchange id → level that its meaning asks for: it and the items that rest on it rise to it, never fall."""


class Items(Protocol):
    """Stored knowledge items."""

    async def get(self, ids: Sequence[str]) -> dict[str, KnowledgeItem]:
        """Return the items that exist, by id, whatever their status."""
        ...

    async def page(self, page: Page) -> tuple[list[KnowledgeItem], str | None]:
        """Return one page, newest first, and the cursor of the next."""
        ...

    async def learn(self, learned: Learned) -> None:
        """Store the outcome of learning: items, evidence, links, outbox entries, judged marks, levels; atomically.

        An item that gains evidence has at least the strictest level of the exchanges it rests on.
        """
        ...

    async def from_exchanges(self, exchange_ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the ids of the items that rest on each exchange."""
        ...

    async def supersede(self, old: str, new: str, at: datetime) -> None:
        """Mark `old` as replaced by `new`. Raises NotFound, or UsageError when it would close a circle."""
        ...

    async def believe(self, identity: str, confidence: float) -> None:
        """Give an item another confidence."""
        ...

    async def deprecate(self, identity: str, at: datetime) -> None:
        """Let an active item no longer be found by default: it is not true any more, and nothing replaces it."""
        ...

    async def forget(self, ids: Sequence[str]) -> int:
        """Erase items and leave tombstones so that learning does not bring them back."""
        ...

    async def load(self, records: Sequence[KnowledgeItem | Exchange | Session]) -> tuple[int, int]:
        """Store imported records as they are, known ids unchanged; return how many were new and how many known."""
        ...


class Vectors(Protocol):
    """Embeddings by content hash, per space; float32 little endian in the database."""

    async def get(self, space: EmbeddingSpace, hashes: Sequence[str]) -> dict[str, Vector]:
        """Return the vectors that exist."""
        ...

    async def put(self, space: EmbeddingSpace, vectors: Mapping[str, Vector]) -> None:
        """Store vectors; a hash that exists keeps its vector."""
        ...

    async def refer(self, owner_hashes: Mapping[str, Sequence[str]]) -> None:
        """Replace what these owners refer to: content hashes of their passages, whole first; the gone are ignored."""
        ...

    async def references(self, owners: Sequence[str]) -> dict[str, list[str]]:
        """Return the content hashes of the passages of each owner, whole first."""
        ...

    async def coverage(self, space: EmbeddingSpace, owners: Sequence[str] | None = None) -> Coverage:
        """Return how much of all living owners, or of those named, has its vector in `space`."""
        ...

    async def holds(self, space: EmbeddingSpace) -> bool:
        """Tell whether any vector of `space` is stored."""
        ...

    async def prune(self, spaces: Sequence[EmbeddingSpace], keep_from: datetime) -> int:
        """Delete vectors of other spaces than `spaces`, and of texts that nothing refers to; return how many.

        What was used at `keep_from` or later stays.
        """
        ...


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A change of the truth that the index has not seen: the owner may be an item or an exchange, living or gone."""

    sequence: int
    owner_id: str
    stage: str
    """`words`: not indexed at all yet; `vectors`: indexed by words, waits for embeddings.

    Where a second space is in use: `remote`: its index has still to follow; `remote-vectors`: waits for embeddings that
    cost money.
    """


class Outbox(Protocol):
    """Changes that the index has still to follow."""

    async def pending(self, stage: str, limit: int) -> list[OutboxEntry]:
        """Return the oldest entries of a stage."""
        ...

    async def advance(self, entries: Sequence[OutboxEntry], to: str | None) -> None:
        """Move entries to stage `to`, or remove them when `to` is None; entries that changed meanwhile stay."""
        ...

    async def depth(self) -> dict[str, int]:
        """Return the number of entries by stage."""
        ...

    async def fill(self, stage: str) -> int:
        """Enter every living owner at `stage` (after a rebuild into another space); return how many."""
        ...


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts for `status`: items by status, vectors by space, sensitivity by level of exchanges."""

    sessions: int
    exchanges: int
    items: Mapping[str, int]
    unlearned: int
    evidence: int
    searches: int
    vectors: Mapping[str, int]
    sensitivity: Mapping[str, int]
    bytes_on_disk: int
    last_exchange_at: datetime | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search shows of owners: living rows, and where the exchanges stand that the items among them rest on."""

    rows: Mapping[str, KnowledgeItem | Exchange]
    places: Mapping[str, SourceRef]


class Ledger(Protocol):
    """The rest: what a search reads and logs, events, totals, checks."""

    async def found(self, owners: Sequence[str]) -> Found:
        """Return the living rows of `owners`, exchanges without their tool calls, all of one moment.

        The one read of a search; everything else that is read by id comes from `Exchanges` and `Items`.
        """
        ...

    async def log_search(self, *entries: SearchLogEntry) -> None:
        """Append to the search log, in one transaction."""
        ...

    async def record_event(self, kind: str, payload: Mapping[str, str | int | float]) -> None:
        """Append to the event log."""
        ...

    async def totals(self) -> Totals:
        """Return counts over the whole database."""
        ...

    async def check(self) -> list[str]:
        """Return the problems found by the engine's integrity check and by our own invariants; empty when sound."""
        ...

    async def owners(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return ids of living items and exchanges in ascending order, after `after`: what the index should hold."""
        ...


@dataclass(frozen=True, slots=True)
class Truth:
    """The ports of one database, handed around together."""

    ingest: IngestLog
    exchanges: Exchanges
    items: Items
    vectors: Vectors
    outbox: Outbox
    ledger: Ledger
