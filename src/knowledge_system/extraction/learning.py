"""The backlog becomes knowledge: embed, judge, deduplicate, store; a bounded chunk at a time, resumable anywhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from knowledge_system.domain.events import ItemLearned, ItemRejected
from knowledge_system.domain.index import IndexFilter, IndexQuery
from knowledge_system.domain.knowledge import Episode, KnowledgeItem, item_id
from knowledge_system.domain.sensitivity import Sensitivity, highest
from knowledge_system.domain.tracing import span
from knowledge_system.domain.truth import Learned
from knowledge_system.extraction.model_duplicates import mark
from knowledge_system.lifecycle.deduplicate import Known, Relation, doubtful_pairs, duplicate_of, reinforced
from knowledge_system.lifecycle.supersede import superseded_by
from knowledge_system.retrieval.indexing import exchange_document, item_document
from knowledge_system.trajectory.influence import confidence_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.embedding import Passage, Vector
    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.index import VectorIndex
    from knowledge_system.domain.knowledge import Candidate, Evidence, Extractor, Verdict
    from knowledge_system.domain.sensitivity import Screen
    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.domain.trajectory import SessionState, Trajectories
    from knowledge_system.domain.truth import Truth
    from knowledge_system.extraction.model_duplicates import DuplicateJudge
    from knowledge_system.extraction.model_use import ModelTally
    from knowledge_system.lifecycle.deduplicate import Opinion
    from knowledge_system.retrieval.indexing import Indexer

CHUNK = 64
"""Exchanges judged in one transaction."""
BEFORE, AFTER = 2, 2
"""Neighbours shown to the judge: what led to the exchange, and whether the user accepted it."""
NEIGHBOURS = 8
"""Existing items compared with a candidate."""


@dataclass(frozen=True, slots=True)
class LearningOptions:
    """`min_confidence` None leaves the threshold to the extractor; `duplicate_at` is a cosine similarity.

    `screen` judges exchanges by their meaning before anybody learns from them; their levels rise accordingly.
    `duplicates` is asked about items whose likeness leaves open whether they are the same. `paths` tell how the session
    stood after an exchange, which makes what was learned from it more or less sure.
    """

    min_confidence: float | None = None
    duplicate_at: float = 0.95
    screen: Screen | None = None
    duplicates: DuplicateJudge | None = None
    paths: Trajectories | None = None


@dataclass(slots=True)
class LearningTally:
    """What learning did so far; `model` tells how a model was asked, None: nobody looked whether there is one."""

    judged: int = 0
    created: int = 0
    merged: int = 0
    superseded: int = 0
    withdrawn: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    model: ModelTally | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """An item that is to be placed, its vector, and the items that the index has near it."""

    item: KnowledgeItem
    vector: Vector
    near: list[Known]


@dataclass(slots=True)
class _Chunk:
    """Outcome of one chunk while it is being put together."""

    judged: dict[str, str] = field(default_factory=dict)
    created: dict[str, KnowledgeItem] = field(default_factory=dict)
    vectors: dict[str, Vector] = field(default_factory=dict)
    reinforced: list[tuple[str, tuple[Evidence, ...], float]] = field(default_factory=list)
    merged: list[KnowledgeItem] = field(default_factory=list)
    superseded: list[tuple[str, str]] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)

    def known(self) -> list[Known]:
        """Return the items of this chunk: the index does not have them yet."""
        return [Known(item, self.vectors[key]) for key, item in self.created.items()]


class Learning:
    """Learns from every exchange that has not been judged yet."""

    def __init__(
        self, truth: Truth, index: VectorIndex, indexer: Indexer, extractor: Extractor, options: LearningOptions
    ) -> None:
        self._truth = truth
        self._index = index
        self._indexer = indexer
        self._extractor = extractor
        self._options = options

    async def run(
        self, tally: LearningTally, clock: Clock, emit: Emit, progress: Callable[[int], None] | None = None
    ) -> None:
        """Judge the whole backlog, oldest first, and count in `tally`.

        Each chunk is stored and indexed before the next begins. Raises ModelUnavailable when the texts cannot be
        embedded; what was learned until then stays, the rest remains backlog.
        """
        while waiting := await self._truth.exchanges.unlearned(2 * CHUNK):
            exchanges, following = waiting[:CHUNK], waiting[CHUNK:]
            ahead = asyncio.create_task(self._embed_ahead(following))
            try:
                with span("learn-chunk", exchanges=len(exchanges)):
                    chunk = await self._store(exchanges, clock)
                await ahead
            finally:
                await _ended(ahead)
            _report(chunk, tally, emit)
            if progress:
                progress(len(exchanges))

    async def _store(self, exchanges: Sequence[Exchange], clock: Clock) -> _Chunk:
        """Judge a chunk, store what came of it in one transaction, and index it."""
        levels = await self._raised(exchanges)
        exchanges = [replace(one, sensitivity=levels.get(one.id, one.sensitivity)) for one in exchanges]
        with span("judge-exchanges"):
            chunk = await self._chunk(exchanges, clock)
        outcome = Learned(
            levels=levels,
            judged=chunk.judged,
            versions={one.id: one.content_hash for one in exchanges},
            created=tuple(chunk.created.values()),
            reinforced=tuple(chunk.reinforced),
            superseded=tuple(chunk.superseded),
            withdrawn=tuple(chunk.withdrawn),
        )
        with span("store-items", created=len(chunk.created)):
            await self._truth.items.learn(outcome)
        with span("index-new"):
            await self._indexer.index_new()
        return chunk

    async def _raised(self, exchanges: Sequence[Exchange]) -> dict[str, Sensitivity]:
        """Return the levels of those exchanges whose passages are about something more sensitive than is known."""
        screen = self._options.screen
        shown = [document for one in exchanges if (document := exchange_document(one)).embeddable]
        if screen is None or not shown:
            return {}
        vectors = await self._indexer.vectors([passage for one in shown for passage in one.passages])
        found = await screen.levels([[vectors[key] for key in one.hashes] for one in shown])
        return {
            document.owner_id: level
            for document, level in zip(shown, found, strict=True)
            if level is not None and level.rank > document.owner.sensitivity.rank
        }

    async def _embed_ahead(self, exchanges: Sequence[Exchange]) -> None:
        """Compute the vectors of the next chunk while this one is judged and stored: they are kept in the truth."""
        documents = [exchange_document(one) for one in exchanges]
        await self._indexer.vectors([one for document in documents if document.embeddable for one in document.passages])

    async def _chunk(self, exchanges: Sequence[Exchange], clock: Clock) -> _Chunk:
        chunk = _Chunk()
        shown = [one for one in exchanges if one.sensitivity is not Sensitivity.SECRET]
        chunk.judged.update({one.id: "secret" for one in exchanges if one.sensitivity is Sensitivity.SECRET})
        earlier = await self._truth.items.from_exchanges([one.id for one in exchanges])
        existing = await self._truth.items.get([item for items in earlier.values() for item in items])
        learned = {key: tuple(existing[item] for item in items if item in existing) for key, items in earlier.items()}
        verdicts = await self._informed(await self._extractor.judge(await self._episodes(shown, learned)))
        for exchange in exchanges:
            chunk.withdrawn.extend(
                item for item in earlier.get(exchange.id, []) if _only_from(existing[item], exchange)
            )
        items = [item for pair in zip(shown, verdicts, strict=True) for item in self._decide(*pair, chunk, clock)]
        await self._indexer.vectors([passage for item in items for passage in item_document(item).passages])
        seen = [await self._seen(item, frozenset(chunk.withdrawn)) for item in items]
        opinions = await self._opinions(seen)
        for one in seen:
            self._place(one, chunk, opinions)
        return chunk

    async def _episodes(
        self, exchanges: Sequence[Exchange], learned: Mapping[str, tuple[KnowledgeItem, ...]]
    ) -> list[Episode]:
        documents = {exchange.id: exchange_document(exchange) for exchange in exchanges}
        passages = [passage for document in documents.values() for passage in document.passages]
        vectors = await self._indexer.vectors(passages)
        episodes = []
        for exchange in exchanges:
            before, after = await self._truth.exchanges.around(exchange.id, BEFORE, AFTER)
            own = _with_vectors(documents[exchange.id].passages, vectors)
            episodes.append(Episode(exchange, tuple(before), tuple(after), own, learned.get(exchange.id, ())))
        return episodes

    async def _informed(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Return the verdicts with the confidences that the paths of their sessions leave them."""
        paths = self._options.paths
        points = {} if paths is None else await paths.of([one.exchange_id for one in verdicts if one.candidates])
        return [_weighed(one, points[one.exchange_id].state) if one.exchange_id in points else one for one in verdicts]

    def _decide(self, exchange: Exchange, verdict: Verdict, chunk: _Chunk, clock: Clock) -> list[KnowledgeItem]:
        kept = [one for one in verdict.candidates if one.confidence >= (self._options.min_confidence or 0.0)]
        chunk.judged[exchange.id] = "item" if kept else verdict.reason or "low-confidence"
        return [self._item(exchange, candidate, ordinal, clock) for ordinal, candidate in enumerate(kept)]

    async def _seen(self, item: KnowledgeItem, gone: frozenset[str]) -> _Seen:
        passages = item_document(item).passages
        vector = (await self._indexer.vectors(passages))[passages[0].content_hash]
        return _Seen(item, vector, await self._neighbours(item, vector, gone))

    async def _opinions(self, seen: Sequence[_Seen]) -> Mapping[tuple[str, str], Opinion]:
        """Return what a model says about pairs that likeness does not decide, new items among themselves included."""
        judge = self._options.duplicates
        if judge is None:
            return {}
        between = (judge.options.lowest, self._options.duplicate_at)
        pairs, before = [], list[Known]()
        for one in seen:
            known = [*before, *one.near]
            if duplicate_of(one.item, one.vector, known, self._options.duplicate_at) is None:
                pairs.extend(doubtful_pairs(one.item, one.vector, known, between))
                before.append(Known(one.item, one.vector))
        return await judge.opinions(pairs)

    def _place(self, seen: _Seen, chunk: _Chunk, opinions: Mapping[tuple[str, str], Opinion]) -> None:
        item, vector = seen.item, seen.vector
        known = [*chunk.known(), *seen.near]
        same = duplicate_of(item, vector, known, self._options.duplicate_at) or _said_to_be_same(item, known, opinions)
        if same is None:
            replaced = _said_to_be_replaced(item, known, opinions)
            chunk.created[item.id] = _marked(item, list(replaced.values()))
            chunk.vectors[item.id] = vector
            stated = [old.id for old in superseded_by(item, vector, known)]
            chunk.superseded.extend((old, item.id) for old in dict.fromkeys([*stated, *replaced]))
        elif same.item.id in chunk.created:
            chunk.created[same.item.id] = _joined(same.item, item)
            chunk.merged.append(same.item)
            chunk.judged[item.evidence[0].exchange_id] = "merged"
        else:
            said_before = {one.exchange_id for one in same.item.evidence}
            if item.evidence[0].exchange_id not in said_before:
                confidence = reinforced(same.item.confidence, item.confidence)
                chunk.reinforced.append((same.item.id, item.evidence, confidence))
            chunk.judged[item.evidence[0].exchange_id] = "merged"
            chunk.merged.append(same.item)

    async def _neighbours(self, item: KnowledgeItem, vector: Vector, gone: frozenset[str]) -> list[Known]:
        where = IndexFilter(kinds=("item",), projects=(item.project,), statuses=("active",))
        (hits,) = await self._index.query([IndexQuery(limit=NEIGHBOURS, vector=vector, where=where)])
        items = await self._truth.items.get(
            [key for key in dict.fromkeys(hit.owner_id for hit in hits) if key not in gone]
        )
        first = {key: item_document(one).passages[0] for key, one in items.items()}
        vectors = await self._indexer.vectors(list(first.values()))
        return [Known(items[key], vectors[passage.content_hash]) for key, passage in first.items()]

    def _item(self, exchange: Exchange, candidate: Candidate, ordinal: int, clock: Clock) -> KnowledgeItem:
        now = clock.now()
        return KnowledgeItem(
            id=item_id(exchange.id, ordinal),
            type=candidate.type,
            title=candidate.title,
            content=candidate.content,
            confidence=candidate.confidence,
            project=exchange.project,
            session_id=exchange.session_id,
            created_at=now,
            updated_at=now,
            valid_from=exchange.timestamp or now,
            evidence=candidate.evidence,
            sensitivity=exchange.sensitivity,
            intent=exchange.intent,
            metadata={"extractor": self._extractor.version, **candidate.metadata},
        )


def _with_vectors(passages: Sequence[Passage], vectors: Mapping[str, Vector]) -> tuple[tuple[str, Vector], ...]:
    return tuple((passage.text, vectors[passage.content_hash]) for passage in passages)


def _weighed(verdict: Verdict, state: SessionState) -> Verdict:
    weighed = (replace(one, confidence=confidence_in(one.confidence, state)) for one in verdict.candidates)
    return replace(verdict, candidates=tuple(weighed))


def _only_from(item: KnowledgeItem, exchange: Exchange) -> bool:
    return {evidence.exchange_id for evidence in item.evidence} == {exchange.id}


def _joined(item: KnowledgeItem, other: KnowledgeItem) -> KnowledgeItem:
    """Return `item` with the evidence of `other`, which says the same."""
    evidence = tuple(dict.fromkeys((*item.evidence, *other.evidence)))
    support = len({one.exchange_id for one in evidence})
    confidence = reinforced(item.confidence, other.confidence)
    level = highest([item.sensitivity, other.sensitivity])
    return replace(item, evidence=evidence, support=support, confidence=confidence, sensitivity=level)


def _said_to_be_same(
    item: KnowledgeItem, known: Sequence[Known], opinions: Mapping[tuple[str, str], Opinion]
) -> Known | None:
    for one in known:
        opinion = opinions.get((one.item.id, item.id)) or opinions.get((item.id, one.item.id))
        if opinion is not None and opinion.relation is Relation.SAME:
            return one
    return None


def _said_to_be_replaced(
    item: KnowledgeItem, known: Sequence[Known], opinions: Mapping[tuple[str, str], Opinion]
) -> dict[str, Opinion]:
    """Return the items that `item` replaces, each with the opinion: only what became true before it did."""
    older = [one.item.id for one in known if one.item.valid_from < item.valid_from]
    found = {key: opinions.get((key, item.id)) for key in older}
    return {key: one for key, one in found.items() if one is not None and one.relation is Relation.SUPERSEDES}


def _marked(item: KnowledgeItem, opinions: Sequence[Opinion]) -> KnowledgeItem:
    """Return `item` with the note that a model said what it replaces."""
    return replace(item, metadata={**item.metadata, "replaces_by": mark(opinions[0])}) if opinions else item


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait until `task` has ended, cancelled if need be; its error has been told already or is that of the caller."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


def _report(chunk: _Chunk, tally: LearningTally, emit: Emit) -> None:
    tally.judged += len(chunk.judged)
    tally.created += len(chunk.created)
    tally.superseded += len(chunk.superseded)
    tally.withdrawn += len(chunk.withdrawn)
    for exchange, outcome in chunk.judged.items():
        if outcome == "merged":
            tally.merged += 1
        elif outcome != "item":
            tally.rejected[outcome] += 1
            emit(ItemRejected(exchange, outcome))
    for item in chunk.created.values():
        emit(ItemLearned(item.id, item.type.value, "created"))
    for item in chunk.merged:
        emit(ItemLearned(item.id, item.type.value, "merged"))
    for old, new in chunk.superseded:
        emit(ItemLearned(old, chunk.created[new].type.value, "superseded"))
