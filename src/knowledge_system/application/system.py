"""The verbs of the system. Doors call these and print; each returns a document of the contract."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from knowledge_system.application.compose import Parts
from knowledge_system.application.documents import ingest_document, search_document
from knowledge_system.domain.errors import IntegrityFailure, ModelUnavailable, NotFound, UsageError
from knowledge_system.domain.knowledge import KnowledgeType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.search import Scope, SearchRequest
    from knowledge_system.domain.truth import Page
    from knowledge_system.extraction.ingestion import IngestOptions
    from knowledge_system.extraction.learning import LearningTally
    from knowledge_system.retrieval.search import Searcher
    from knowledge_system.settings import Settings

Document = dict[str, Any]
GRAPH_FROM = 13_000
"""Vectors below which exact search is fast enough (`design/measurements.md`, recommended presets)."""
GRAPH_SHARE = 0.8
"""Share of the vectors in the graph below which an ingest ends with optimising, in a child process."""
Progress = Callable[[str, int, int], None]
"""Called with `(stage, done, total)`; `total` is 0 when it is not known."""


class KnowledgeSystem:
    """One running system over one data directory."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._searcher: Searcher | None = None

    @property
    def parts(self) -> Parts:
        """What the system is made of, for the verbs that live beside this class."""
        return self._parts

    async def ingest(self, paths: Sequence[Path], options: IngestOptions, progress: Progress) -> Document:
        """Read, redact, store, index and learn. Nothing already good is touched by what fails."""
        from knowledge_system.extraction.ingestion import Ingestion
        from knowledge_system.extraction.learning import LearningTally

        parts, began = self._parts, time.perf_counter()
        parts.own()
        truth = await parts.truth()
        ingestion = Ingestion(parts.reader(), parts.gatekeeper(), truth, parts.emit)
        read = await ingestion.run(paths, options, lambda at: progress("reading", at.done_bytes, at.total_bytes))
        learned, missing = LearningTally(), None
        if not options.dry_run:
            try:
                await self._follow(learned, progress)
            except ModelUnavailable as error:
                missing = error
        return ingest_document(read, learned, time.perf_counter() - began, missing)

    async def _follow(self, learned: LearningTally, progress: Progress) -> None:
        """Bring index and knowledge up to the truth: words first, so that everything can be found at once."""
        from knowledge_system.extraction.learning import Learning, LearningOptions

        parts = self._parts
        truth, index, indexer = await parts.truth(), await parts.index(), await parts.indexer()
        waiting = (await truth.outbox.depth()).get("words", 0)
        done = 0
        while handled := await indexer.index_words():
            done += handled
            progress("words", done, waiting)
        tree = parts.settings.tree.learning
        options = LearningOptions(tree.min_confidence, tree.duplicate_at)
        learning = Learning(truth, index, indexer, parts.extractor(), options)
        backlog = (await truth.ledger.totals()).unlearned if tree.enabled else 0
        count = 0

        def step(judged: int) -> None:
            nonlocal count
            count += judged
            progress("learning", count, backlog)

        if tree.enabled:
            await learning.run(learned, parts.clock, parts.emit, step)
        await indexer.catch_up()
        status = await index.status()
        if status.vectors >= GRAPH_FROM and status.indexed_vectors < GRAPH_SHARE * status.vectors:
            progress("optimizing", 0, 0)
            await index.optimize()

    async def search(self, request: SearchRequest) -> Document:
        """Answer a question."""
        return search_document(await (await self._search()).search(request))

    async def _search(self) -> Searcher:
        if self._searcher is None:
            from knowledge_system.retrieval.search import Searcher

            parts = self._parts
            await asyncio.gather(parts.index(), self._warm())
            self._searcher = Searcher(
                await parts.truth(),
                await parts.index(),
                parts.model(),
                parts.clock,
                parts.emit,
                parts.gatekeeper().scrub,
            )
        return self._searcher

    async def _warm(self) -> None:
        """Load the model while the index opens; without weights the searcher says so and goes on with words."""
        with contextlib.suppress(ModelUnavailable):
            await self._parts.model().load()

    async def show(self, identity: str) -> Document:
        """Return an item with its evidence, an exchange, or a session with its exchanges. Raises NotFound."""
        truth = await self._parts.truth()
        items = await truth.items.get([identity])
        if identity in items:
            return await self._item(identity)
        exchanges = await truth.exchanges.get([identity])
        if identity in exchanges:
            from knowledge_system.operations.records import dump_exchange

            return dump_exchange(exchanges[identity])
        raise NotFound(
            f"nothing is known under {identity}", hint="ids come from `knowledge search` and `knowledge list`"
        )

    async def _item(self, identity: str) -> Document:
        from knowledge_system.operations.portable import quoted, sources_of
        from knowledge_system.operations.records import dump_item
        from knowledge_system.retrieval.ranking import freshness

        truth = await self._parts.truth()
        item = (await truth.items.get([identity]))[identity]
        sources = (await sources_of(truth, [item]))[identity]
        record = dump_item(item, sources, freshness(item.valid_from, self._parts.clock.now()))
        return {**record, "evidence": await quoted(truth, item)}

    async def list(self, kind: str, page: Page) -> Document:
        """Return one page of items, exchanges or sessions, newest first."""
        from knowledge_system.operations.listing import list_exchanges, list_items, list_sessions
        from knowledge_system.retrieval.ranking import freshness

        if page.type and page.type not in set(KnowledgeType):
            raise UsageError(f"unknown type {page.type}", hint=f"one of {', '.join(KnowledgeType)}")
        truth, now = await self._parts.truth(), self._parts.clock.now()
        if kind == "sessions":
            return await list_sessions(truth, page)
        if kind == "exchanges":
            return await list_exchanges(truth, page)
        return await list_items(truth, page, lambda item: freshness(item.valid_from, now))

    async def forget(self, ids: Sequence[str]) -> Document:
        """Erase items and exchanges for good. Raises NotFound when none of them exists."""
        self._parts.own()
        truth = await self._parts.truth()
        items = await truth.items.get(ids)
        exchanges = await truth.exchanges.get(ids)
        missing = [one for one in ids if one not in items and one not in exchanges]
        if missing:
            raise NotFound(
                f"nothing is known under {', '.join(missing)}", hint="nothing was forgotten; correct the ids"
            )
        erased = await truth.items.forget(list(items)) + await truth.exchanges.forget(list(exchanges))
        await (await self._parts.indexer()).catch_up()
        return {"forgotten": erased, "ids": list(ids)}

    async def supersede(self, old: str, new: str) -> Document:
        """Mark an item as replaced by another."""
        self._parts.own()
        await (await self._parts.truth()).items.supersede(old, new, self._parts.clock.now())
        await (await self._parts.indexer()).catch_up()
        return {"superseded": old, "superseded_by": new}

    async def export(self, scope: Scope) -> AsyncIterator[Document]:
        """Yield every record of `scope`."""
        from knowledge_system.operations.portable import export
        from knowledge_system.retrieval.ranking import freshness

        now = self._parts.clock.now()
        async for record in export(await self._parts.truth(), scope, lambda item: freshness(item.valid_from, now)):
            yield record

    async def import_(self, lines: Iterable[str]) -> Document:
        """Store exported records; what is known stays as it is."""
        from knowledge_system.operations.portable import load

        self._parts.own()
        tally = await load(await self._parts.truth(), lines, self._parts.gatekeeper())
        await (await self._parts.indexer()).catch_up()
        return {"new": tally.new, "known": tally.known, "redactions": tally.redactions}

    async def status(self) -> Document:
        """Return what the system holds and how far it has followed; never needs the lock."""
        from knowledge_system.operations.diagnosis import status_document

        truth = await self._parts.truth()
        home = self._parts.home()
        return status_document(await truth.ledger.totals(), await truth.outbox.depth(), home.holder(), home.path)

    async def doctor(self) -> Document:
        """Check everything; `exit_code` is that of the gravest finding."""
        from knowledge_system.application.doctor import examine

        findings = await examine(self._parts)
        return {
            "healthy": all(one.grade != "error" for one in findings),
            "checks": [one.document() for one in findings],
            "exit_code": max((one.exit_code for one in findings), default=0),
        }

    async def index_status(self) -> Document:
        """Return the state of the index."""
        from knowledge_system.operations.diagnosis import index_document

        document = index_document(await (await self._parts.index()).status())
        return {**document, "outbox": await (await self._parts.truth()).outbox.depth()}

    async def index_rebuild(self) -> Document:
        """Build the index again from the truth, embedding what has no vector in the model's space yet."""
        indexer = await self._parts.indexer()
        report = await indexer.rebuild(await self._parts.index())
        embedded = await indexer.catch_up()
        return {"points": report.points, "embedded": embedded, "seconds": round(report.seconds, 3)}

    async def index_optimize(self) -> Document:
        """Build or improve the graph on a copy and swap it in when recall holds."""
        report = await (await self._parts.index()).optimize()
        return {
            "swapped": report.swapped,
            "points": report.points,
            "recall": round(report.recall, 4),
            "seconds": round(report.seconds, 3),
            "detail": report.detail,
        }

    async def index_verify(self) -> Document:
        """Verify files and content, compare with the truth, and repair what differs. Raises IntegrityFailure."""
        report = await (await self._parts.index()).verify()
        if not report.ok:
            raise IntegrityFailure(
                f"the index is damaged: {'; '.join(report.problems)}", hint="run `knowledge index rebuild`"
            )
        indexer = await self._parts.indexer()
        missing, surplus = await indexer.reconcile()
        await indexer.catch_up()
        return {"ok": True, "points": report.points, "missing": missing, "surplus": surplus}

    async def model_status(self) -> Document:
        """Return the embedding model in use, assembled when that had not happened yet."""
        model = self._parts.model()
        await model.embed(["ready"])
        return {"space": model.space.key, "dimension": model.space.dimension, "max_tokens": model.max_tokens}


@asynccontextmanager
async def opened(
    settings: Settings, purpose: str, emit: Emit | None = None, *, alone: bool = False
) -> AsyncIterator[KnowledgeSystem]:
    """Open the system over the data directory of `settings`; everything is closed at the end.

    Beside a running service the verbs that need the directory go through it, unless the caller must be `alone`.
    """
    from knowledge_system.application.served import ServedSystem, find_service

    parts = Parts(settings, purpose)
    if emit is not None:
        parts.emit = emit
    async with parts:
        service = None if alone else await find_service(settings.home, parts.clock)
        yield KnowledgeSystem(parts) if service is None else ServedSystem(parts, service)
