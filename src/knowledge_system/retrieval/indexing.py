"""The index follows the truth: the outbox is drained in two stages, words first, vectors when they are computed.

Every step is idempotent and ordered apply → flush → advance, so a crash at any point repeats work and loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from knowledge_system.domain.errors import IndexUnavailable, ModelUnavailable
from knowledge_system.domain.index import IndexPoint
from knowledge_system.domain.knowledge import KnowledgeItem
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.tracing import span
from knowledge_system.retrieval.passages import (
    exchange_passages,
    exchange_words,
    indexed_part,
    item_passages,
    item_words,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from knowledge_system.domain.embedding import EmbeddingModel, Passage, Vector
    from knowledge_system.domain.index import IndexMaintenance, OptimizeReport, VectorIndex
    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.domain.truth import OutboxEntry, Truth

STAGES = ("words", "vectors")
"""Stages of the outbox that this index has to follow; a second space has stages of its own, after these."""
WORDS_BATCH = 1024
"""Owners whose words are indexed between two flushes: a flush costs as much as the words of a hundred owners."""
WORDS_PIECE = 32
"""Owners whose words are in memory at a time; an exchange with its tool calls has up to 3 MB."""
VECTORS_BATCH = 256
"""Owners whose passages are embedded between two flushes."""


@dataclass(frozen=True)
class Document:
    """An owner as the index sees it: passages, words, and what can be filtered by; each made when it is needed."""

    owner: Exchange | KnowledgeItem
    payload: Mapping[str, str | float | bool]

    @property
    def owner_id(self) -> str:
        """Id of the owner."""
        return self.owner.id

    @property
    def embeddable(self) -> bool:
        """False for secret texts: no model sees them, not even the local one; they are found by their words."""
        return self.owner.sensitivity is not Sensitivity.SECRET

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """What gets a vector, whole first."""
        cut = item_passages(self.owner) if isinstance(self.owner, KnowledgeItem) else exchange_passages(self.owner)
        return tuple(cut)

    @cached_property
    def words(self) -> str:
        """What takes part in the word search."""
        return item_words(self.owner) if isinstance(self.owner, KnowledgeItem) else exchange_words(self.owner)

    @cached_property
    def hashes(self) -> list[str]:
        """Content hashes of what is embedded of it, whole first."""
        return [passage.content_hash for passage in self.passages] if self.embeddable else []


def exchange_document(exchange: Exchange) -> Document:
    """Return the document of an exchange."""
    payload: dict[str, str | float | bool] = {
        "kind": "exchange",
        "project": exchange.project,
        "status": "active",
        "intent": exchange.intent or "",
        "created": exchange.timestamp.timestamp() if exchange.timestamp else 0.0,
    }
    return Document(exchange, payload)


def item_document(item: KnowledgeItem) -> Document:
    """Return the document of an item; its time is that of the exchange it was learned from."""
    payload: dict[str, str | float | bool] = {
        "kind": "item",
        "type": item.type.value,
        "project": item.project,
        "status": item.status.value,
        "intent": item.intent or "",
        "created": item.valid_from.timestamp(),
    }
    return Document(item, payload)


class Follower(Protocol):
    """Another index that follows this one: what it has finished goes to the outbox stage `stage`."""

    @property
    def stage(self) -> str:
        """The stage that `follow` drains."""
        ...

    async def follow(self) -> object:
        """Drain it. Must not raise for what the first index can go on without."""
        ...


class Indexer:
    """Drains the outbox into the index and computes the vectors that are missing in the truth."""

    def __init__(
        self, truth: Truth, index: VectorIndex, model: EmbeddingModel, follower: Follower | None = None
    ) -> None:
        self._truth = truth
        self._index = index
        self._turn = asyncio.Lock()  # one writer of the index: an older text must not overwrite a newer one
        self._model = model
        self._follower = follower
        self._computing: dict[str, asyncio.Future[None]] = {}

    def followed_by(self, follower: Follower) -> None:
        """Hand every change on to `follower` from now on."""
        self._follower = follower

    @property
    def _next(self) -> str | None:
        return None if self._follower is None else self._follower.stage

    async def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents of the living owners among `ids`; of tool calls they hold only what is indexed."""
        of_exchanges = [owner for owner in ids if owner.startswith("x")]
        found: dict[str, Document] = {}
        for start in range(0, len(of_exchanges), WORDS_PIECE):
            exchanges = await self._truth.exchanges.get(of_exchanges[start : start + WORDS_PIECE])
            found |= {owner: exchange_document(indexed_part(exchange)) for owner, exchange in exchanges.items()}
        items = await self._truth.items.get([owner for owner in ids if owner.startswith("k")])
        return found | {owner: item_document(item) for owner, item in items.items()}

    async def vectors(self, passages: Sequence[Passage]) -> dict[str, Vector]:
        """Return a vector for each passage by content hash; what the truth lacks is computed and stored there."""
        wanted = {passage.content_hash: passage.text for passage in passages}
        known = await self._truth.vectors.get(self._model.space, list(wanted))
        while busy := {self._computing[key] for key in wanted if key not in known and key in self._computing}:
            await asyncio.wait(busy)
            known |= await self._truth.vectors.get(self._model.space, [key for key in wanted if key not in known])
        missing = {key: text for key, text in wanted.items() if key not in known}
        return known | await self._computed(missing) if missing else known

    async def _computed(self, texts: Mapping[str, str]) -> dict[str, Vector]:
        """Compute and store vectors; whoever wants one of them meanwhile waits for it instead of computing it too."""
        done = asyncio.get_running_loop().create_future()
        self._computing.update(dict.fromkeys(texts, done))
        try:
            with span("embed-passages", texts=len(texts)):
                fresh = dict(zip(texts, await self._model.embed(list(texts.values())), strict=True))
            with span("store-vectors", vectors=len(fresh)):
                await self._truth.vectors.put(self._model.space, fresh)
        finally:
            for key in texts:
                del self._computing[key]
            done.set_result(None)
        return fresh

    async def index_words(self, limit: int = WORDS_BATCH) -> int:
        """Bring the oldest `limit` changed owners into the index by their words; return how many were handled.

        Living owners then wait for their vectors; what is gone, or too secret for any model, is finished here. None is
        handled while the server of the index is away: they wait in the outbox for whoever finds it again.
        """
        async with self._turn:
            with contextlib.suppress(IndexUnavailable):
                return await self._index_words(limit)
        return 0

    async def _index_words(self, limit: int) -> int:
        entries = await self._truth.outbox.pending("words", limit)
        if not entries:
            return 0
        with span("index-words", owners=len(entries)):
            return await self._index_entries(entries)

    async def _index_entries(self, entries: Sequence[OutboxEntry]) -> int:
        embeddable: set[str] = set()
        for start in range(0, len(entries), WORDS_PIECE):
            owners = [entry.owner_id for entry in entries[start : start + WORDS_PIECE]]
            documents = await self.documents(owners)
            await self._index.apply([_words_point(document) for document in documents.values()], owners)
            embeddable.update(owner for owner, document in documents.items() if document.embeddable)
        await self._index.flush()
        await self._truth.outbox.advance([entry for entry in entries if entry.owner_id in embeddable], "vectors")
        rest = [entry for entry in entries if entry.owner_id not in embeddable]
        await self._truth.outbox.advance(rest, self._next)
        return len(entries)

    async def index_vectors(self, limit: int = VECTORS_BATCH) -> int:
        """Embed and index the oldest `limit` owners that wait for vectors; return how many were handled, as above."""
        with contextlib.suppress(IndexUnavailable):
            return await self._finish("vectors", limit)
        return 0

    async def index_new(self) -> int:
        """Bring what changed into the index with words and vectors at once, which takes one flush; return how many.

        Owners that only wait for their vectors go on waiting. When there is no model, words are indexed nevertheless.
        """
        done = 0
        try:
            while handled := await self._finish("words", VECTORS_BATCH):
                done += handled
        except ModelUnavailable:
            while await self.index_words():
                pass
            raise
        return done

    async def _finish(self, stage: str, limit: int) -> int:
        entries = await self._truth.outbox.pending(stage, limit)
        if not entries:
            return 0
        documents = await self.documents([entry.owner_id for entry in entries])
        known = await self.vectors(
            [passage for one in documents.values() if one.embeddable for passage in one.passages]
        )
        async with self._turn:
            with span("index-vectors", owners=len(entries)):
                await self._index_vectors(entries, known)
        return len(entries)

    async def _index_vectors(self, entries: Sequence[OutboxEntry], known: Mapping[str, Vector]) -> None:
        """Index what is there now: an owner that grew while it was embedded has its words, and waits again."""
        documents = await self.documents([entry.owner_id for entry in entries])
        await self._truth.vectors.refer({owner: document.hashes for owner, document in documents.items()})
        await self._apply(documents.values(), known, [entry.owner_id for entry in entries])
        await self._index.flush()
        await self._truth.outbox.advance(entries, self._next)

    async def catch_up(self, progress: Callable[[int], None] | None = None) -> int:
        """Drain both stages, then let the follower drain its own; return how many owners got their vectors."""
        done = 0
        while await self.index_words():
            pass
        while handled := await self.index_vectors():
            done += handled
            if progress:
                progress(handled)
        if self._follower is not None:
            await self._follower.follow()
        return done

    async def rebuild(self, maintenance: IndexMaintenance) -> OptimizeReport:
        """Build a fresh index from the truth and swap it in; vectors that the truth lacks follow as a backlog."""
        incomplete: set[str] = set()
        report = await maintenance.rebuild(self._everything(incomplete))
        if incomplete:
            await self._truth.outbox.fill("words")
        return report

    async def compare(self) -> tuple[list[str], list[str]]:
        """Return the owners that the index lacks although no outbox entry announces them, and those it has too many."""
        held = await self._held()
        living = {owner async for batch in self._owners() for owner in batch}
        waiting = {entry.owner_id for entry in await self._truth.outbox.pending("words", len(living) + len(held) + 1)}
        return sorted(living - held - waiting), sorted(held - living - waiting)

    async def reconcile(self) -> tuple[int, int]:
        """Compare the index with the truth; re-enter what is missing, drop what is too much; return both counts."""
        missing, surplus = await self.compare()
        if surplus:
            await self._index.apply([], surplus)
        if missing:
            await self._truth.outbox.fill("words")
        return len(missing), len(surplus)

    async def _held(self) -> set[str]:
        held: set[str] = set()
        after = ""
        while page := await self._index.owners(after):
            held.update(owner for owner, _ in page)
            after = page[-1][0]
        return held

    async def _owners(self) -> AsyncIterator[list[str]]:
        after = ""
        while page := await self._truth.ledger.owners(after):
            yield page
            after = page[-1]

    async def _everything(self, incomplete: set[str]) -> AsyncIterator[list[IndexPoint]]:
        async for owners in self._owners():
            documents = await self.documents(owners)
            known = await self._known(documents.values())
            incomplete.update(owner for owner, document in documents.items() if not _complete(document, known))
            yield [point for document in documents.values() for point in _points(document, known)]

    async def _known(self, documents: Iterable[Document]) -> dict[str, Vector]:
        hashes = [key for document in documents for key in document.hashes]
        return await self._truth.vectors.get(self._model.space, hashes)

    async def _apply(self, documents: Iterable[Document], known: Mapping[str, Vector], changed: Sequence[str]) -> None:
        points = [point for document in documents for point in _points(document, known)]
        await self._index.apply(points, changed)


def _complete(document: Document, known: Mapping[str, Vector]) -> bool:
    return all(key in known for key in document.hashes)


def _words_point(document: Document) -> IndexPoint:
    """Return the point that is found by words until the passages have their vectors."""
    return IndexPoint(document.owner_id, 0, "whole", None, document.words, document.payload)


def _points(document: Document, known: Mapping[str, Vector]) -> list[IndexPoint]:
    """Return the points of a document: the first carries the words, the others exist only once they have a vector."""
    return [
        IndexPoint(
            owner_id=document.owner_id,
            ordinal=ordinal,
            view=passage.view,
            vector=known.get(passage.content_hash) if document.embeddable else None,
            words="" if ordinal else document.words,
            payload=document.payload,
        )
        for ordinal, passage in enumerate(document.passages)
        if ordinal == 0 or (document.embeddable and passage.content_hash in known)
    ]
