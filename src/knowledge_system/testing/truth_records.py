"""The records of the truth in memory: log, events, totals, checks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from knowledge_system.domain.search import SourceRef
from knowledge_system.domain.truth import Found, Totals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knowledge_system.domain.knowledge import KnowledgeItem
    from knowledge_system.domain.search import SearchLogEntry
    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.testing.truth_store import Store


class MemoryRecords:
    """The port `Ledger` over the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def found(self, owners: Sequence[str]) -> Found:
        """Return rows and places of owners."""
        items = {key: self._store.items[key] for key in owners if key in self._store.items}
        behind = [one.exchange_id for item in items.values() for one in item.evidence]
        stored = {key: self._store.exchanges[key].exchange for key in behind if key in self._store.exchanges}
        places = {key: SourceRef(one.path, one.session_id, one.index) for key, one in stored.items()}
        named = {key: self._store.exchanges[key].exchange for key in owners if key in self._store.exchanges}
        rows: dict[str, KnowledgeItem | Exchange] = {key: replace(one, tools=()) for key, one in named.items()}
        rows |= items
        return Found({key: rows[key] for key in owners if key in rows}, places)

    async def log_search(self, *entries: SearchLogEntry) -> None:
        """Append to the search log."""
        self._store.searches.extend(entries)

    async def record_event(self, kind: str, payload: Mapping[str, str | float]) -> None:
        """Append to the event log."""
        self._store.events.append((self._store.clock.now(), kind, dict(payload)))

    async def totals(self) -> Totals:
        """Return counts."""
        store = self._store
        stored = store.exchanges.values()
        return Totals(
            sessions=len(store.sessions),
            exchanges=len(store.exchanges),
            items=dict(Counter(one.status.value for one in store.items.values())),
            unlearned=sum(one.learned is None for one in stored),
            evidence=sum(len(one.evidence) for one in store.items.values()),
            searches=len(store.searches),
            vectors=dict(Counter(space for _, space in store.vectors)),
            sensitivity=dict(Counter(one.exchange.sensitivity.value for one in stored)),
            bytes_on_disk=0,
            last_exchange_at=max((one.ordered_at for one in stored), default=None),
        )

    async def check(self) -> list[str]:
        """Return broken invariants."""
        empty = [one.id for one in self._store.items.values() if not one.evidence]
        return [f"item has no evidence: {len(empty)} ({', '.join(empty)})"] if empty else []

    async def owners(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return ids in order."""
        return sorted(one for one in (*self._store.exchanges, *self._store.items) if one > after)[:limit]
