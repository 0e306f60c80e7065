"""The index of a second embedding space follows the truth after the first one, and never spends anything by itself.

It holds the vectors of owners that may be embedded there, as far as the truth has them: an owner is in it when the
vector of its whole text is. Words stay in the first index. Every step is apply → flush → advance, as in `indexing`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.index import IndexPoint
from knowledge_system.retrieval.indexing import exchange_document, item_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.domain.index import IndexMaintenance, OptimizeReport, VectorIndex
    from knowledge_system.domain.sensitivity import Sensitivity
    from knowledge_system.domain.truth import Truth
    from knowledge_system.retrieval.indexing import Document

FOLLOW: Final = "remote"
"""Outbox stage of what the second index has to follow: costs nothing."""
PAID: Final = "remote-vectors"
"""Outbox stage of what waits for vectors that cost money."""
BATCH: Final = 256
"""Owners between two flushes."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What of the truth may be embedded in `space`; `may_leave` decides by level, secret texts never may."""

    truth: Truth
    space: EmbeddingSpace
    may_leave: Callable[[Sensitivity], bool]

    def admits(self, document: Document) -> bool:
        """Tell whether a document may be embedded in this space."""
        return document.embeddable and self.may_leave(document.owner.sensitivity)

    async def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents of the living owners among `ids`, in the order of `ids`; without their tool calls."""
        exchanges = await self.truth.exchanges.get([one for one in ids if one.startswith("x")], tools=False)
        items = await self.truth.items.get([one for one in ids if one.startswith("k")])
        made = {key: exchange_document(one) for key, one in exchanges.items()}
        made |= {key: item_document(one) for key, one in items.items()}
        return {key: made[key] for key in ids if key in made}

    async def known(self, documents: Iterable[Document]) -> dict[str, Vector]:
        """Return the vectors that the truth has for the passages of documents, by content hash."""
        hashes = [key for document in documents for key in document.hashes]
        return await self.truth.vectors.get(self.space, hashes)

    async def owners(self) -> AsyncIterator[list[str]]:
        """Yield the ids of all living owners in ascending order, `BATCH` at a time."""
        after = ""
        while page := await self.truth.ledger.owners(after, BATCH):
            yield page
            after = page[-1]


class SecondSpace:
    """Keeps the index of a space equal to the truth.

    With `auto`, owners without vectors wait in the stage `PAID` for whoever embeds them; otherwise they are left out.
    `paying` is held by who embeds: two at once would pay for the same texts.
    """

    stage = FOLLOW

    def __init__(
        self, admission: Admission, index: VectorIndex, maintenance: IndexMaintenance, *, auto: bool = False
    ) -> None:
        self._truth = admission.truth
        self._auto = auto
        self.admission = admission
        self.index = index
        self.maintenance = maintenance
        self.paying = asyncio.Lock()

    async def follow(self) -> int:
        """Bring the index up to what has changed in the truth; return the number of owners handled."""
        done = 0
        while not self._auto and (left := await self._truth.outbox.pending(PAID, BATCH)):
            await self._truth.outbox.advance(left, None)
        while entries := await self._truth.outbox.pending(FOLLOW, BATCH):
            lacking = await self.refresh([entry.owner_id for entry in entries])
            waiting = [one for one in entries if self._auto and one.owner_id in lacking]
            await self._truth.outbox.advance(waiting, PAID)
            await self._truth.outbox.advance([one for one in entries if one not in waiting], None)
            done += len(entries)
        return done

    async def refresh(self, ids: Sequence[str]) -> set[str]:
        """Write what the truth has of these owners, durably; return those that lack a vector they may have."""
        documents = await self.admission.documents(ids)
        admitted = {key: document for key, document in documents.items() if self.admission.admits(document)}
        known = await self.admission.known(admitted.values())
        points = [point for document in admitted.values() for point in points_of(document, known)]
        await self.index.apply(points, ids)
        await self.index.flush()
        return {key for key, document in admitted.items() if any(one not in known for one in document.hashes)}

    async def held(self) -> set[str]:
        """Return the owners that the index has."""
        held: set[str] = set()
        after = ""
        while page := await self.index.owners(after):
            held.update(owner for owner, _ in page)
            after = page[-1][0]
        return held

    async def rebuild(self) -> OptimizeReport:
        """Build a fresh index from the vectors in the truth and swap it in; no model is called."""
        return await self.maintenance.rebuild(self._everything())

    async def reconcile(self) -> tuple[int, int]:
        """Compare with the truth and rebuild what differs; return how many owners were missing and too many."""
        held, wanted = await self.held(), set[str]()
        async for points in self._everything():
            wanted.update(point.owner_id for point in points)
        if held != wanted:
            await self.rebuild()
        return len(wanted - held), len(held - wanted)

    async def _everything(self) -> AsyncIterator[list[IndexPoint]]:
        async for ids in self.admission.owners():
            admitted = [one for one in (await self.admission.documents(ids)).values() if self.admission.admits(one)]
            known = await self.admission.known(admitted)
            yield [point for document in admitted for point in points_of(document, known)]


def points_of(document: Document, known: Mapping[str, Vector]) -> list[IndexPoint]:
    """Return the points of a document: those of its passages that have a vector, none before its whole text has."""
    if not document.hashes or document.hashes[0] not in known:
        return []
    return [
        IndexPoint(document.owner_id, ordinal, passage.view, known[passage.content_hash], "", document.payload)
        for ordinal, passage in enumerate(document.passages)
        if passage.content_hash in known
    ]
