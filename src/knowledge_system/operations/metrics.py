"""Events become counters and histograms; labels are bounded, whatever an event says."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.events import (
    AttemptCharged,
    BreakerChanged,
    CacheConsulted,
    CaptureFailed,
    CaptureMeasured,
    Event,
    ExchangesIngested,
    FeedbackGiven,
    ItemLearned,
    ItemRejected,
    ModelCalled,
    RequestRefused,
    SearchAnswered,
    TextsEmbedded,
    TracesExported,
    UpkeepRan,
    VectorsSearched,
)
from knowledge_system.domain.inference import (
    NANO,
    BreakerOpen,
    BudgetExhausted,
    NoProvider,
    PriceUnknown,
    PrivacyRefused,
)
from knowledge_system.domain.knowledge import KnowledgeType
from knowledge_system.domain.search import Scope
from knowledge_system.operations.series import CACHE_HITS, MODES, REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from knowledge_system.domain.clock import Clock
    from knowledge_system.operations.series import Series

OTHER: Final = "other"
NOBODY: Final = "none"
"""Label of a call that no provider answered."""
OPERATIONS: Final = frozenset(
    {"extract", "judge-duplicate", "classify-sensitivity", "classify-intent", "embed-query", "embed-passage", "gateway"}
)
"""What model calls are for; anything else is `other`."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MOST_VALUES: Final = 64
"""Values of a label whose set is not known beforehand, though it is fixed in the code that announces it."""
UNASKED: Final = frozenset(
    kind.code for kind in (BreakerOpen, BudgetExhausted, NoProvider, PriceUnknown, PrivacyRefused, UsageError)
)
"""Outcomes of calls that nobody was asked, unless a request was sent: their duration says nothing about a model."""
RECENT: Final = 300.0
"""Seconds of cache traffic that `cache_hit_rate` tells of (operations guide: 5 minutes)."""


class Bounded:
    """Lets the first `most` values of a label through; the rest is `other`."""

    def __init__(self, known: Iterable[str] = (), most: int = MOST_VALUES) -> None:
        self._known = set(known)
        self._most = most

    def __call__(self, value: str) -> str:
        """Return `value`, or `other`."""
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


class HitRate:
    """The share of hits among the cache requests of the last minutes."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._slots: deque[tuple[int, int, int]] = deque()

    def add(self, *, hit: bool) -> None:
        """Count a request; a slot is a second."""
        slot = int(self._monotonic())
        hits, total = self._slots.pop()[1:] if self._slots and self._slots[-1][0] == slot else (0, 0)
        self._slots.append((slot, hits + hit, total + 1))
        self._forget(slot)

    def share(self) -> float | None:
        """Return the share from 0 to 1; None without traffic."""
        self._forget(int(self._monotonic()))
        total = sum(slot[2] for slot in self._slots)
        return sum(slot[1] for slot in self._slots) / total if total else None

    def _forget(self, now: int) -> None:
        while self._slots and self._slots[0][0] <= now - self._seconds:
            self._slots.popleft()


class Metrics:
    """Observes events. Never raises for an event, whatever it holds; one it does not know changes nothing."""

    def __init__(
        self,
        series: Series,
        clock: Clock,
        providers: Callable[[], Iterable[str]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.series = series
        self.captured: CaptureMeasured | None = None
        self.hit_rate = HitRate(RECENT, monotonic)
        self._clock = clock
        self._providers = providers
        self._outcomes, self._jobs, self._loops, self._codes = Bounded(), Bounded(), Bounded(), Bounded()
        self._dimensions, self._phases, self._operations = Bounded(most=8), Bounded(most=8), Bounded(most=MOST_VALUES)
        self._sources, self._verdicts, self._routes = Bounded(), Bounded(most=8), Bounded(most=2 * MOST_VALUES)
        self._handlers: Mapping[type[Event], Callable[..., None]] = {
            ModelCalled: self._model_called,
            AttemptCharged: self._attempt_charged,
            CacheConsulted: self._cache_consulted,
            BreakerChanged: self._breaker_changed,
            VectorsSearched: self._vectors_searched,
            TextsEmbedded: self._texts_embedded,
            SearchAnswered: self._search_answered,
            ItemRejected: self._item_rejected,
            FeedbackGiven: self._feedback_given,
            UpkeepRan: self._upkeep_ran,
            CaptureFailed: self._capture_failed,
            CaptureMeasured: self._capture_measured,
            TracesExported: self._traces_exported,
            RequestRefused: self._request_refused,
        }

    def observe(self, event: Event, *, realtime: bool = False) -> None:
        """Count what `event` tells; `realtime`: the service did it by itself while sessions go on."""
        if isinstance(event, ItemLearned):
            self._item_learned(event, MODES[not realtime])
        elif isinstance(event, ExchangesIngested):
            self.series.exchanges_ingested.labels(MODES[not realtime]).inc(event.new)
        else:
            kind = next((kind for kind in type(event).__mro__ if kind in self._handlers), None)
            if kind is not None:
                self._handlers[kind](event)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered; `route` is its template."""
        route = self._routes(route)
        self.series.http_requests.labels(method if method in METHODS else OTHER, route, str(status)).inc()
        self.series.http_seconds.labels(route).observe(seconds)

    def slow(self, operation: str) -> None:
        """Count a request that took too long."""
        self.series.slow_requests.labels(self._operations(operation)).inc()

    def unreadable(self, source: str) -> None:
        """Count a source that could not be read for a scrape."""
        self.series.scrape_errors.labels(self._sources(source)).inc()

    def _provider(self, name: str) -> str:
        return NOBODY if not name else name if name in self._providers() else OTHER

    def _model_called(self, event: ModelCalled) -> None:
        call = self._call(event.provider, event.operation)
        if not event.cached and (event.requests or event.outcome not in UNASKED):
            self.series.inference_latency.labels(*call).observe(event.seconds)
        self.series.inference_requests.labels(*call, self._outcomes(event.outcome)).inc()

    def _attempt_charged(self, event: AttemptCharged) -> None:
        self.series.inference_cost.labels(*self._call(event.provider, event.operation)).inc(event.cost_nano / NANO)

    def _call(self, provider: str, operation: str) -> tuple[str, str]:
        return self._provider(provider), operation if operation in OPERATIONS else OTHER

    def _cache_consulted(self, event: CacheConsulted) -> None:
        series, result = self.series, event.result
        series.cache_requests.labels(self._codes(result)).inc()
        if result == "bypass":
            return
        self.hit_rate.add(hit=result in CACHE_HITS)
        if event.saved_nano > 0:
            series.cache_saved.inc(event.saved_nano / NANO)
        if result in {"l1", "l2"}:
            series.cache_hits.labels(result).inc()
        if result != "l1":
            series.cache_misses.labels("l1").inc()
        if result not in {"l1", "l2"}:
            series.cache_misses.labels("l2").inc()

    def _breaker_changed(self, event: BreakerChanged) -> None:
        self.series.breaker_transitions.labels(self._provider(event.provider), self._phases(event.phase)).inc()

    def _vectors_searched(self, event: VectorsSearched) -> None:
        dimension = self._dimensions(str(event.dimension))
        self.series.vector_latency.labels(dimension).observe(event.seconds)
        self.series.vector_searches.labels(dimension).inc(event.queries)

    def _texts_embedded(self, event: TextsEmbedded) -> None:
        if event.texts:
            dimension = self._dimensions(str(event.dimension))
            self.series.embedding_latency.labels(dimension).observe(event.seconds / event.texts)

    def _search_answered(self, event: SearchAnswered) -> None:
        scope = event.scope if event.scope in set(Scope) else OTHER
        self.series.search_latency.labels(scope).observe(event.took_ms / 1000)
        self.series.searches.labels(scope, "yes" if event.degraded else "no").inc()
        self.series.hits_dropped.inc(event.dropped)

    def _item_learned(self, event: ItemLearned, mode: str) -> None:
        self.series.learning_outcomes.labels(self._codes(event.outcome)).inc()
        if event.outcome == "created":
            kind = event.type if event.type in set(KnowledgeType) else OTHER
            self.series.items_extracted.labels(kind, mode).inc()

    def _item_rejected(self, _: ItemRejected) -> None:
        self.series.learning_outcomes.labels("rejected").inc()

    def _feedback_given(self, event: FeedbackGiven) -> None:
        self.series.feedback.labels(self._verdicts(event.verdict)).inc()

    def _upkeep_ran(self, event: UpkeepRan) -> None:
        job = self._jobs(event.job)
        self.series.upkeep_runs.labels(job, self._outcomes(event.outcome)).inc()
        if event.outcome == "done":
            self.series.upkeep_success.labels(job).set(self._clock.now().timestamp())

    def _capture_failed(self, event: CaptureFailed) -> None:
        self.series.loop_failures.labels(self._loops(event.loop)).inc()

    def _request_refused(self, event: RequestRefused) -> None:
        self.series.http_refused.labels(event.reason if event.reason in REFUSALS else OTHER).inc()

    def _capture_measured(self, event: CaptureMeasured) -> None:
        self.captured = event

    def _traces_exported(self, event: TracesExported) -> None:
        self.series.traces_exported.labels(self._codes(event.outcome)).inc(event.traces)
