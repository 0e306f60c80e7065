"""The truth in memory: the same ports and the same answers as the databases, nothing kept."""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.embedding import Coverage
from knowledge_system.domain.errors import NotFound, Overtaken, UsageError
from knowledge_system.domain.knowledge import ItemStatus, KnowledgeItem
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange, Session
from knowledge_system.domain.truth import OutboxEntry, Truth
from knowledge_system.testing.truth_records import MemoryRecords
from knowledge_system.testing.truth_store import Store, kept, recounted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.domain.knowledge import Evidence
    from knowledge_system.domain.sessions import SourceState
    from knowledge_system.domain.truth import IngestBatch, Learned, Page, SavedExchanges
    from knowledge_system.testing.truth_store import Key, StoredExchange

_T = TypeVar("_T")


def _cut(rows: Iterable[tuple[Key, _T]], page: Page) -> tuple[list[_T], str | None]:
    """Return a page of rows, newest first, and the cursor of the next; a cursor is a key as JSON."""
    ordered = sorted(rows, key=lambda row: row[0], reverse=True)
    if page.after is not None:
        position = _position(page.after)
        ordered = [row for row in ordered if row[0] < position]
    shown, more = ordered[: page.limit], len(ordered) > page.limit
    cursor = json.dumps([shown[-1][0][0].isoformat(), *shown[-1][0][1:]]) if more and shown else None
    return [row for _, row in shown], cursor


def _position(cursor: str) -> Key:
    try:
        moment, *rest = json.loads(cursor)
        return (datetime.fromisoformat(moment), *rest)
    except (ValueError, TypeError) as error:
        raise UsageError("The cursor does not belong to this listing.", hint="start over without it") from error


class _IngestLog:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def source(self, path: str) -> SourceState | None:
        return self._store.sources.get(path)

    async def placeholders(self, session_id: str) -> dict[str, dict[str, int]]:
        return self._store.placeholders.get(session_id, {})

    async def numbered(self, limit: int) -> frozenset[str] | None:
        found = frozenset(session for session, numbers in self._store.placeholders.items() if numbers)
        return found if len(found) <= limit else None

    async def save(self, batch: IngestBatch) -> SavedExchanges:
        store, batch = self._store, kept(batch)
        source = store.sources.get(batch.state.path)
        if batch.follows not in {None, source.resume.get("revision", 0) if source else 0}:
            raise Overtaken("the source was written meanwhile", hint="try again")
        for session in batch.sessions:
            store.save_session(session)
            if session.id in batch.placeholders:
                store.placeholders[session.id] = batch.placeholders[session.id]
        saved = store.save_exchanges(batch.exchanges)
        store.sources[batch.state.path] = batch.state
        now = store.clock.now()
        store.events += [(now, "transcript-warning", dataclasses.asdict(one)) for one in batch.warnings]
        return saved


class _Exchanges:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, ids: Sequence[str], *, tools: bool = True) -> dict[str, Exchange]:
        found = {key: self._store.exchanges[key].exchange for key in ids if key in self._store.exchanges}
        return found if tools else {key: dataclasses.replace(one, tools=()) for key, one in found.items()}

    async def around(self, exchange_id: str, before: int, after: int) -> tuple[list[Exchange], list[Exchange]]:
        anchor = self._store.exchanges.get(exchange_id)
        if anchor is None:
            return [], []
        same = anchor.exchange.session_id
        rows = sorted((one for one in self._rows() if one.exchange.session_id == same), key=lambda one: one.key)
        place = rows.index(anchor)
        preceding, following = rows[max(0, place - before) : place], rows[place + 1 : place + 1 + after]
        return [one.exchange for one in preceding], [one.exchange for one in following]

    async def page(self, page: Page) -> tuple[list[Exchange], str | None]:
        rows = (
            (one.key, one.exchange)
            for one in self._rows()
            if page.project in {None, one.exchange.project} and page.session_id in {None, one.exchange.session_id}
        )
        return _cut(rows, page)

    async def unlearned(self, limit: int) -> list[Exchange]:
        rows = sorted((one for one in self._rows() if one.learned is None), key=lambda one: one.key)
        return [one.exchange for one in rows[:limit]]

    async def reconsider(self, ids: Sequence[str]) -> None:
        for key in ids:
            if key in self._store.exchanges:
                self._store.exchanges[key].learned = None

    async def sessions(self, page: Page) -> tuple[list[Session], str | None]:
        rows = (
            ((one.started_at or self._store.first_seen[one.id], one.id), one)
            for one in self._store.sessions.values()
            if page.project in {None, one.project}
        )
        return _cut(rows, page)

    async def forget(self, ids: Sequence[str]) -> int:
        return self._store.forget_exchanges(ids)

    def _rows(self) -> list[StoredExchange]:
        return list(self._store.exchanges.values())


class _Items:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, ids: Sequence[str]) -> dict[str, KnowledgeItem]:
        return {key: self._store.items[key] for key in ids if key in self._store.items}

    async def page(self, page: Page) -> tuple[list[KnowledgeItem], str | None]:
        rows = (
            ((one.created_at, one.id), one)
            for one in self._store.items.values()
            if page.project in {None, one.project}
            and page.session_id in {None, one.session_id}
            and page.type in {None, one.type.value}
            and (page.include_inactive or one.status is ItemStatus.ACTIVE)
        )
        return _cut(rows, page)

    async def learn(self, learned: Learned) -> None:
        store, learned = self._store, kept(learned)
        for key, outcome in learned.judged.items():
            one = store.exchanges.get(key)
            if one and learned.versions.get(key, one.exchange.content_hash) == one.exchange.content_hash:
                one.learned = outcome
        created = [item for one in learned.created if (item := self._supported(one))]
        again = {one.id for one in created}
        for key in learned.withdrawn:
            if key in store.items and key not in again:
                self._withdraw(key, set(learned.judged))
        for item in created:
            self._create(item, renew=item.id in learned.withdrawn)
        for key, added, confidence in learned.reinforced:
            self._reinforce(key, added, confidence)
        for old, new in learned.superseded:
            self._supersede(old, new)
        changed = {one.id for one in created} | {key for key, _, _ in learned.reinforced}
        store.raise_levels(learned.levels, changed)

    def _supported(self, item: KnowledgeItem) -> KnowledgeItem | None:
        evidence = self._living(item.evidence)
        if not evidence or (item.id, "item") in self._store.tombstones:
            return None
        return _resting_on(item, evidence)

    def _living(self, evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
        return tuple(dict.fromkeys(one for one in evidence if one.exchange_id in self._store.exchanges))

    def _withdraw(self, key: str, judged: set[str]) -> None:
        behind = {one.exchange_id for one in self._store.items[key].evidence}
        if behind & judged and behind - judged:
            self._store.take_evidence([key], judged)
        else:
            self._store.forget_items([key], revive=True, tombstone=False)

    def _create(self, item: KnowledgeItem, *, renew: bool) -> None:
        old = self._store.items.get(item.id)
        if old is not None and renew:
            history = ("created_at", "status", "superseded_by", "valid_to")
            item = replace(item, **{name: getattr(old, name) for name in history})
            self._store.drop_passages(item.id)
        elif old is not None:
            evidence = tuple(dict.fromkeys((*old.evidence, *item.evidence)))
            item = old if evidence == old.evidence else recounted(replace(old, evidence=evidence), self._store.clock)
        self._store.items[item.id] = item
        self._store.announce([item.id])

    def _reinforce(self, key: str, added: Iterable[Evidence], confidence: float) -> None:
        item, living = self._store.items.get(key), self._living(added)
        if item and living:
            evidence = tuple(dict.fromkeys((*item.evidence, *living)))
            changed = replace(item, evidence=evidence, confidence=confidence)
            self._store.items[key] = recounted(changed, self._store.clock)
            self._store.announce([key])

    def _supersede(self, old: str, new: str) -> None:
        items = self._store.items
        known = old in items and new in items and items[old].superseded_by != new
        if known and not self._store.closes_circle(old, new):
            self._store.supersede(old, new, items[new].valid_from)

    async def from_exchanges(self, exchange_ids: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key in sorted(self._store.items):
            for exchange in {one.exchange_id for one in self._store.items[key].evidence} & set(exchange_ids):
                found.setdefault(exchange, []).append(key)
        return found

    async def supersede(self, old: str, new: str, at: datetime) -> None:
        missing = sorted({old, new} - set(self._store.items))
        if missing:
            raise NotFound(f"No item {', '.join(missing)}.", hint="`knowledge list` shows the ids")
        if self._store.closes_circle(old, new):
            raise UsageError(f"{new} is itself replaced by {old}.", hint="swap the two ids, or forget one of them")
        self._store.supersede(old, new, to_utc(at))

    async def believe(self, identity: str, confidence: float) -> None:
        if identity in self._store.items:
            self._store.items[identity] = replace(self._store.items[identity], confidence=confidence)
            self._store.announce([identity])

    async def deprecate(self, identity: str, at: datetime) -> None:
        item = self._store.items.get(identity)
        if item is not None and item.status is ItemStatus.ACTIVE:
            until = max(to_utc(at), item.valid_from)
            self._store.items[identity] = replace(item, status=ItemStatus.DEPRECATED, valid_to=until)
            self._store.announce([identity])

    async def forget(self, ids: Sequence[str]) -> int:
        return self._store.forget_items(ids)

    async def load(self, records: Sequence[KnowledgeItem | Exchange | Session]) -> tuple[int, int]:
        store, records = self._store, kept(list(records))
        new = 0
        for one in records:
            if isinstance(one, Session) and (one.id not in store.sessions or not store.sessions[one.id].format):
                store.save_session(one)
                new += 1
        new += len(store.save_exchanges([one for one in records if isinstance(one, Exchange)], grow=False).new)
        new += sum(self._load_item(one) for one in records if isinstance(one, KnowledgeItem))
        return new, len(records) - new

    def _load_item(self, item: KnowledgeItem) -> bool:
        evidence = tuple(one for one in item.evidence if (one.exchange_id, "exchange") not in self._store.tombstones)
        if item.id in self._store.items or (item.id, "item") in self._store.tombstones:
            return False
        if item.evidence and not evidence:
            return False
        self._store.items[item.id] = _resting_on(item, evidence)
        self._store.announce([item.id])
        return True


def _resting_on(item: KnowledgeItem, evidence: tuple[Evidence, ...]) -> KnowledgeItem:
    if evidence == item.evidence:
        return item
    return replace(item, evidence=evidence, support=len({one.exchange_id for one in evidence}))


class _Vectors:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, space: EmbeddingSpace, hashes: Sequence[str]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        for key in hashes:
            if (key, space.key) in self._store.vectors:
                vector, used = self._store.vectors[key, space.key]
                now = self._store.clock.now()
                if used < now - timedelta(days=1):
                    self._store.vectors[key, space.key] = (vector, now)
                found[key] = array("f", vector)
        return found

    async def put(self, space: EmbeddingSpace, vectors: Mapping[str, Vector]) -> None:
        if any(len(vector) != space.dimension for vector in vectors.values()):
            raise UsageError(f"A vector does not fit the space {space.key}.", hint="embed with the model of this space")
        for key, vector in vectors.items():
            self._store.vectors.setdefault((key, space.key), (array("f", vector), self._store.clock.now()))

    async def refer(self, owner_hashes: Mapping[str, Sequence[str]]) -> None:
        for owner, hashes in owner_hashes.items():
            if owner in self._store.exchanges or owner in self._store.items:
                self._store.passages[owner] = list(hashes)

    async def references(self, owners: Sequence[str]) -> dict[str, list[str]]:
        return {owner: list(self._store.passages[owner]) for owner in owners if self._store.passages.get(owner)}

    async def coverage(self, space: EmbeddingSpace, owners: Sequence[str] | None = None) -> Coverage:
        store = self._store
        levels = {key: one.exchange.sensitivity for key, one in store.exchanges.items()}
        levels |= {key: one.sensitivity for key, one in store.items.items()}
        asked = [key for key in levels if owners is None or key in owners]
        found = {key for key in asked for text in store.passages.get(key, ())[:1] if (text, space.key) in store.vectors}
        embeddable = sum(levels[key] is not Sensitivity.SECRET for key in asked)
        return Coverage(embeddable, min(len(found), embeddable), frozenset() if owners is None else frozenset(found))

    async def holds(self, space: EmbeddingSpace) -> bool:
        return any(place == space.key for _, place in self._store.vectors)

    async def prune(self, spaces: Sequence[EmbeddingSpace], keep_from: datetime) -> int:
        referred = {one for hashes in self._store.passages.values() for one in hashes}
        keys = {space.key for space in spaces}
        before = len(self._store.vectors)
        self._store.vectors = {
            (key, place): (vector, used)
            for (key, place), (vector, used) in self._store.vectors.items()
            if used >= to_utc(keep_from) or (place in keys and key in referred)
        }
        return before - len(self._store.vectors)


class _Outbox:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def pending(self, stage: str, limit: int) -> list[OutboxEntry]:
        entries = (one for one in self._store.outbox.values() if one.stage == stage)
        return sorted(entries, key=lambda one: one.sequence)[:limit]

    async def advance(self, entries: Sequence[OutboxEntry], to: str | None) -> None:
        for entry in entries:
            current = self._store.outbox.get(entry.owner_id)
            if current is None or current.sequence != entry.sequence:
                continue
            if to is None:
                del self._store.outbox[entry.owner_id]
            else:
                self._store.outbox[entry.owner_id] = replace(current, stage=to)

    async def depth(self) -> dict[str, int]:
        return dict(Counter(one.stage for one in self._store.outbox.values()))

    async def fill(self, stage: str) -> int:
        owners = [*self._store.exchanges, *self._store.items]
        waiting = {key for key, one in self._store.outbox.items() if one.stage == "words"}
        self._store.announce([one for one in owners if one not in waiting], stage)
        return len(owners)


def memory_truth(clock: Clock, store: Store | None = None) -> Truth:
    """Return an empty truth that lives as long as its ports; it passes the contract suite of the databases.

    With a `store` others (`MemoryTrajectories`) can look at the same state.
    """
    store = Store(clock) if store is None else store
    return Truth(
        ingest=_IngestLog(store),
        exchanges=_Exchanges(store),
        items=_Items(store),
        vectors=_Vectors(store),
        outbox=_Outbox(store),
        ledger=MemoryRecords(store),
    )
