"""The verbs of the system. Doors call these and print; each returns a document of the contract."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from knowledge_system.application import holdings
from knowledge_system.application.compose import Parts
from knowledge_system.application.documents import ingest_document, search_document
from knowledge_system.domain.errors import IndexUnavailable, KnowledgeError, ModelUnavailable
from knowledge_system.domain.search import Accuracy
from knowledge_system.domain.tracing import span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from knowledge_system.domain.capture import Notice
    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.search import Scope, SearchRequest, SearchResponse
    from knowledge_system.domain.truth import Page
    from knowledge_system.extraction.ingestion import IngestOptions, IngestTally
    from knowledge_system.extraction.learning import LearningTally
    from knowledge_system.retrieval.search import Searcher
    from knowledge_system.settings import Settings

Document = dict[str, Any]
GRAPH_FROM = 13_000
"""Vectors below which exact search is fast enough (`design/measurements.md`, recommended presets)."""
GRAPH_SHARE = 0.8
"""Share of the vectors in the graph below which an ingest ends with optimising, in a child process."""
LARGER_DIMENSION = 1536
Progress = Callable[[str, int, int], None]
"""Called with `(stage, done, total)`; `total` is 0 when it is not known."""


def silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
    del stage, done, total


class KnowledgeSystem:
    """One running system over one data directory."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._searcher: Searcher | None = None
        self._learning = asyncio.Lock()

    @property
    def parts(self) -> Parts:
        """What the system is made of, for the verbs that live beside this class."""
        return self._parts

    async def ingest(self, paths: Sequence[Path], options: IngestOptions, progress: Progress) -> Document:
        """Read, redact, store, index and learn. Nothing already good is touched by what fails."""
        from knowledge_system.application.following import read_in
        from knowledge_system.application.heap import trimmed_heap
        from knowledge_system.application.learning import model_document
        from knowledge_system.application.trajectories import track
        from knowledge_system.extraction.learning import LearningTally

        parts, began = self._parts, time.perf_counter()
        parts.own()
        learned, waiting = LearningTally(), tuple[str, ...]()
        missing: KnowledgeError | None = None
        # What this call reads, it learns and reports, not the service in the background.
        async with self._learning, trimmed_heap():
            read = await read_in(parts, paths, options, progress)
            try:
                if not options.dry_run:
                    await self.index_words(progress)
                    await track(parts, progress)  # before anything gets its vectors, and its marks with them
                    waiting = tuple(await self._follow(learned, progress))
            except (ModelUnavailable, IndexUnavailable) as error:
                missing = error
        document = ingest_document(read, learned, time.perf_counter() - began, missing)
        model = model_document(parts.settings.tree.learning.with_model, learned)
        return {**document, "degraded": [*document["degraded"], *waiting], "model": model}

    async def capture(self, paths: Sequence[Path]) -> IngestTally:
        """Read and store what is new below `paths` and make it findable by words; learning follows later."""
        from knowledge_system.application.options import IngestOptions
        from knowledge_system.extraction.ingestion import Ingestion

        parts = self._parts
        parts.own()
        ingestion = Ingestion(parts.reader(), parts.gatekeeper(), await parts.truth(), parts.emit)
        tally = await ingestion.run(paths, IngestOptions())
        await self.index_words()
        return tally

    async def capture_body(self, notice: Notice) -> bool:
        """Store the exchanges that a notice carries, once; return whether anything was new."""
        from knowledge_system.application.arrivals import store_body

        saved = await store_body(self._parts, notice)
        await self.index_words()
        return bool(saved.new or saved.updated)

    async def index_words(self, progress: Progress = silent) -> None:
        """Make everything that is stored findable by its words."""
        truth, indexer = await self._parts.truth(), await self._parts.indexer()
        waiting = (await truth.outbox.depth()).get("words", 0)
        done = 0
        while handled := await indexer.index_words():
            done += handled
            progress("words", done, waiting)

    async def learn(self, learned: LearningTally, progress: Progress = silent) -> Sequence[str]:
        """Learn from everything not judged yet, and bring the index up to the truth. Raises ModelUnavailable.

        Return in words what could not follow in the larger embedding space, where it follows by itself.
        """
        async with self._learning:
            return await self._follow(learned, progress)

    async def _follow(self, learned: LearningTally, progress: Progress) -> Sequence[str]:
        from knowledge_system.application.larger import embed_waiting

        await self._learn(learned, progress)
        return await embed_waiting(self._parts)

    async def _learn(self, learned: LearningTally, progress: Progress) -> None:
        from knowledge_system.application.privacy import screen_of
        from knowledge_system.application.trajectories import track
        from knowledge_system.extraction.learning import Learning, LearningOptions

        parts = self._parts
        await track(parts, progress)
        truth, index, indexer = await parts.truth(), await parts.index(), await parts.indexer()
        tree = parts.settings.tree.learning
        backlog = (await truth.ledger.totals()).unlearned if tree.enabled else 0
        teachers = await parts.teaching().begin(backlog)
        learned.model = teachers.tally
        paths = (await parts.database()).path_state().trajectories
        options = LearningOptions(tree.min_confidence, tree.duplicate_at, screen_of(parts), teachers.duplicates, paths)
        learning = Learning(truth, index, indexer, teachers.extractor, options)
        count = 0

        def step(judged: int) -> None:
            nonlocal count
            count += judged
            progress("learning", count, backlog)

        if tree.enabled:
            await learning.run(learned, parts.clock, parts.emit, step)
            teachers.tell(parts.emit)
            await track(parts)  # again what learning found to be more sensitive than was known
        await indexer.catch_up()
        status = await index.status()
        if status.vectors >= GRAPH_FROM and status.indexed_vectors < GRAPH_SHARE * status.vectors:
            progress("optimizing", 0, 0)
            await index.optimize()

    async def search(self, request: SearchRequest) -> Document:
        """Answer a question; a configured default dimension of 1536 asks for high accuracy every time."""
        if self._parts.settings.tree.embeddings.default_dim == LARGER_DIMENSION:
            request = replace(request, accuracy=Accuracy.HIGH)
        return search_document(await self.find(request))

    async def find(self, request: SearchRequest) -> SearchResponse:
        """Answer a question with nouns instead of a document."""
        with self._parts.tracer.trace("knowledge-search", attributes={"scope": request.scope.value}):
            return await (await self._search()).search(request)

    async def remember(self, arguments: Document) -> Document:
        """Save a statement (`title`, `content`, `type`, `project`) as an item with its own evidence."""
        from knowledge_system.application.tools import remember

        return await remember(self, arguments)

    async def feedback(self, arguments: Document) -> Document:
        """Record a verdict (`id`, `verdict`, `note`, `actor`) on an item. Raises NotFound."""
        from knowledge_system.application.injecting import give_feedback

        return await give_feedback(self, arguments)

    async def _search(self) -> Searcher:
        if self._searcher is None:
            from knowledge_system.application.larger import high_accuracy
            from knowledge_system.retrieval.search import Searcher

            parts = self._parts
            with span("open-index-and-model"):
                await asyncio.gather(parts.index(), self._warm())
            self._searcher = Searcher(
                await parts.truth(),
                await parts.index(),
                await parts.asker(),
                parts.clock,
                parts.emit,
                parts.gatekeeper().scrub,
                high_accuracy(parts),
            )
            if parts.processes or parts.servers:  # an index that is not here takes nothing from the embedding
                self._searcher.head_start = 0.0
            parts.at_close(self._searcher.close)
        return self._searcher

    async def _warm(self) -> None:
        """Load the model while the index opens; without weights the searcher says so and goes on with words."""
        with contextlib.suppress(ModelUnavailable):
            await self._parts.model().load()

    async def show(self, identity: str) -> Document:
        """Return an item with its evidence, an exchange, or a session with its exchanges. Raises NotFound."""
        return await holdings.show(self._parts, identity)

    async def list(self, kind: str, page: Page) -> Document:
        """Return one page of items, exchanges or sessions, newest first."""
        return await holdings.listed(self._parts, kind, page)

    async def forget(self, ids: Sequence[str]) -> Document:
        """Erase items and exchanges for good. Raises NotFound when none of them exists."""
        return await holdings.forget(self._parts, ids)

    async def supersede(self, old: str, new: str) -> Document:
        """Mark an item as replaced by another."""
        return await holdings.supersede(self._parts, old, new)

    async def export(self, scope: Scope) -> AsyncIterator[Document]:
        """Yield every record of `scope`."""
        async for record in holdings.exported(self._parts, scope):
            yield record

    async def import_(self, lines: Iterable[str]) -> Document:
        """Store exported records; what is known stays as it is."""
        return await holdings.import_(self._parts, lines)

    async def status(self) -> Document:
        """Return what the system holds and how far it has followed; never needs the lock."""
        from knowledge_system.application.larger import coverage
        from knowledge_system.application.model_process import told
        from knowledge_system.operations.diagnosis import status_document

        truth = await self._parts.truth()
        home = self._parts.home()
        if self._searcher is not None:
            with contextlib.suppress(KnowledgeError):  # a count that lags is better than no answer
                await self._searcher.settled()
        document = status_document(await truth.ledger.totals(), await truth.outbox.depth(), home.holder(), home.path)
        from knowledge_system.application.capturing import last_measured

        capture = await last_measured(self._parts)
        more = {"larger_space": await coverage(self._parts), **told(self._parts)}
        return {**document, **more, "capture": capture}

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
        """Return the state of the index, and that of the larger space as far as it is in use."""
        from knowledge_system.application import indexes

        return await indexes.status(self._parts)

    async def backfill_estimate(self, limit: int | None = None) -> Document:
        """Return what `index_backfill` would send and cost; nothing is sent."""
        from knowledge_system.application.embeddings import backfill_estimate

        return await backfill_estimate(self._parts, limit)

    async def index_backfill(self, limit: int | None, progress: Progress = silent) -> Document:
        """Embed what the larger space lacks; costs money, so ask before. Begun again it goes on where it stopped."""
        from knowledge_system.application.embeddings import backfill

        self._parts.own()
        return await backfill(self._parts, limit, progress)

    async def index_rebuild(self) -> Document:
        """Build the index again from the truth, embedding what has no vector in the model's space yet."""
        from knowledge_system.application import indexes

        return await indexes.rebuild(self._parts)

    async def index_optimize(self) -> Document:
        """Build or improve the graph on a copy and swap it in when recall holds."""
        from knowledge_system.application import indexes

        return await indexes.optimize(self._parts)

    async def index_verify(self) -> Document:
        """Verify files and content, compare with the truth, and repair what differs. Raises IntegrityFailure."""
        from knowledge_system.application import indexes

        return await indexes.verify(self._parts)

    async def config_undo(self, change: str) -> Document:
        """Take back a change of settings made at run time."""
        return await self._parts.runtime().undo(change, "command line")

    async def cache_warm(self, queries: Sequence[str] | None, limit: int, days: int) -> Document:
        """Prepare questions for searching: given ones, or those asked most in the last `days`."""
        from knowledge_system.application.cache import cache_warm

        if self._searcher is not None:
            await self._searcher.settled()
        return await cache_warm(self._parts, queries, limit, days)

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
    from knowledge_system.application.served import ServedSystem, ask_for, find_service

    parts = Parts(settings, purpose)
    if emit is not None:
        parts.emit = emit
    async with parts:
        await ask_for(settings.home, parts.clock)
        service = None if alone else await find_service(settings.home, parts.clock)
        if service is None:
            await parts.runtime().recall()
        yield KnowledgeSystem(parts) if service is None else ServedSystem(parts, service)
