"""The counters and histograms of a running process: name, help, labels, buckets. Names are a contract.

Buckets contain every limit of the critical-metrics table and go above its critical one, and resolve what this system
usually takes below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from knowledge_system.domain.feedback import FeedbackVerdict
from knowledge_system.domain.knowledge import KnowledgeType
from knowledge_system.domain.search import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry

PREFIX: Final = "knowledge_"
INFERENCE: Final = (0.1, 0.5, 1, 2, 3, 5, 10, 20, 30)
VECTOR_SEARCH: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
EMBEDDING: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SEARCH: Final = (0.005, 0.01, 0.015, 0.02, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
HTTP: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 1, 2, 5, 10)

CACHE_RESULTS: Final = ("l1", "l2", "stale", "shared", "miss", "bypass")
CACHE_HITS: Final = ("l1", "l2", "stale", "shared")
LEVELS: Final = ("l1", "l2")
MODES: Final = ("realtime", "batch")
LEARNED: Final = ("created", "merged", "superseded", "rejected")
REFUSALS: Final = ("unauthorized", "forbidden", "malformed", "too-large", "rate-limited", "crowded", "timeout")


class Row(NamedTuple):
    """One series as it is documented: its exposed name, kind, labels, meaning, upper bounds of buckets."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


class Series:
    """All of them, in one registry; None when the files of several processes are what is exposed."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._registry = registry
        self._rows: list[Row] = []
        self._inference()
        self._search()
        self._knowledge()
        self._service()
        self._begin_at_zero()

    def rows(self) -> list[Row]:
        """Return every series as it is exposed."""
        return list(self._rows)

    def _inference(self) -> None:
        call = ("provider", "operation")
        self.inference_latency = self._histogram(
            "inference_latency_seconds", "Duration of model calls for which somebody was asked.", INFERENCE, call
        )
        self.inference_cost = self._counter(
            "inference_cost_usd", "What requests to providers were charged, answered or not, in US dollars.", call
        )
        self.inference_requests = self._counter(
            "inference_requests", "Model calls by how they ended: answered, or the code of the error.",
            (*call, "outcome"),
        )  # fmt: skip
        self.cache_requests = self._counter(
            "cache_requests", "Requests that asked the caches, once each; the hit rate leaves out bypass.", ("result",)
        )
        self.cache_hits = self._counter("cache_hits", "Hits of one cache level.", ("cache_type",))
        self.cache_misses = self._counter(
            "cache_misses", "Misses of one level; a hit in l2 missed l1.", ("cache_type",)
        )
        self.cache_saved = self._counter("cache_saved_usd", "What answers from caches had cost, in US dollars.")
        self.breaker_transitions = self._counter(
            "circuit_breaker_transitions", "Changes of a circuit breaker as this process saw them.",
            ("provider", "phase"),
        )  # fmt: skip

    def _search(self) -> None:
        self.vector_latency = self._histogram(
            "vector_search_latency_seconds", "Duration of one call of the vector index.", VECTOR_SEARCH, ("dimension",)
        )
        self.vector_searches = self._counter("vector_searches", "Queries by vector.", ("dimension",))
        self.embedding_latency = self._histogram(
            "embedding_latency_seconds", "Seconds a text: a batch counts once, with its mean.", EMBEDDING,
            ("dimension",),
        )  # fmt: skip
        self.search_latency = self._histogram(
            "search_latency_seconds", "Duration of a search, from the question to ranked results.", SEARCH, ("scope",)
        )
        self.searches = self._counter(
            "searches", "Searches; degraded where something could not take part.", ("scope", "degraded")
        )
        self.hits_dropped = self._counter("search_hits_dropped", "Hits of the index that the truth does not have.")

    def _knowledge(self) -> None:
        self.items_extracted = self._counter(
            "items_extracted", "Items created; realtime: learned by the service by itself, batch: asked for.",
            ("type", "mode"),
        )  # fmt: skip
        self.learning_outcomes = self._counter("learning_outcomes", "What became of what was judged.", ("outcome",))
        self.exchanges_ingested = self._counter("exchanges_ingested", "Exchanges stored for the first time.", ("mode",))
        self.feedback = self._counter("feedback", "Verdicts on items.", ("verdict",))

    def _service(self) -> None:
        self.sqlite_queries = self._counter("sqlite_queries", "Statements run in the database by this service.")
        self.http_requests = self._counter(
            "http_requests", "Answered requests; the route is its template.", ("method", "route", "status")
        )
        self.http_seconds = self._histogram(
            "http_request_seconds", "Duration of requests until the last byte.", HTTP, ("route",)
        )
        self.http_refused = self._counter("http_refused", "Requests refused before anything was done.", ("reason",))
        self.http_in_flight = self._gauge("http_requests_in_flight", "Requests being answered.", (), "livesum")
        self.slow_requests = self._counter(
            "slow_requests", "Requests that took longer than telemetry.slowRequestMs.", ("operation",)
        )
        self.upkeep_runs = self._counter("upkeep_runs", "Runs of periodic jobs: done, or an error.", ("job", "outcome"))
        self.upkeep_success = self._gauge(
            "upkeep_last_success_timestamp_seconds", "When a periodic job last succeeded.", ("job",), "max"
        )
        self.loop_failures = self._counter("loop_failures", "Failures of the service's own loops.", ("loop",))
        self.scrape_errors = self._counter("scrape_errors", "Sources that could not be read for a scrape.", ("source",))
        self.traces_exported = self._counter("traces_exported", "Traces for the collector.", ("outcome",))

    def _begin_at_zero(self) -> None:
        """Show what has few values from the start: `rate` sees the first event only when it has seen 0."""
        for metric, values in (
            (self.cache_requests, CACHE_RESULTS), (self.cache_hits, LEVELS), (self.cache_misses, LEVELS),
            (self.learning_outcomes, LEARNED), (self.exchanges_ingested, MODES), (self.feedback, FeedbackVerdict),
            (self.http_refused, REFUSALS),
        ):  # fmt: skip
            for value in values:
                metric.labels(str(value))
        for scope in Scope:
            for degraded in ("no", "yes"):
                self.searches.labels(scope.value, degraded)
        for kind in KnowledgeType:
            for mode in MODES:
                self.items_extracted.labels(kind.value, mode)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        self._rows.append(Row(f"{PREFIX}{name}_total", "counter", tuple(labels), text))
        return Counter(PREFIX + name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str], mode: Any) -> Gauge:
        self._rows.append(Row(PREFIX + name, "gauge", tuple(labels), text))
        return Gauge(PREFIX + name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str]) -> Histogram:
        self._rows.append(Row(PREFIX + name, "histogram", tuple(labels), text, tuple(buckets)))
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self._registry)
