"""The one table of what is critical: alerts, dashboard, runbooks, checklists and capacity advice derive from it.

Targets and limits are those of the operations guide. Sizes are decimal (1 GB is 10⁹ bytes), as the guide's own rule for
6 GB is. Shares of the budget stand once, in `BUDGET_TIERS`; the guide has six different ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["s", "bytes", "ratio", "USD", "per_minute", "per_second", "count", "state"]
"""Unit of a value: `ratio` is 0 to 1, `state` a circuit breaker's 0 closed, 1 half-open, 2 open."""

SERVICE = 'job="knowledge-system"'
"""How the service's own series are selected where another job may have the same name."""

DEFAULT_BUDGET_USD = 8.33
"""Dollars a month, the default of `budget.monthly`."""


@dataclass(frozen=True, slots=True)
class BudgetTier:
    """From `share` of the monthly budget on, `effect`; `alert` tells (None: only shown)."""

    share: float
    name: str
    effect: str
    alert: str | None


BUDGET_TIERS = (
    BudgetTier(0.80, "local-first", "local models are asked first", "BudgetNearLimit"),
    BudgetTier(0.90, "local-only", "only local models are asked", "MonthlyCostHigh"),
    BudgetTier(0.95, "warning", "the budget's health check warns", None),
    BudgetTier(1.00, "exhausted", "no call that costs money is made", "BudgetExceeded"),
)


@dataclass(frozen=True, slots=True)
class CriticalMetric:
    """One row: what is good (`target`), what alerts, what is critical, in `unit`; `above` tells which side is bad.

    `query` is PromQL for the value; `guard` is a condition without which the value says nothing (`""`: always), with
    `LIMIT` in place of the limit. `warning_for` and `critical_for` are how long a limit must be crossed. `shares`
    replaces the limits by shares of `relative_to` (PromQL): the amounts of the row are those of the default budget.
    `labels` are those of `query`.
    """

    id: str
    what: str
    unit: Unit
    target: float
    alert: float
    critical: float
    query: str
    panel: str
    alerts: tuple[str, str]
    guard: str = ""
    above: bool = True
    warning_for: str = "5m"
    critical_for: str = "2m"
    relative_to: str = ""
    shares: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()

    @property
    def compared(self) -> str:
        """Return the operator that finds the bad side."""
        return ">" if self.above else "<"


@dataclass(frozen=True, slots=True)
class ScaleTrigger:
    """One sign that the installation is outgrown: normal values are below `normal`, above `trigger` do `advice`."""

    id: str
    what: str
    unit: Unit
    normal: float
    trigger: float
    query: str
    alert: str
    advice: str


def p95(metric: str, selector: str = "") -> str:
    """Return PromQL for the 95th percentile of a histogram over five minutes."""
    return f"histogram_quantile(0.95, sum by (le) (rate({metric}_bucket{selector}[5m])))"


LIMIT = "$limit"
"""Stands in a guard for the limit that is judged."""


def _several(metric: str, dimension: str = "") -> str:
    """Return PromQL that is true when five minutes hold three events above the limit.

    With little traffic a single slow one is the 95th percentile, and stays it for as long as the window is. Half an
    event is left to the extrapolation of `rate`. Limits are bounds of buckets, written as prometheus-client does.
    """
    space = f'dimension="{dimension}"' if dimension else ""
    below = f'le="{LIMIT}",{space}'.rstrip(",")
    every = f"sum(rate({metric}_count{{{space}}}[5m]))" if space else f"sum(rate({metric}_count[5m]))"
    return f"({every} - sum(rate({metric}_bucket{{{below}}}[5m]))) * 300 > 2.5"


_HITS = 'knowledge_cache_requests_total{result=~"l1|l2|stale|shared"}[5m]'
_ASKED = 'knowledge_cache_requests_total{result!="bypass"}[5m]'
_384 = '{dimension="384"}'
_1536 = '{dimension="1536"}'
_EMBEDDING = "knowledge_embedding_latency_seconds"
_MEMORY = 'label_replace(memory_resident_bytes{job="qdrant"}, "component", "qdrant", "", "")'

CRITICAL_METRICS = (
    CriticalMetric(
        "inference-latency",
        "Inference latency, 95th percentile",
        "s",
        2,
        3,
        5,
        p95("knowledge_inference_latency_seconds"),
        "Inference Latency (p95)",
        ("HighInferenceLatency", "CriticalInferenceLatency"),
        guard=_several("knowledge_inference_latency_seconds"),
    ),
    CriticalMetric(
        "vector-search",
        "Vector search latency, 95th percentile",
        "s",
        0.5,
        1,
        2,
        p95("knowledge_vector_search_latency_seconds"),
        "Vector Search Latency (p95)",
        ("HighVectorSearchLatency", "CriticalVectorSearchLatency"),
        guard=_several("knowledge_vector_search_latency_seconds"),
    ),
    CriticalMetric(
        "embedding-384",
        "Embedding of one text with 384 dimensions, 95th percentile",
        "s",
        0.05,
        0.1,
        0.2,
        p95(_EMBEDDING, _384),
        "Embedding Latency, 384 Dimensions (p95)",
        ("SlowEmbedding384", "CriticalEmbedding384"),
        guard=_several(_EMBEDDING, "384"),
    ),
    CriticalMetric(
        "embedding-1536",
        "Embedding of one text with 1536 dimensions, 95th percentile",
        "s",
        0.2,
        0.5,
        1,
        p95(_EMBEDDING, _1536),
        "Embedding Latency, 1536 Dimensions (p95)",
        ("SlowEmbedding1536", "CriticalEmbedding1536"),
        guard=_several(_EMBEDDING, "1536"),
    ),
    CriticalMetric(
        "cache-hit-rate",
        "Share of cacheable requests answered by a cache",
        "ratio",
        0.4,
        0.3,
        0.2,
        f"(sum(rate({_HITS})) or vector(0)) / sum(rate({_ASKED}))",
        "Cache Hit Rate",
        ("LowCacheHitRate", "CriticalCacheHitRate"),
        # Twenty requests in five minutes, and half an hour for a new process to fill its cache.
        guard=f"sum(rate({_ASKED})) * 300 >= 20"
        f" unless on () (time() - max(max_over_time(process_start_time_seconds{{{SERVICE}}}[5m])) < 1800)",
        above=False,
        warning_for="10m",
        critical_for="10m",
    ),
    CriticalMetric(
        "monthly-cost",
        "Spend of the month so far",
        "USD",
        DEFAULT_BUDGET_USD,
        round(BUDGET_TIERS[1].share * DEFAULT_BUDGET_USD, 2),
        round(BUDGET_TIERS[3].share * DEFAULT_BUDGET_USD, 2),
        "max(knowledge_monthly_spend_usd)",
        "Monthly Spend vs Budget",
        ("MonthlyCostHigh", "BudgetExceeded"),
        critical_for="1m",
        relative_to="max(knowledge_monthly_budget_usd)",
        shares=(BUDGET_TIERS[1].share, BUDGET_TIERS[3].share),
    ),
    CriticalMetric(
        "vector-store-memory",
        "Memory of the vector store",
        "bytes",
        4e9,
        6e9,
        8e9,
        f"max by (component) (knowledge_vector_store_memory_bytes or {_MEMORY})",
        "Vector Store Memory",
        ("HighQdrantMemory", "CriticalQdrantMemory"),
        critical_for="5m",
        labels=("component",),
    ),
    CriticalMetric(
        "sqlite-size",
        "Size of the database with its log",
        "bytes",
        500e6,
        800e6,
        1e9,
        "max(knowledge_sqlite_size_bytes)",
        "Database Size",
        ("SqliteSizeHigh", "SqliteSizeCritical"),
        warning_for="15m",
        critical_for="15m",
    ),
    CriticalMetric(
        "extraction-rate",
        "Knowledge items extracted a minute while sessions arrive",
        "per_minute",
        10,
        5,
        2,
        "(sum(rate(knowledge_items_extracted_total[5m])) or vector(0)) * 60",
        "Knowledge Extraction Rate",
        ("LowExtractionRate", "CriticalExtractionRate"),
        # Twice the target arrives, so the target could be reached: a single user who works never comes near it.
        guard="sum(rate(knowledge_exchanges_ingested_total[5m])) * 60 >= 20",
        above=False,
        warning_for="10m",
        critical_for="10m",
    ),
    CriticalMetric(
        "circuit-breaker",
        "State of a provider's circuit breaker",
        "state",
        0,
        1,
        2,
        "max by (provider) (knowledge_circuit_breaker_state)",
        "Circuit Breaker States",
        ("CircuitBreakerHalfOpen", "CircuitBreakerOpenCritical"),
        labels=("provider",),
    ),
)

SCALE_TRIGGERS = (
    ScaleTrigger(
        "inference-requests",
        "Inference requests a minute",
        "per_minute",
        100,
        500,
        "sum(rate(knowledge_inference_requests_total[15m])) * 60",
        "ScaleInferenceRequests",
        "add inference workers",
    ),
    ScaleTrigger(
        "vector-searches",
        "Vector searches a minute",
        "per_minute",
        50,
        200,
        "sum(rate(knowledge_vector_searches_total[15m])) * 60",
        "ScaleVectorSearches",
        "give the vector store more memory and processors",
    ),
    ScaleTrigger(
        "knowledge-items",
        "Knowledge items stored",
        "count",
        10_000,
        50_000,
        # An item with vectors of both spaces is one item.
        "sum(max by (type) (knowledge_items_stored))",
        "ScaleKnowledgeItems",
        "divide the index into shards",
    ),
    ScaleTrigger(
        "embedding-queue",
        "Texts that wait for their vector",
        "count",
        10,
        100,
        "max(knowledge_embedding_queue_depth)",
        "ScaleEmbeddingQueue",
        "add workers",
    ),
    ScaleTrigger(
        "sqlite-queries",
        "SQLite statements a second",
        "per_second",
        100,
        500,
        "sum(rate(knowledge_sqlite_queries_total[15m]))",
        "ScaleSqliteQueries",
        "move to PostgreSQL",
    ),
    ScaleTrigger(
        "monthly-cost",
        "Inference cost of the month so far",
        "USD",
        5,
        7,
        "max(knowledge_monthly_spend_usd)",
        "ScaleMonthlyCost",
        "review what the caches miss",
    ),
)


def metric(name: str) -> CriticalMetric:
    """Return the row with this `id`; KeyError when there is none."""
    return {row.id: row for row in CRITICAL_METRICS}[name]
