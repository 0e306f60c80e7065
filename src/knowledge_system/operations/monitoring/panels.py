"""What the dashboard shows: rows of panels, the critical metrics first with their limits drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from knowledge_system.operations.thresholds import BUDGET_TIERS, CRITICAL_METRICS, SERVICE, p95

if TYPE_CHECKING:
    from knowledge_system.operations.thresholds import CriticalMetric, Unit

TITLE = "Knowledge System Operations"
UID = "knowledge-system-operations"


@dataclass(frozen=True, slots=True)
class Query:
    """One series of a panel: PromQL, and its name in the legend."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `limits` are (value, colour) in rising order above `base`; `shows` says in a line what it means."""

    title: str
    shows: str
    unit: Unit
    queries: tuple[Query, ...]
    base: str = "green"
    limits: tuple[tuple[float, str], ...] = ()
    names: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A heading with its panels."""

    title: str
    panels: tuple[Panel, ...]


def _panel(title: str, shows: str, unit: Unit, *queries: tuple[str, str]) -> Panel:
    return Panel(title, shows, unit, tuple(Query(*query) for query in queries))


def _or_zero(query: str) -> str:
    """Return the query with 0 where nothing of the kind has ever happened: a counter starts with its first event."""
    return f"{query} or vector(0)"


def _legend(row: CriticalMetric) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in row.labels) or row.what


def limits_of(row: CriticalMetric) -> tuple[str, tuple[tuple[float, str], ...]]:
    """Return the colour at the bottom and where it changes; a target that is not before the alert is not drawn."""
    if not row.above:
        return "red", ((row.critical, "orange"), (row.alert, "yellow"), (row.target, "green"))
    target = ((row.target, "yellow"),) if 0 < row.target < row.alert else ()
    return "green", (*target, (row.alert, "orange"), (row.critical, "red"))


_SPLIT = {
    "inference-latency": (
        Query(
            "histogram_quantile(0.95, sum by (le, provider) (rate(knowledge_inference_latency_seconds_bucket[5m])))",
            "{{provider}}",
        ),
    ),
}
"""What a panel shows beside the value that is judged: who is to blame."""


def critical_panel(row: CriticalMetric) -> Panel:
    """Return the panel of a row of the table."""
    base, limits = limits_of(row)
    queries = [Query(row.query, _legend(row)), *_SPLIT.get(row.id, ())]
    if row.relative_to:
        queries.append(Query(row.relative_to, "Budget of the month"))
    names = ((0, "closed"), (1, "half-open"), (2, "open")) if row.unit == "state" else ()
    return Panel(
        row.panel, f"{row.what}: alerts {' and '.join(row.alerts)}.", row.unit, tuple(queries), base, limits, names
    )


_CRITICAL = Row("Critical metrics", tuple(critical_panel(row) for row in CRITICAL_METRICS))

_MONEY = Row(
    "Money",
    (
        Panel(
            "Budget Used",
            "Share of the monthly budget that is spent, with the tiers drawn.",
            "ratio",
            (Query("max(knowledge_monthly_spend_usd) / max(knowledge_monthly_budget_usd)", "used"),),
            "green",
            tuple(zip((tier.share for tier in BUDGET_TIERS), ("yellow", "orange", "dark-orange", "red"), strict=True)),
        ),
        _panel("Spend of the Last Hour and Day", "How fast money goes now.", "USD",
               ("max by (window) (knowledge_spend_usd)", "{{window}}")),
        _panel("Cost by Provider", "What model calls cost an hour, by provider.", "USD",
               ("sum by (provider) (rate(knowledge_inference_cost_usd_total[5m])) * 3600", "{{provider}}")),
        _panel("Saved by Caches", "What cached answers would have cost an hour.", "USD",
               (_or_zero("sum(rate(knowledge_cache_saved_usd_total[5m])) * 3600"), "saved")),
        _panel("Reserved", "Money held for calls that run; it returns to 0.", "USD",
               ("max(knowledge_budget_reserved_usd)", "reserved")),
        _panel("Budget Switches", "1 while the tier is in force, or the budget is frozen or offline.", "count",
               ("max by (tier) (knowledge_budget_tier)", "{{tier}}"), ("max(knowledge_budget_frozen)", "frozen"),
               ("max(knowledge_budget_offline)", "offline")),
        _panel("Model Calls by Outcome", "Model calls a minute.", "per_minute",
               ("sum by (outcome) (rate(knowledge_inference_requests_total[5m])) * 60", "{{outcome}}")),
        _panel("Cache Results", "Where cacheable requests were answered, a minute.", "per_minute",
               ("sum by (result) (rate(knowledge_cache_requests_total[5m])) * 60", "{{result}}")),
    ),
)  # fmt: skip

_OUTCOMES = "sum(rate(knowledge_learning_outcomes_total[15m]))"


def _share(outcome: str) -> str:
    counted = f'sum(rate(knowledge_learning_outcomes_total{{outcome="{outcome}"}}[15m]))'
    return f"({_or_zero(counted)}) / {_OUTCOMES}"


_QUALITY = Row(
    "Quality of what is learned and found",
    (
        _panel("Learning Outcomes", "Shares of judged exchanges: rejected, duplicate (merged), superseding.", "ratio",
               (_share("rejected"), "rejected"), (_share("merged"), "duplicate"), (_share("superseded"), "superseded")),
        _panel("Items Stored", "Items by type.", "count", ("max by (type) (knowledge_items_stored)", "{{type}}")),
        _panel("Items No Longer Current", "Items that are stale, superseded or deprecated.", "count",
               ("max(knowledge_items_stale)", "stale"), ("max(knowledge_items_superseded)", "superseded"),
               ("max(knowledge_items_deprecated)", "deprecated")),
        _panel("Harmful Verdicts", "Verdicts of 24 hours that call an item harmful or wrong.", "count",
               (_or_zero('sum(increase(knowledge_feedback_total{verdict=~"harmful|wrong"}[1d]))'), "harmful or wrong"),
               (_or_zero("sum(increase(knowledge_feedback_total[1d]))"), "all verdicts")),
        _panel("Search Latency (p95)", "Whole answers, not only the vector search.", "s",
               (p95("knowledge_search_latency_seconds"), "p95")),
        _panel("Searches", "Searches a minute, and those answered with a part missing.", "per_minute",
               ("sum by (degraded) (rate(knowledge_searches_total[5m])) * 60", "degraded: {{degraded}}")),
        _panel("Search Hits Dropped", "Hits of the index that the database does not know, a minute.", "per_minute",
               (_or_zero("sum(rate(knowledge_search_hits_dropped_total[5m])) * 60"), "dropped")),
        _panel("Index Drift", "Entries in which index and database differ.", "count",
               ("max(knowledge_index_drift)", "entries")),
    ),
)  # fmt: skip

_UPKEEP_AGE = "time() - max by (exported_job) (knowledge_upkeep_last_success_timestamp_seconds)"
"""`job` is Prometheus' own label: ours arrives as exported_job."""

_CAPTURE = Row(
    "Capture",
    (
        _panel("Exchanges Written and Captured", "Nothing is lost while both lines are one.", "count",
               ("max by (state) (knowledge_capture_exchanges)", "{{state}}")),
        _panel("Capture Behind", "What waits, and alarms of silent failure.", "count",
               ("max(knowledge_capture_files_behind)", "files"), ("max(knowledge_capture_spooled)", "notices"),
               ("max(knowledge_capture_alarms)", "alarms")),
        _panel("Exchanges Ingested", "New exchanges a minute.", "per_minute",
               ("sum by (mode) (rate(knowledge_exchanges_ingested_total[5m])) * 60", "{{mode}}")),
        _panel("Waiting", "Exchanges not judged yet, and what the index has still to take.", "count",
               ("max(knowledge_exchanges_waiting)", "exchanges"),
               ("max by (stage) (knowledge_outbox_depth)", "outbox: {{stage}}"),
               ("max(knowledge_embedding_queue_depth)", "embedding queue")),
        _panel("Loop Failures", "Failures of the service's own loops in 15 minutes.", "count",
               (_or_zero("sum(increase(knowledge_loop_failures_total[15m]))"), "failures")),
        _panel("Since the Last Upkeep", "Seconds since each periodic job last succeeded.", "s",
               (_UPKEEP_AGE, "{{exported_job}}")),
    ),
)  # fmt: skip

_HTTP = Row(
    "HTTP",
    (
        _panel("Requests", "Requests a second by status.", "per_second",
               ("sum by (status) (rate(knowledge_http_requests_total[5m]))", "{{status}}")),
        _panel("Request Latency by Route (p95)", "By template of the path.", "s",
               ("histogram_quantile(0.95, sum by (le, route) (rate(knowledge_http_request_seconds_bucket[5m])))",
                "{{route}}")),
        _panel("Requests in Flight", "Requests that are being answered.", "count",
               ("sum(knowledge_http_requests_in_flight)", "in flight")),
        _panel("Refused Requests", "Refused before anything was read, a minute.", "per_minute",
               (_or_zero("sum(rate(knowledge_http_refused_total[5m])) * 60"), "refused")),
        _panel("Slow Requests", "Operations of more than 2 s in 15 minutes.", "count",
               (_or_zero("sum(increase(knowledge_slow_requests_total[15m]))"), "slow")),
    ),
)  # fmt: skip

_PROCESS = Row(
    "Process and machine",
    (
        _panel("Service Up and Healthy", "1 is good, 0.5 degraded, 0 down or unhealthy.", "count",
               (f"up{{{SERVICE}}}", "up"), ("min(knowledge_health_status)", "health")),
        _panel("Memory of the Service", "Resident and, while traced, Python's own.", "bytes",
               ("max by (kind) (knowledge_memory_bytes)", "{{kind}}")),
        _panel("Objects of the Garbage Collector", "A line that only rises is a leak.", "count",
               ("max(knowledge_gc_objects)", "objects")),
        _panel("Processor Use", "Processors in use; Prometheus has it of a single process only.", "count",
               (f"sum(rate(process_cpu_seconds_total{{{SERVICE}}}[5m]))", "processors")),
        _panel("SQLite Statements", "Statements a second.", "per_second",
               ("sum(rate(knowledge_sqlite_queries_total[5m]))", "statements")),
        _panel("Longest Transaction", "Age of the oldest open transaction.", "s",
               ("max(knowledge_sqlite_longest_transaction_seconds)", "age")),
        _panel("Disk Free", "Of the file system with the data directory.", "ratio",
               ("min(knowledge_disk_free_bytes / knowledge_disk_size_bytes)", "free")),
        _panel("Migration Pending", "Not 0: the database waits for `knowledge` to migrate it.", "count",
               ("max(knowledge_migration_pending)", "pending")),
    ),
)  # fmt: skip


def dashboard_rows() -> tuple[Row, ...]:
    """Return the rows of the dashboard from top to bottom."""
    return (_CRITICAL, _MONEY, _QUALITY, _CAPTURE, _HTTP, _PROCESS)
