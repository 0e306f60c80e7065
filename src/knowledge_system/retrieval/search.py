"""A question in, ranked and explained results out."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.clock import to_stored, to_utc
from knowledge_system.domain.errors import ModelUnavailable, UsageError
from knowledge_system.domain.events import SearchAnswered
from knowledge_system.domain.search import Accuracy, SearchLogEntry, SearchResponse
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import normalised
from knowledge_system.domain.tracing import span
from knowledge_system.retrieval.candidates import read
from knowledge_system.retrieval.fusion import fuse
from knowledge_system.retrieval.gather import HEAD_START, gather
from knowledge_system.retrieval.high_accuracy import ACCURACY_HIGH_UNAVAILABLE
from knowledge_system.retrieval.hits import Viewpoint, present
from knowledge_system.retrieval.indexing import STAGES
from knowledge_system.retrieval.passages import readable
from knowledge_system.retrieval.ranking import rank
from knowledge_system.retrieval.search_log import SearchLog
from knowledge_system.retrieval.terms import terms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.embedding import EmbeddingModel, Vector
    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.index import VectorIndex
    from knowledge_system.domain.search import SearchRequest
    from knowledge_system.domain.truth import Truth
    from knowledge_system.retrieval.fusion import Fused
    from knowledge_system.retrieval.high_accuracy import HighAccuracy

DEFAULT_THRESHOLD: Final = 0.2
"""Score below which nothing is shown by default, for all-MiniLM-L6-v2: `docs/decisions/0005-retrieval.md`."""
QUERY_CHARACTERS: Final = 4_000
"""What is read of a question; the model reads about 1000 characters of it."""
POOL: Final = 20
"""Candidates read from the truth at least: what session and duplicate adjustments can see."""
POOL_PER_RESULT: Final = 2
MANY: Final = 4
"""Searches under way from which on the index is asked once a search, by words and by meaning together: the processors
have enough to do, and one question instead of two saves a way to the index and back."""
BACKLOG_SECONDS: Final = 5.0
"""How long the answer to "does the index still have to follow" is kept."""
LONGEST_LIMIT: Final = 1_000

EMBEDDING_BACKLOG: Final = "embedding-backlog"
EMBEDDING_UNAVAILABLE: Final = "embedding-unavailable"


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it is used: scrubbed, bounded, with its meaningful words."""

    text: str
    terms: list[str]
    sensitivity: Sensitivity


class Searcher:
    """Answers questions from the index and the truth; the index only points, the truth tells.

    `head_start` are the seconds that the embedding of a question has before the index is asked by words: see `gather`.
    """

    head_start: float = HEAD_START

    def __init__(  # noqa: PLR0917 -- the ports a search needs, named once, in `application`
        self,
        truth: Truth,
        index: VectorIndex,
        model: EmbeddingModel,
        clock: Clock,
        emit: Emit,
        scrub: Callable[[str], tuple[str, Sensitivity]],
        high: HighAccuracy | None = None,
    ) -> None:
        self._truth = truth
        self._index = index
        self._model = model
        self._clock = clock
        self._emit = emit
        self._scrub = scrub
        self._high = high
        self._log = SearchLog(truth.ledger)
        self._backlog: tuple[float, bool] = (float("-inf"), False)
        self._under_way = 0

    async def search(self, request: SearchRequest) -> SearchResponse:
        """Answer `request`.

        Raises UsageError for an empty question or impossible options, DependencyUnavailable when the index or the
        truth cannot be read. Without a usable model the words still find; `degraded` says so.
        """
        self._under_way += 1
        try:
            return await self._answer(request)
        finally:
            self._under_way -= 1

    async def _answer(self, request: SearchRequest) -> SearchResponse:
        started = time.perf_counter()
        question = self._question(request)
        now = self._clock.now()
        degraded: list[str] = []
        embedding = self._vector(question.text, degraded)
        head_start = self.head_start if self._under_way < MANY else None
        arms = await gather(self._index, request, embedding, question.text, head_start)
        found = await self._refined(request, question, fuse(arms, len(question.terms)), degraded)
        with span("read-truth", owners=len(found)):
            pool = await read(self._truth, request, found, max(POOL, POOL_PER_RESULT * request.limit))
        threshold = DEFAULT_THRESHOLD if request.threshold is None else request.threshold
        with span("rank-results", candidates=len(pool.candidates)):
            ranked = [one for one in rank(request, pool.candidates, now) if one.score >= threshold][: request.limit]
            results = present(ranked, pool.places, Viewpoint(request, question.terms, now))
        if await self._has_backlog(started):
            degraded.append(EMBEDDING_BACKLOG)
        took_ms = (time.perf_counter() - started) * 1000
        response = SearchResponse(request, results, took_ms, tuple(degraded), pool.dropped)
        await self._record(response, question, now)
        return response

    async def settled(self) -> None:
        """Return once every search answered so far is in the search log. Raises KnowledgeError when it cannot be."""
        await self._log.settled()

    async def close(self) -> None:
        """Finish the search log; the searcher cannot be used afterwards. Raises KnowledgeError when it cannot."""
        await self._log.close()

    def _question(self, request: SearchRequest) -> Question:
        _check(request)
        return asked(request.query, self._scrub)

    async def _vector(self, text: str, degraded: list[str]) -> Vector | None:
        try:
            with span("generate-embedding", dimension=self._model.space.dimension):
                (vector,) = await self._model.embed([text])
        except ModelUnavailable:
            degraded.append(EMBEDDING_UNAVAILABLE)
            return None
        return vector

    async def _refined(
        self, request: SearchRequest, question: Question, found: Sequence[Fused], degraded: list[str]
    ) -> Sequence[Fused]:
        """Return `found`, for `--accuracy high` with the second opinion of the larger space where that can be had."""
        if request.accuracy is not Accuracy.HIGH:
            return found
        if self._high is None:
            degraded.append(ACCURACY_HIGH_UNAVAILABLE)
            return found
        with span("refine-with-larger-space"):
            refined = await self._high.refine(request, question.text, question.sensitivity, found)
        degraded.extend(refined.degraded)
        return refined.found

    async def _has_backlog(self, moment: float) -> bool:
        asked, answer = self._backlog
        if moment - asked >= BACKLOG_SECONDS:
            depth = await self._truth.outbox.depth()
            answer = any(depth.get(stage) for stage in STAGES)
            self._backlog = (moment, answer)
        return answer

    async def _record(self, response: SearchResponse, question: Question, now: datetime) -> None:
        request, results = response.request, response.results
        self._emit(
            SearchAnswered(request.scope.value, len(results), response.took_ms, response.dropped, response.degraded)
        )
        open_text = question.sensitivity.rank <= Sensitivity.INTERNAL.rank
        entry = SearchLogEntry(
            created_at=now,
            query=question.text if open_text else None,
            query_hash=query_hash(request.query),
            scope=request.scope.value,
            filters=_filters(request),
            results=len(results),
            top_score=results[0].score if results else None,
            took_ms=response.took_ms,
            dropped=response.dropped,
        )
        await self._log.add(entry)


def asked(query: str, scrub: Callable[[str], tuple[str, Sensitivity]]) -> Question:
    """Return `query` as a search uses it; its `text` is what is embedded, and what the caches of questions go by."""
    scrubbed, sensitivity = scrub(query[:QUERY_CHARACTERS])
    text = readable(scrubbed) or normalised(scrubbed)
    return Question(text, terms(text), sensitivity)


def query_hash(query: str) -> str:
    """Return 32 hexadecimal digits of SHA-256 of the question with white space folded."""
    return hashlib.sha256(normalised(query).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _check(request: SearchRequest) -> None:
    if not any(sign.isprintable() and not sign.isspace() for sign in request.query):
        raise UsageError("The question is empty.", hint="Say in a few words what you are looking for.")
    if not 1 <= request.limit <= LONGEST_LIMIT:
        raise UsageError(f"The limit is {request.limit}.", hint=f"Ask for 1 to {LONGEST_LIMIT} results with --limit.")
    if request.threshold is not None and not 0 <= request.threshold <= 1:
        raise UsageError(
            f"The threshold is {request.threshold}.", hint="Use a number from 0 (hides nothing) to 1 with --threshold."
        )
    if request.since and request.as_of and to_utc(request.since) > to_utc(request.as_of):
        raise UsageError(
            "--since lies after --as-of.", hint="Give a --since that is earlier, or leave one of them out."
        )


def _filters(request: SearchRequest) -> dict[str, str]:
    """Return the conditions that were set, as text."""
    given = {
        "types": ",".join(request.types),
        "projects": ",".join(request.projects),
        "intents": ",".join(request.intents),
        "since": to_stored(request.since) if request.since else "",
        "as_of": to_stored(request.as_of) if request.as_of else "",
        "threshold": "" if request.threshold is None else f"{request.threshold:g}",
        "accuracy": request.accuracy.value if request.accuracy is not Accuracy.NORMAL else "",
        "include_deprecated": "yes" if request.include_deprecated else "",
    }
    return {name: value for name, value in given.items() if value}
