"""A world with a second space: its index, a model that counts what it is asked, and what may go there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.retrieval.nouns import World

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError
from knowledge_system.domain.inference import PrivacyRefused
from knowledge_system.domain.search import SearchRequest
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.retrieval.backfill import Backfill, BackfillTally
from knowledge_system.retrieval.high_accuracy import HighAccuracy
from knowledge_system.retrieval.search import Searcher
from knowledge_system.retrieval.second_space import Admission, SecondSpace
from knowledge_system.testing.embedding import HashingEmbeddingModel
from knowledge_system.testing.index import MemoryIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.domain.index import VectorIndex
    from knowledge_system.domain.search import SearchResponse

OPEN = (Sensitivity.PUBLIC, Sensitivity.INTERNAL)
DIMENSION = 64


@dataclass
class Paid:
    """A model for one project and level: notes what leaves, and fails or refuses as it is told."""

    world: LargerWorld
    project: str
    level: Sensitivity

    @property
    def space(self) -> EmbeddingSpace:
        return self.world.far.space

    @property
    def max_tokens(self) -> int:
        return self.world.far.max_tokens

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        world = self.world
        if world.calls_left is not None:
            if world.calls_left == 0:
                raise world.failure
            world.calls_left -= 1
        if any(word in text for text in texts for word in world.too_sensitive):
            raise PrivacyRefused("a text is confidential", hint="remove it")
        world.calls.append((self.project, self.level, tuple(texts)))
        return await world.far.embed(texts)


@dataclass
class LargerWorld(World):
    """The world of the retrieval tests, followed by a second space."""

    auto: bool = False
    levels: tuple[Sensitivity, ...] = OPEN
    batch_size: int = 4
    min_coverage: float = 0.5
    calls: list[tuple[str, Sensitivity, tuple[str, ...]]] = field(default_factory=list)
    calls_left: int | None = None
    failure: Exception = field(default_factory=RuntimeError)
    too_sensitive: tuple[str, ...] = ()
    question_error: Exception | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.far = HashingEmbeddingModel(DIMENSION, "far")
        self.far_index = MemoryIndex(self.far.space)
        self.reopen()
        high = HighAccuracy(self._truth, self.far.space, self._far_index, self._ask, self.min_coverage)
        self.searcher = Searcher(
            self.truth, self.index, self.model, self.searcher._clock, self.events.append, self.scrub, high
        )

    def reopen(self) -> None:
        """Begin a new run over the same truth and index."""
        admission = Admission(self.truth, self.far.space, lambda level: level in self.levels)
        self.second = SecondSpace(admission, self.far_index, self.far_index, auto=self.auto)
        self.indexer.followed_by(self.second)
        self.backfill = Backfill(self.second, lambda project, level: Paid(self, project, level), self.batch_size)

    async def fill(self, limit: int | None = None) -> BackfillTally:
        tally = BackfillTally()
        await self.backfill.run(tally, limit)
        return tally

    async def fill_waiting(self) -> BackfillTally:
        tally = BackfillTally()
        await self.backfill.waiting(tally)
        return tally

    async def fill_quietly(self, limit: int | None) -> None:
        """Fill as far as it goes."""
        with contextlib.suppress(KnowledgeError):
            await self.fill(limit)

    async def ask(self, query: str, **values: Any) -> SearchResponse:
        return await self.searcher.search(SearchRequest(query, **{"threshold": 0.0, **values}))

    async def far_owners(self) -> set[str]:
        return {owner for owner, _ in await self.far_index.owners()}

    @property
    def sent(self) -> list[str]:
        """Every text that left, in order."""
        return [text for _, _, texts in self.calls for text in texts]

    async def _truth(self) -> Any:
        return self.truth

    async def _far_index(self) -> VectorIndex:
        if self.far_index.broken:
            raise DependencyUnavailable(self.far_index.broken, hint="mount it")
        return self.far_index

    async def _ask(self, question: str, sensitivity: Sensitivity) -> Vector:
        if self.question_error is not None:
            raise self.question_error
        self.calls.append(("question", sensitivity, (question,)))
        return self.far.vector(question)
