"""The index follows the truth: the outbox is drained in two stages, words first, vectors when they are computed.

Every step is idempotent and ordered apply → flush → advance, so a crash at any point repeats work and loses none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from knowledge_system.domain.index import IndexPoint
from knowledge_system.domain.knowledge import KnowledgeItem
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.retrieval.passages import exchange_passages, exchange_words, item_passages, item_words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from knowledge_system.domain.embedding import EmbeddingModel, Passage, Vector
    from knowledge_system.domain.index import IndexMaintenance, OptimizeReport, VectorIndex
    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.domain.truth import Truth

WORDS_BATCH = 256
"""Owners whose words are indexed between two flushes."""
VECTORS_BATCH = 128
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


class Indexer:
    """Drains the outbox into the index and computes the vectors that are missing in the truth."""

    def __init__(self, truth: Truth, index: VectorIndex, model: EmbeddingModel) -> None:
        self._truth = truth
        self._index = index
        self._model = model

    async def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents of the living owners among `ids`."""
        exchanges = await self._truth.exchanges.get([owner for owner in ids if owner.startswith("x")])
        items = await self._truth.items.get([owner for owner in ids if owner.startswith("k")])
        found = {owner: exchange_document(exchange) for owner, exchange in exchanges.items()}
        return found | {owner: item_document(item) for owner, item in items.items()}

    async def vectors(self, passages: Sequence[Passage]) -> dict[str, Vector]:
        """Return a vector for each passage by content hash; what the truth lacks is computed and stored there."""
        wanted = {passage.content_hash: passage.text for passage in passages}
        known = await self._truth.vectors.get(self._model.space, list(wanted))
        missing = [key for key in wanted if key not in known]
        if missing:
            fresh = dict(zip(missing, await self._model.embed([wanted[key] for key in missing]), strict=True))
            await self._truth.vectors.put(self._model.space, fresh)
            known |= fresh
        return known

    async def index_words(self, limit: int = WORDS_BATCH) -> int:
        """Bring the oldest `limit` changed owners into the index by their words; return how many were handled.

        Living owners then wait for their vectors; what is gone, or too secret for any model, is finished here.
        """
        entries = await self._truth.outbox.pending("words", limit)
        if not entries:
            return 0
        documents = await self.documents([entry.owner_id for entry in entries])
        points = [_words_point(document) for document in documents.values()]
        await self._index.apply(points, [entry.owner_id for entry in entries])
        await self._index.flush()
        waiting = [entry for entry in entries if entry.owner_id in documents and documents[entry.owner_id].embeddable]
        await self._truth.outbox.advance(waiting, "vectors")
        await self._truth.outbox.advance([entry for entry in entries if entry not in waiting], None)
        return len(entries)

    async def index_vectors(self, limit: int = VECTORS_BATCH) -> int:
        """Embed and index the oldest `limit` owners that wait for vectors; return how many were handled."""
        entries = await self._truth.outbox.pending("vectors", limit)
        if not entries:
            return 0
        documents = await self.documents([entry.owner_id for entry in entries])
        known = await self.vectors(
            [passage for one in documents.values() if one.embeddable for passage in one.passages]
        )
        await self._truth.vectors.refer({owner: document.hashes for owner, document in documents.items()})
        await self._apply(documents.values(), known, [entry.owner_id for entry in entries])
        await self._index.flush()
        await self._truth.outbox.advance(entries, None)
        return len(entries)

    async def catch_up(self, progress: Callable[[int], None] | None = None) -> int:
        """Drain both stages; return the number of owners that got their vectors."""
        done = 0
        while await self.index_words():
            pass
        while handled := await self.index_vectors():
            done += handled
            if progress:
                progress(handled)
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
