"""The state behind `memory_truth`, with the rules that several ports share."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.knowledge import ItemStatus, KnowledgeItem
from knowledge_system.domain.sensitivity import Sensitivity, highest
from knowledge_system.domain.sessions import Exchange, Session, SourceState, normalised
from knowledge_system.domain.truth import OutboxEntry, SavedExchanges, storable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.search import SearchLogEntry

_T = TypeVar("_T")
Key = tuple[Any, ...]


def kept(value: _T) -> _T:
    """Return `value` as a database would give it back: storable texts, moments in UTC."""
    result: Any = value
    if isinstance(value, str) and type(value) is str:
        result = storable(value)
    elif isinstance(value, datetime):
        result = to_utc(value)
    elif isinstance(value, tuple | list):
        result = type(value)(kept(part) for part in value)
    elif isinstance(value, dict):
        result = {kept(key): kept(part) for key, part in value.items()}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in dataclasses.fields(value)]
        result = replace(value, **{name: kept(getattr(value, name)) for name in names})
    return result  # type: ignore[no-any-return]


def _length(exchange: Exchange) -> int:
    return len(exchange.user) + len(exchange.assistant) + sum(len(tool.output) for tool in exchange.tools)


@dataclass(slots=True)
class StoredExchange:
    """An exchange with what only the store knows."""

    exchange: Exchange
    ordered_at: datetime
    learned: str | None = None

    @property
    def key(self) -> Key:
        """The order of exchanges."""
        return (self.ordered_at, self.exchange.index, self.exchange.id)


@dataclass(slots=True)
class Store:
    """All state; the ports are views on it."""

    clock: Clock
    sessions: dict[str, Session] = field(default_factory=dict)
    first_seen: dict[str, datetime] = field(default_factory=dict)
    placeholders: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    sources: dict[str, SourceState] = field(default_factory=dict)
    exchanges: dict[str, StoredExchange] = field(default_factory=dict)
    items: dict[str, KnowledgeItem] = field(default_factory=dict)
    vectors: dict[tuple[str, str], tuple[Vector, datetime]] = field(default_factory=dict)
    passages: dict[str, list[str]] = field(default_factory=dict)
    outbox: dict[str, OutboxEntry] = field(default_factory=dict)
    tombstones: set[tuple[str, str]] = field(default_factory=set)
    events: list[tuple[datetime, str, dict[str, Any]]] = field(default_factory=list)
    searches: list[SearchLogEntry] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def announce(self, owners: Iterable[str], stage: str = "words") -> None:
        """Enter owners into the outbox."""
        for owner in dict.fromkeys(owners):
            self.outbox[owner] = OutboxEntry(next(self.numbers), owner, stage)

    def drop_passages(self, owner: str) -> None:
        """Erase what an owner refers to, and the vectors that nothing else refers to."""
        gone = set(self.passages.pop(owner, ()))
        gone -= {one for hashes in self.passages.values() for one in hashes}
        self.vectors = {key: value for key, value in self.vectors.items() if key[0] not in gone}

    def raise_levels(self, levels: Mapping[str, Sensitivity], changed: Collection[str]) -> None:
        """Raise exchanges, then the items that changed or rest on them to the strictest of their sources."""
        for key in levels.keys() & self.exchanges.keys():
            one = self.exchanges[key]
            one.exchange = replace(one.exchange, sensitivity=highest([one.exchange.sensitivity, levels[key]]))
            if levels[key] is Sensitivity.SECRET:
                self.drop_passages(key)
                self.announce([key])
        for key, item in self.items.items():
            behind = {one.exchange_id for one in item.evidence} & self.exchanges.keys()
            if key in changed or levels.keys() & behind:
                sources = [self.exchanges[one].exchange.sensitivity for one in behind]
                self.items[key] = replace(item, sensitivity=highest([item.sensitivity, *sources]))

    def save_session(self, new: Session) -> None:
        """Store a session together with what is known of it."""
        old = self.sessions.get(new.id, new)
        title = "" if (new.id, "session") in self.tombstones else new.title or old.title
        starts = [one.started_at for one in (old, new) if one.started_at]
        ends = [one.ended_at for one in (old, new) if one.ended_at]
        texts = ("project", "agent", "format", "path", "cwd", "git_branch", "parent_id")
        filled: dict[str, Any] = {name: getattr(new, name) or getattr(old, name) for name in texts}
        filled |= {"started_at": min(starts, default=None), "ended_at": max(ends, default=None)}
        self.sessions[new.id] = replace(new, title=title, metadata={**old.metadata, **new.metadata}, **filled)
        self.first_seen.setdefault(new.id, self.clock.now())

    def save_exchanges(self, offered: Iterable[Exchange], *, grow: bool = True) -> SavedExchanges:
        """Store exchanges; `grow` False leaves every exchange that is there as it is."""
        chosen: dict[str, Exchange] = {}
        for one in offered:
            if one.id not in chosen or _length(one) > _length(chosen[one.id]):
                chosen[one.id] = one
        living = {key: one for key, one in chosen.items() if (key, "exchange") not in self.tombstones}
        moments = self._moments(living.values())
        new, updated = [], []
        for key, one in living.items():
            if one.session_id not in self.sessions:
                self.save_session(Session(one.session_id, one.project, one.agent, "", one.path))
            known = self.exchanges.get(key)
            if known is None:
                new.append(key)
                self.exchanges[key] = StoredExchange(one, moments[key])
            elif grow and one.content_hash != known.exchange.content_hash and _length(one) > _length(known.exchange):
                updated.append(key)
                moment = one.timestamp if known.exchange.timestamp is None and one.timestamp else known.ordered_at
                level = highest([one.sensitivity, known.exchange.sensitivity])
                self.exchanges[key] = StoredExchange(replace(one, sensitivity=level), moment)
        self.announce([*new, *updated])
        rest = tuple(key for key in chosen if key not in {*new, *updated})
        return SavedExchanges(tuple(new), rest, tuple(updated))

    def _moments(self, batch: Iterable[Exchange]) -> dict[str, datetime]:
        moments: dict[str, datetime] = {}
        last: dict[tuple[str, str], datetime] = {}
        for one in sorted(batch, key=lambda one: (one.session_id, one.path, one.index)):
            session = self.sessions.get(one.session_id)
            start = session.started_at if session else None
            place = (one.session_id, one.path)
            moments[one.id] = last[place] = one.timestamp or last.get(place) or start or self.clock.now()
        return moments

    def forget_exchanges(self, ids: Iterable[str]) -> int:
        """Erase exchanges and what rests on them alone; return how many."""
        living = {key for key in ids if key in self.exchanges}
        prompts = [self.exchanges[key].exchange for key in living]
        for key in living:
            del self.exchanges[key]
            self.tombstones.add((key, "exchange"))
            self.drop_passages(key)
        left = {one.exchange.session_id for one in self.exchanges.values()}
        for one in prompts:
            self._forget_session(one, ended=one.session_id not in left)
        self.announce(sorted(living))
        self.take_evidence([item.id for item in self.items.values()], living)
        return len(living)

    def _forget_session(self, exchange: Exchange, *, ended: bool) -> None:
        session = self.sessions.get(exchange.session_id)
        title = normalised(session.title).casefold().rstrip("….") if session else ""
        if session is None or not (ended or (title and title in normalised(exchange.user).casefold())):
            return
        self.tombstones.add((session.id, "session"))
        self.sessions[session.id] = replace(session, title="")
        if ended:
            del self.sessions[session.id]
            self.placeholders.pop(session.id, None)

    def take_evidence(self, items: Iterable[str], lost: Collection[str]) -> None:
        """Take the evidence of the exchanges `lost` from items; erase those that have no other."""
        for key in items:
            item = self.items[key]
            evidence = tuple(one for one in item.evidence if one.exchange_id not in lost)
            if evidence != item.evidence:
                self.items[key] = recounted(replace(item, evidence=evidence), self.clock)
                self.announce([key])
                if not evidence:
                    self.forget_items([key])

    def forget_items(self, ids: Iterable[str], *, revive: bool = False, tombstone: bool = True) -> int:
        """Erase items; what they had replaced gets their successor, or stands alone."""
        gone = {key: self.items.pop(key) for key in ids if key in self.items}
        for key in gone:
            self.drop_passages(key)
            if tombstone:
                self.tombstones.add((key, "item"))
        for orphan in [one for one in self.items.values() if one.superseded_by in gone]:
            heir = orphan.superseded_by
            while heir in gone:
                heir = gone[heir].superseded_by
            values: dict[str, Any] = {"superseded_by": heir, "updated_at": self.clock.now()}
            if heir is None:
                values["status"] = ItemStatus.ACTIVE if revive else ItemStatus.DEPRECATED
                values["valid_to"] = None if revive else orphan.valid_to
            self.items[orphan.id] = replace(orphan, **values)
            self.announce([orphan.id])
        self.announce(gone)
        return len(gone)

    def closes_circle(self, old: str, new: str) -> bool:
        """Tell whether `new` is `old`, or is replaced by it through any number of steps."""
        step: str | None = new
        while step is not None:
            if step == old:
                return True
            step = self.items[step].superseded_by if step in self.items else None
        return False

    def supersede(self, old: str, new: str, at: datetime) -> None:
        """Let `new` take the place of `old` at a moment."""
        item = self.items[old]
        until, now = max(at, item.valid_from), self.clock.now()
        changed = {"status": ItemStatus.SUPERSEDED, "superseded_by": new, "valid_to": until, "updated_at": now}
        self.items[old] = replace(item, **changed)  # type: ignore[arg-type]
        self.announce([old, new])


def recounted(item: KnowledgeItem, clock: Clock) -> KnowledgeItem:
    """Return `item` with the number of exchanges behind it."""
    support = len({one.exchange_id for one in item.evidence})
    return replace(item, support=support, updated_at=clock.now())
