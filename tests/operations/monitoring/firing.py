"""When each alert fires and what it says: series at one-minute steps, the moment, and a case that stays silent.

Numbers are round because promtool compares texts. `near` replaces or adds series so that the limit is just not
crossed, or the guard holds the alert back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client.utils import floatToGoString

Series = dict[str, str]

INFERENCE = ("0.1", "0.5", "1", "2", "3", "5", "10", "20", "30", "+Inf")
VECTOR = ("0.1", "0.2", "0.5", "1", "2", "5", "10", "+Inf")
EMBEDDING = ("0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "+Inf")


@dataclass(frozen=True)
class Case:
    """`series` make the alert fire at minute `at`; with one of `near` over them they do not."""

    alert: str
    series: Series
    at: int
    description: str
    labels: Series = field(default_factory=dict)
    near: tuple[Series, ...] = ()
    step: str = "1m"


def always(value: float) -> str:
    return f"{value:g}x800"


def rising(per_minute: float, start: float = 0) -> str:
    return f"{start:g}+{per_minute:g}x800"


def histogram(name: str, edges: tuple[str, ...], bucket: str, per_minute: float = 10, labels: str = "") -> Series:
    """Return a histogram all of whose observations fall into one bucket."""
    hit = edges.index(bucket)
    made = {
        f'{name}_bucket{{{labels}le="{floatToGoString(edge)}"}}': rising(per_minute if index >= hit else 0)
        for index, edge in enumerate(edges)
    }
    return made | {f"{name}_count{{{labels.rstrip(',')}}}": rising(per_minute)}


def both(one: Series, other: Series) -> Series:
    """Return the sum of two of the same series that rise."""
    rates = ((name, values.split("+")[1].split("x")[0], other[name].split("+")[1]) for name, values in one.items())
    return {name: rising(float(rate) + float(more.split("x")[0])) for name, rate, more in rates}


def calls(bucket: str, per_minute: float = 10) -> Series:
    labels = 'provider="groq",operation="extract",'
    return histogram("knowledge_inference_latency_seconds", INFERENCE, bucket, per_minute, labels)


def vectors(bucket: str, per_minute: float = 10) -> Series:
    return histogram("knowledge_vector_search_latency_seconds", VECTOR, bucket, per_minute, 'dimension="384",')


def embeds(dimension: int, bucket: str, per_minute: float = 10) -> Series:
    return histogram("knowledge_embedding_latency_seconds", EMBEDDING, bucket, per_minute, f'dimension="{dimension}",')


def cache(hits: float, misses: float, started: float = 0) -> Series:
    return {
        'knowledge_cache_requests_total{result="l1"}': rising(hits),
        'knowledge_cache_requests_total{result="miss"}': rising(misses),
        'knowledge_cache_requests_total{result="bypass"}': rising(50),
        'process_start_time_seconds{job="knowledge-system"}': always(started),
    }


def money(spend: float, budget: float = 8.33) -> Series:
    return {"knowledge_monthly_spend_usd": always(spend), "knowledge_monthly_budget_usd": always(budget)}


def learned(items: float, exchanges: float) -> Series:
    return {
        'knowledge_items_extracted_total{type="gotcha",mode="batch"}': rising(items),
        'knowledge_exchanges_ingested_total{mode="batch"}': rising(exchanges),
    }


BREAKER = 'knowledge_circuit_breaker_state{provider="groq"}'
MEMORY = 'knowledge_vector_store_memory_bytes{component="process"}'
UP = 'up{job="knowledge-system",instance="127.0.0.1:3000"}'
HERE = {"job": "knowledge-system", "instance": "127.0.0.1:3000"}
STARTED = 'process_start_time_seconds{job="knowledge-system",instance="127.0.0.1:3000"}'

LATENCY = (
    Case(
        "HighInferenceLatency", calls("5"), 10,
        "Inference latency, 95th percentile is 4.9s (limit 3 s, target 2 s)",
        near=(calls("3"), calls("5", 0.4),
              both(calls("1", 0.8), calls("5", 0.2))),
    ),
    Case(
        "CriticalInferenceLatency", calls("10"), 8,
        "Inference latency, 95th percentile is 9.75s (limit 5 s, target 2 s)",
        near=(calls("5"), calls("10", 0.4),
              both(calls("1", 0.8), calls("10", 0.2))),
    ),
    Case(
        "HighVectorSearchLatency", vectors("2"), 10,
        "Vector search latency, 95th percentile is 1.95s (limit 1 s, target 500 ms)",
        near=(vectors("1"), vectors("2", 0.4),
              both(vectors("0.1", 0.8), vectors("2", 0.2))),
    ),
    Case(
        "CriticalVectorSearchLatency", vectors("5"), 8,
        "Vector search latency, 95th percentile is 4.85s (limit 2 s, target 500 ms)",
        near=(vectors("2"), vectors("5", 0.4),
              both(vectors("0.1", 0.8), vectors("5", 0.2))),
    ),
    Case(
        "SlowEmbedding384", embeds(384, "0.2"), 10,
        "Embedding of one text with 384 dimensions, 95th percentile is 195ms (limit 100 ms, target 50 ms)",
        near=(embeds(384, "0.1"), embeds(384, "0.2", 0.4),
              both(embeds(384, "0.02", 0.8), embeds(384, "0.2", 0.2))),
    ),
    Case(
        "CriticalEmbedding384", embeds(384, "0.5"), 8,
        "Embedding of one text with 384 dimensions, 95th percentile is 485ms (limit 200 ms, target 50 ms)",
        near=(embeds(384, "0.2"), embeds(384, "0.5", 0.4),
              both(embeds(384, "0.02", 0.8), embeds(384, "0.5", 0.2))),
    ),
    Case(
        "SlowEmbedding1536", embeds(1536, "1"), 10,
        "Embedding of one text with 1536 dimensions, 95th percentile is 975ms (limit 500 ms, target 200 ms)",
        near=(embeds(1536, "0.5"), embeds(1536, "1", 0.4),
              both(embeds(1536, "0.2", 0.8), embeds(1536, "1", 0.2))),
    ),
    Case(
        "CriticalEmbedding1536", embeds(1536, "2"), 8,
        "Embedding of one text with 1536 dimensions, 95th percentile is 1.95s (limit 1 s, target 200 ms)",
        near=(embeds(1536, "1"), embeds(1536, "2", 0.4),
              both(embeds(1536, "0.2", 0.8), embeds(1536, "2", 0.2))),
    ),
)  # fmt: skip

STORES = (
    Case(
        "LowCacheHitRate", cache(10, 30), 45,
        "Share of cacheable requests answered by a cache is 25% (limit 30%, target 40%)",
        near=(cache(10, 20), cache(1, 2.5), cache(10, 30, 1500)),
    ),
    Case(
        "CriticalCacheHitRate", cache(3, 27), 45,
        "Share of cacheable requests answered by a cache is 10% (limit 20%, target 40%)",
        near=(cache(10, 30), cache(0.3, 2.7), cache(3, 27, 1500)),
    ),
    Case(
        "HighQdrantMemory", {MEMORY: always(7e9)}, 6,
        "Memory of the vector store (component process) is 7GB (limit 6 GB, target 4 GB)",
        {"component": "process"}, near=({MEMORY: always(6e9)},),
    ),
    Case(
        "CriticalQdrantMemory", {'memory_resident_bytes{job="qdrant",instance="localhost:6333"}': always(9e9)}, 6,
        "Memory of the vector store (component qdrant) is 9GB (limit 8 GB, target 4 GB)",
        {"component": "qdrant"},
        near=({'memory_resident_bytes{job="qdrant",instance="localhost:6333"}': always(8e9)},),
    ),
    Case(
        "SqliteSizeHigh", {"knowledge_sqlite_size_bytes": always(900e6)}, 16,
        "Size of the database with its log is 900MB (limit 800 MB, target 500 MB)",
        near=({"knowledge_sqlite_size_bytes": always(800e6)},),
    ),
    Case(
        "SqliteSizeCritical", {"knowledge_sqlite_size_bytes": always(1.2e9)}, 16,
        "Size of the database with its log is 1.2GB (limit 1 GB, target 500 MB)",
        near=({"knowledge_sqlite_size_bytes": always(1e9)},),
    ),
    Case(
        "LowExtractionRate", learned(3, 30), 20,
        "Knowledge items extracted a minute while sessions arrive is 3.0/min (limit 5/min, target 10/min)",
        near=(learned(6, 30), learned(0, 1), learned(0, 0)),
    ),
    Case(
        "CriticalExtractionRate", learned(1, 30), 20,
        "Knowledge items extracted a minute while sessions arrive is 1.0/min (limit 2/min, target 10/min)",
        near=(learned(3, 30), learned(0, 1), learned(0, 0)),
    ),
)  # fmt: skip

MONEY = (
    Case("BudgetNearLimit", money(7), 6, "Spend $7.00 of $8.33 (84.03%), limit 80%", near=(money(6.66),)),
    Case("MonthlyCostHigh", money(7.5), 6, "Spend $7.50 of $8.33 (90.04%), limit 90%", near=(money(7.49),)),
    Case("BudgetExceeded", money(8.33), 2, "Spend $8.33 of $8.33 (100.00%), limit 100%",
         near=(money(8.32), money(0, 0))),
    Case(
        "BudgetBurnFast",
        {"knowledge_monthly_spend_usd": rising(0.05, 2), "knowledge_monthly_budget_usd": always(10),
         'knowledge_spend_usd{window="1h"}': always(1)}, 10,
        "Spend of the last hour $1.00 of a monthly budget of $10.00 (limit 5% an hour), and it goes on",
        near=({'knowledge_spend_usd{window="1h"}': always(0.5)},
              {"knowledge_monthly_spend_usd": always(2)}, {"knowledge_monthly_spend_usd": "8x8 0.1x800"}),
    ),
    Case(
        "BudgetBurnSlow",
        {**money(2, 10), 'knowledge_spend_usd{window="24h"}': always(1.5),
         'knowledge_spend_usd{window="1h"}': always(0.1)},
        20, "Spend of the last 24 hours $1.50 of a monthly budget of $10.00 (limit 10% a day), and it goes on",
        near=({'knowledge_spend_usd{window="24h"}': always(1)}, {'knowledge_spend_usd{window="1h"}': always(0)}),
    ),
    # promtool's clock begins on the 1st of a month of 31 days: at noon 30.5 are left.
    Case(
        "BudgetProjectedOverrun",
        {**money(2, 10), 'knowledge_spend_usd{window="24h"}': always(0.5)}, 720,
        "Projected spend at the end of the month $17.25 (limit $10.00), spend so far $2.00",
        near=({'knowledge_spend_usd{window="24h"}': always(0.2)}, money(10, 10),
              {'knowledge_spend_usd{window="24h"}': "0x480 0.5x400"}),
    ),
    Case("BudgetFrozen", {"knowledge_budget_frozen": always(1)}, 61, "Freeze is 1 (target 0) for 1 hour",
         near=({"knowledge_budget_frozen": always(0)},)),
    Case(
        "ReservationsNotSettled", {"knowledge_budget_reserved_usd": always(0.5)}, 45,
        "$0.50 reserved for 30 minutes without a call (target $0.00)",
        near=({"knowledge_budget_reserved_usd": "0.5x20 0 0.5x800"},
              {'knowledge_inference_requests_total{provider="groq",operation="x",outcome="answered"}': rising(1)}),
    ),
    Case(
        "LedgerBehindCalls",
        {'knowledge_inference_cost_usd_total{provider="groq",operation="extract"}': rising(0.02),
         'knowledge_spend_usd{window="1h"}': always(1)}, 80,
        "Calls of the last hour cost $0.10 more than 110% of what the ledger holds (limit $0.05)",
        near=({'knowledge_spend_usd{window="1h"}': always(1.2)},),
    ),
)  # fmt: skip

BREAKERS = (
    Case("CircuitBreakerHalfOpen", {BREAKER: always(1)}, 6,
         "Circuit breaker of groq has been half-open for 5 minutes (state 1, limit 1 half-open, target 0 closed): "
         "no trial call has succeeded", {"provider": "groq"}, near=({BREAKER: always(0)}, {BREAKER: "1x3 0 1x800"})),
    # Open for 30 s, half-open for 15 s, open again: never open for two minutes on end.
    Case("CircuitBreakerOpen", {BREAKER: " ".join(["2 2 1"] * 60)}, 4,
         "Circuit breaker of groq keeps opening (worst state of 90 s 2, limit 2 open, target 0 closed)",
         {"provider": "groq"}, near=({BREAKER: always(0)}, {BREAKER: "2 0x300"}, {BREAKER: always(1)}), step="15s"),
    Case("CircuitBreakerOpenCritical", {BREAKER: " ".join(["2 2 1"] * 60)}, 4,
         "Circuit breaker of groq opened and was not closed for 2 minutes (worst state 2, limit 2 open, "
         "target 0 closed): calls go elsewhere or fail", {"provider": "groq"},
         near=({BREAKER: " ".join(["2 2 0"] * 60)}, {BREAKER: always(1)}), step="15s"),
)  # fmt: skip

PRESENCE = (
    Case("Watchdog", {}, 0,
         "This alert always fires (value 1, limit none). Whoever receives it must raise an alarm when it stops."),
    Case("KnowledgeSystemDown", {UP: always(0)}, 3,
         "Scrapes of 127.0.0.1:3000 have failed for 2 minutes (up is 0, target 1)", HERE,
         near=({UP: always(1)}, {UP: "1 0 1x800"})),
    Case("KnowledgeSystemAbsent", {}, 6,
         "No target of the job knowledge-system for 5 minutes (targets 0, target at least 1)",
         {"job": "knowledge-system"}, near=({UP: always(0)},)),
    Case("TargetDown", {'up{job="qdrant",instance="localhost:6333"}': always(0)}, 6,
         "Scrapes of qdrant at localhost:6333 have failed for 5 minutes (up is 0, target 1)",
         {"job": "qdrant", "instance": "localhost:6333"},
         near=({'up{job="qdrant",instance="localhost:6333"}': always(1)},)),
    Case("KnowledgeSystemRestarting", {STARTED: "0 100 200 300 400x800"}, 10,
         "4 restarts of 127.0.0.1:3000 in one hour (limit 3)", HERE,
         near=({STARTED: "0 100 200 300x800"}, {STARTED: " ".join(["100 200"] * 60)})),
    Case("MetricsIncomplete", {UP: always(1)}, 11,
         "127.0.0.1:3000 answers scrapes (up is 1) but has exported nothing from the database for 10 "
         "minutes (target: every scrape)", HERE,
         near=({'knowledge_monthly_budget_usd{job="knowledge-system",instance="127.0.0.1:3000"}': always(8.33)},)),
    Case("ScrapeErrors", {'knowledge_scrape_errors_total{source="ledger"}': rising(1)}, 21,
         "15 times in 15 minutes ledger could not be read (limit 3)", {"source": "ledger"},
         near=({'knowledge_scrape_errors_total{source="ledger"}': rising(0.1)},)),
    Case("ScrapeSlow", {'scrape_duration_seconds{job="knowledge-system",instance="127.0.0.1:3000"}': always(6)}, 11,
         "A scrape of 127.0.0.1:3000 takes 6s (limit 5 s, Prometheus gives up after 10 s)", HERE,
         near=({'scrape_duration_seconds{job="knowledge-system",instance="127.0.0.1:3000"}': always(5)},)),
)  # fmt: skip
