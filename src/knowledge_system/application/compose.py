"""The only importer of adapters: real things by default, others by argument. Everything is opened when first needed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.events import IndexRebuilt, discard
from knowledge_system.domain.tracing import Tracer
from knowledge_system.storage.home import Home

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from knowledge_system.application.caches import Caches
    from knowledge_system.application.health import Health
    from knowledge_system.application.learning import Teaching
    from knowledge_system.application.memory import MemoryMonitor
    from knowledge_system.application.renewals import Renewals
    from knowledge_system.application.runtime_settings import RuntimeSettings
    from knowledge_system.application.telemetry import Telemetry
    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.embedding import EmbeddingModel, EmbeddingSpace, LocalModel
    from knowledge_system.domain.events import Emit, Event
    from knowledge_system.domain.index import OwnedIndex
    from knowledge_system.domain.knowledge import Extractor
    from knowledge_system.domain.sensitivity import Gatekeeper
    from knowledge_system.domain.sessions import TranscriptReader
    from knowledge_system.domain.truth import Truth
    from knowledge_system.embedding.remembered import RememberingModel
    from knowledge_system.embedding.supervised import SupervisedModel
    from knowledge_system.inference.engine import Engine
    from knowledge_system.retrieval.indexing import Indexer
    from knowledge_system.retrieval.second_space import SecondSpace
    from knowledge_system.sensitivity.layers import Layers
    from knowledge_system.settings import Settings
    from knowledge_system.storage.database import Database
    from knowledge_system.storage.index_server import ServerIndex
    from knowledge_system.storage.index_supervised import SupervisedIndex


@dataclass(slots=True)
class Parts:
    """The parts of one running system. Use as an async context manager: it closes what was opened, newest first.

    `purpose` is what others are told when they find the data directory taken. `resident` is set by a service before
    it opens anything: its index lives in a process of its own, `processes`, unless the settings say otherwise, such as
    that a server has it, `servers`; so does its embedding model, `model_process`.
    """

    settings: Settings
    purpose: str
    clock: Clock = field(default_factory=SystemClock)
    emit: Emit = discard
    tracer: Tracer = field(default_factory=Tracer)
    resident: bool = False
    processes: list[SupervisedIndex] = field(default_factory=list)
    servers: list[ServerIndex] = field(default_factory=list)
    model_process: SupervisedModel | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _workers: AsyncExitStack = field(default_factory=AsyncExitStack)
    _opening_database: asyncio.Lock = field(default_factory=asyncio.Lock)
    _opening_index: asyncio.Lock = field(default_factory=asyncio.Lock)
    _opening_second: asyncio.Lock = field(default_factory=asyncio.Lock)
    _opening_caches: asyncio.Lock = field(default_factory=asyncio.Lock)
    _opening_engine: asyncio.Lock = field(default_factory=asyncio.Lock)
    _home: Home | None = None
    _locked: bool = False
    _database: Database | None = None
    _truth: Truth | None = None
    _model: LocalModel | None = None
    _index: OwnedIndex | None = None
    _indexes: dict[str, OwnedIndex] = field(default_factory=dict)
    _indexer: Indexer | None = None
    _second: SecondSpace | None = None
    _engine: Engine | None = None
    _engines: Renewals | None = None
    _runtime: RuntimeSettings | None = None
    _layers: Layers | None = None
    _caches: Caches | None = None
    _asker: RememberingModel | None = None
    _teaching: Teaching | None = None
    _health: Health | None = None
    _memory: MemoryMonitor | None = None
    telemetry: Telemetry | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._stack:
            await self._workers.aclose()

    def home(self) -> Home:
        """Return the data directory, created when it is missing."""
        if self._home is None:
            self._home = Home(self.settings.home, self.clock)
            self._home.prepare()
        return self._home

    def own(self) -> None:
        """Take the data directory for this process. Raises Busy when another process has it."""
        if not self._locked:
            self.home().acquire(self.purpose)
            self._stack.callback(self.home().release)
            self._locked = True

    def before_close(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run `step`, which ends work in the background, before anything that it may use is closed."""
        self._workers.push_async_callback(step)

    def at_close(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run `step` when the system is closed."""
        self._stack.push_async_callback(step)

    async def truth(self) -> Truth:
        """Return the ports of the database."""
        if self._truth is None:
            self._truth = (await self.database()).truth()
        return self._truth

    async def database(self) -> Database:
        """Return the database, migrated to this version's schema."""
        if self._database is None:
            async with self._opening_database:
                if self._database is None:
                    self._database = await self._open_database()
        return self._database

    def is_new(self) -> bool:
        """Tell whether there is certainly no database yet."""
        return not self.settings.tree.database.url and not (self.home().path / "analytics.db").exists()

    async def _open_database(self) -> Database:
        from knowledge_system.storage.connections import file_url
        from knowledge_system.storage.database import Database

        url = self.settings.tree.database.url or file_url(self.home().path / "analytics.db")
        database = await Database.open(url, self.clock)
        self._stack.push_async_callback(database.close)
        await self.runtime().load(database)
        return database

    def runtime(self) -> RuntimeSettings:
        """Return the settings as they can be changed while the system runs; those changed before are in force."""
        if self._runtime is None:
            from knowledge_system.application.runtime_settings import RuntimeSettings

            self._runtime = RuntimeSettings(self)
        return self._runtime

    def model(self) -> LocalModel:
        """Return the local embedding model."""
        if self._model is None:
            from knowledge_system.application.model_process import make_model

            self._model = make_model(self)
        return self._model

    async def engine(self) -> Engine:
        """Return the engine that every model call of this system goes through."""
        if self._engine is None:
            async with self._opening_engine:
                if self._engine is None:
                    self._engine = await self._new_engine()
        return self._engine

    async def reopen(self) -> None:
        """Let whatever is asked of models from now on follow the settings as they are now.

        Calls under way finish with the engine they began with; it is closed when none of them can still be.
        """
        async with self._opening_engine:
            self._teaching = None
            if self._engine is not None:
                self._engine = await self._new_engine()

    async def _new_engine(self) -> Engine:
        from knowledge_system.application.engine import open_engine
        from knowledge_system.application.renewals import Renewals

        if self._engines is None:
            await self.database()  # closed after every engine
            self._engines = Renewals()
            self.at_close(self._engines.aclose)
        return await self._engines.renewed(lambda at_close: open_engine(self, at_close))

    def layers(self) -> Layers:
        """Return what judges the sensitivity of whatever a model is shown."""
        if self._layers is None:
            from knowledge_system.application.privacy import make_layers

            self._layers = make_layers(self)
        return self._layers

    async def caches(self) -> Caches:
        """Return what the caches of this process share with those of others."""
        if self._caches is None:
            async with self._opening_caches:
                if self._caches is None:
                    from knowledge_system.application.caches import open_caches

                    self._caches = await open_caches(self)
        return self._caches

    async def asker(self) -> RememberingModel:
        """Return the local embedding model for questions: it remembers them, in this process and for the others."""
        caches = await self.caches()
        if self._asker is None:
            from knowledge_system.embedding.remembered import RememberingModel

            most = self.settings.tree.cache.l1.max
            self._asker = RememberingModel(self.embedder(), caches.state.questions, most, caches.emit)
            caches.watch(self._asker, self._asker.forget, "questions")
        return self._asker

    async def index(self) -> OwnedIndex:
        """Return the index; one that is not sound is rebuilt from the truth first.

        One whose server is away is returned nevertheless; so is one that a service makes equal to the truth by itself.
        """
        if self._index is None:
            async with self._opening_index:
                if self._index is None:
                    self._index = await self.open_index(self.model().space)
                    if all(server.usable and not server.looked_after for server in self.servers):
                        await self.repaired(self._index)
        return self._index

    async def open_index(self, space: EmbeddingSpace) -> OwnedIndex:
        """Open the index of a space once, sound or not; it is closed with these parts."""
        if space.key not in self._indexes:
            from knowledge_system.application.index_process import open_index
            from knowledge_system.application.observed import ObservedIndex

            self.own()
            index = ObservedIndex(await open_index(self, space), space.dimension, self.announce)
            self._indexes[space.key] = index
            self._stack.push_async_callback(index.close)
        return self._indexes[space.key]

    def open_index_if_any(self) -> OwnedIndex | None:
        """Return the index when something has opened it already."""
        return self._index

    def announce(self, event: Event) -> None:
        """Tell `event` to whoever listens by now."""
        self.emit(event)

    def embedder(self) -> EmbeddingModel:
        """Return the local embedding model as a port that announces what it computes."""
        from knowledge_system.application.observed import ObservedModel

        return ObservedModel(self.model(), self.announce)

    def index_processes(self) -> list[dict[str, Any]]:
        """Return how each process that holds an index is; none where the index lives in this process."""
        return [asdict(index.process()) for index in self.processes]

    async def repaired(self, index: OwnedIndex) -> None:
        """Rebuild an index that is broken, or empty because it was deleted or belongs to a new embedding space."""
        truth = await self.truth()
        # In this order: what is stored and indexed between two of these readings must not look lost.
        stored = bool(await truth.ledger.owners(limit=1))
        depth = await truth.outbox.depth()
        status = await index.status()
        lost = status.points == 0 and stored and not (depth.get("words") or depth.get("vectors"))
        if lost or not status.healthy:
            report = await (await self.indexer()).rebuild(index)
            self.emit(IndexRebuilt(status.detail or "empty", report.points))

    async def indexer(self) -> Indexer:
        """Return what makes the index follow the truth."""
        if self._indexer is None:
            from knowledge_system.application.larger import follower
            from knowledge_system.retrieval.indexing import Indexer

            truth, index, following = await self.truth(), await self.index(), await follower(self)
            # Two of them would write the index at the same time; a lock around opening the index would wait for itself.
            if self._indexer is None:
                self._indexer = Indexer(truth, index, self.embedder(), following)
        return self._indexer

    async def second(self) -> SecondSpace:
        """Return the larger embedding space, its index open and sound: rebuilt from the truth where it was not."""
        if self._second is None:
            async with self._opening_second:
                if self._second is None:
                    from knowledge_system.application.embeddings import open_second

                    self._second = await open_second(self)
        return self._second

    def gatekeeper(self) -> Gatekeeper:
        """Return what stands at the door, with the installation's key and topics."""
        from knowledge_system.sensitivity.gatekeeper import DoorGatekeeper
        from knowledge_system.sensitivity.topics import load_topics

        return DoorGatekeeper(load_topics(self.settings.topics_file), self.home().key())

    def reader(self) -> TranscriptReader:
        """Return the reader of transcript files."""
        from knowledge_system.transcripts.files import FileTranscriptReader

        return FileTranscriptReader()

    def teaching(self) -> Teaching:
        """Return what finds the teachers of each run of learning: the extractor, and a model where one may be used."""
        if self._teaching is None:
            from knowledge_system.application.learning import Teaching

            self._teaching = Teaching(self)
        return self._teaching

    def health(self) -> Health:
        """Return what tells how this system is; what it checks is opened when it is first asked."""
        if self._health is None:
            from knowledge_system.application.health import Health

            self._health = Health(self)
            self.at_close(self._health.close)
        return self._health

    def memory(self) -> MemoryMonitor:
        """Return what watches the memory of this process."""
        if self._memory is None:
            from knowledge_system.application.memory import MemoryMonitor

            self._memory = MemoryMonitor(self)
        return self._memory

    def extractor(self) -> Extractor:
        """Return what judges exchanges without a model."""
        from knowledge_system.extraction.extractor import EvidenceExtractor

        return EvidenceExtractor()
