"""The alerts that say that the service is not there, not well, or out of room."""

from __future__ import annotations

from knowledge_system.operations.monitoring.alert import CRITICAL, OUTAGE, SILENT, WARNING, Alert, queried, value_in
from knowledge_system.operations.thresholds import SERVICE

PRESENCE_ALERTS = (
    Alert(
        name="Watchdog",
        topic="watchdog",
        level=SILENT,
        expr="vector(1)",
        duration="0m",
        summary="The alerting path works",
        description="This alert always fires (value 1, limit none). Whoever receives it must raise an "
        "alarm when it stops.",
    ),
    Alert(
        name="KnowledgeSystemDown",
        topic="presence",
        level=OUTAGE,
        expr=f"up{{{SERVICE}}} == 0",
        duration="2m",
        summary="The knowledge system does not answer on {{ $labels.instance }}",
        description="Scrapes of {{ $labels.instance }} have failed for 2 minutes (up is {{ $value }}, target 1)",
    ),
    Alert(
        name="KnowledgeSystemAbsent",
        topic="presence",
        level=OUTAGE,
        expr=f"absent(up{{{SERVICE}}})",
        duration="5m",
        summary="Prometheus does not watch the knowledge system",
        description="No target of the job knowledge-system for 5 minutes (targets 0, target at least 1)",
    ),
    Alert(
        name="TargetDown",
        topic="target",
        level=WARNING,
        expr='up{job!="knowledge-system"} == 0',
        duration="5m",
        summary="{{ $labels.job }} does not answer on {{ $labels.instance }}",
        description="Scrapes of {{ $labels.job }} at {{ $labels.instance }} have failed for 5 minutes (up "
        "is {{ $value }}, target 1)",
    ),
    Alert(
        name="KnowledgeSystemRestarting",
        topic="presence",
        level=WARNING,
        # Workers behind one port answer scrapes in turn, each with its own start: a restart makes the latest one later.
        expr=f"changes(max_over_time(process_start_time_seconds{{{SERVICE}}}[5m])[1h:1m]) > 3",
        duration="0m",
        summary="The knowledge system keeps restarting",
        description=f"{value_in('count')} restarts of {{{{ $labels.instance }}}} in one hour (limit 3)",
    ),
    Alert(
        name="MetricsIncomplete",
        topic="presence",
        level=WARNING,
        expr=f"up{{{SERVICE}}} == 1 unless on (job, instance) knowledge_monthly_budget_usd",
        duration="10m",
        summary="The metrics that are read from the database are missing",
        description=(
            "{{ $labels.instance }} answers scrapes (up is {{ $value }}) but has exported nothing "
            "from the database for "
            "10 minutes (target: every scrape)"
        ),
    ),
    Alert(
        name="ScrapeErrors",
        topic="presence",
        level=WARNING,
        expr="sum by (source) (increase(knowledge_scrape_errors_total[15m])) > 3",
        duration="5m",
        summary="Part of the metrics cannot be read: {{ $labels.source }}",
        description=f"{value_in('count')} times in 15 minutes {{{{ $labels.source }}}} could not be read (limit 3)",
    ),
    Alert(
        name="ScrapeSlow",
        topic="presence",
        level=WARNING,
        expr=f"scrape_duration_seconds{{{SERVICE}}} > 5",
        duration="10m",
        summary="Scrapes of the knowledge system are slow",
        description=f"A scrape of {{{{ $labels.instance }}}} takes {value_in('s')} (limit 5 s, Prometheus "
        "gives up after 10 s)",
    ),
)

_ASKED = 'route!~"/metrics|/health.*"'
"""Machines ask these every few seconds: they would dilute the share, and an unhealthy service says so with 503."""
_REQUESTS = f"sum(rate(knowledge_http_requests_total{{{_ASKED}}}[5m]))"
_FAILED = f'sum(rate(knowledge_http_requests_total{{status=~"5..",{_ASKED}}}[5m]))'
_REFUSED = 'knowledge_http_refused_total{reason=~"unauthorized|forbidden|rate-limited|crowded"}'
_REFUSALS = "budget-exhausted|price-unknown|privacy-refused|usage"
_CALLS = f'sum(rate(knowledge_inference_requests_total{{outcome!~"{_REFUSALS}"}}[5m]))'
_UNANSWERED = 'sum(rate(knowledge_inference_requests_total{outcome=~"provider-failed|breaker-open|no-provider"}[5m]))'
DAILY_JOBS = ("warm-cache", "prune-vectors")
"""Periodic jobs that run once a day; every other one runs at least every ten minutes."""


def _since_success(matcher: str) -> str:
    """Return PromQL for the seconds since each job succeeded, since the service started where it never has."""
    jobs = f'exported_job{matcher}"{"|".join(DAILY_JOBS)}"'
    last = f"max by (exported_job) (knowledge_upkeep_last_success_timestamp_seconds{{{jobs}}})"
    never = f"0 * sum by (exported_job) (knowledge_upkeep_runs_total{{{jobs}}})"
    return f"time() - ({last} or {never} + on () group_left () max(process_start_time_seconds{{{SERVICE}}}))"


HEALTH_ALERTS = (
    Alert(
        name="ServiceUnhealthy",
        topic="health",
        level=OUTAGE,
        expr="min(knowledge_health_status) == 0",
        duration="2m",
        summary="The knowledge system says that it is unhealthy",
        description="Health has been {{ $value }} for 2 minutes (0 unhealthy, target 1 healthy)",
    ),
    Alert(
        name="ServiceDegraded",
        topic="health",
        level=WARNING,
        expr="min(knowledge_health_status) == 0.5",
        duration="15m",
        summary="The knowledge system works with a part missing",
        description="Health has been {{ $value }} for 15 minutes (0.5 degraded, target 1 healthy)",
    ),
    Alert(
        name="HttpErrors",
        topic="http-errors",
        level=CRITICAL,
        expr=f"({_FAILED} / {_REQUESTS} > 0.05) and on () ({_REQUESTS} * 300 >= 20)",
        duration="5m",
        summary="Requests fail with server errors",
        description=f"{value_in('ratio')} of the requests of 5 minutes ended with a server error (limit 5%)",
    ),
    Alert(
        name="RequestsRefused",
        topic="http-refused",
        level=WARNING,
        expr=f"sum by (reason) (increase({_REFUSED}[5m])) > 50",
        duration="5m",
        summary="Many requests are refused: {{ $labels.reason }}",
        description=f"{value_in('count')} requests in 5 minutes were refused as {{{{ $labels.reason }}}} (limit 50)",
    ),
    Alert(
        name="SlowRequests",
        topic="slow-requests",
        level=WARNING,
        expr='sum by (operation) (increase(knowledge_slow_requests_total{operation=~".*search.*"}[15m])) > 10',
        duration="5m",
        summary="Searches take longer than 2 s: {{ $labels.operation }}",
        description=f"{value_in('count')} times in 15 minutes {{{{ $labels.operation }}}} took longer than "
        "2 s (limit 10)",
    ),
    Alert(
        name="InferenceFailing",
        topic="inference-failing",
        level=CRITICAL,
        expr=f"({_UNANSWERED} / {_CALLS} > 0.5) and on () ({_CALLS} * 300 >= 10)",
        duration="5m",
        summary="Model calls fail",
        description=f"{value_in('ratio')} of the model calls of 5 minutes had no answer (limit 50%)",
    ),
    Alert(
        name="LoopFailing",
        topic="loops",
        level=WARNING,
        expr="sum by (loop) (increase(knowledge_loop_failures_total[15m])) >= 3",
        duration="5m",
        summary="The loop {{ $labels.loop }} of the service keeps failing",
        description=f"{value_in('count')} failures of the loop {{{{ $labels.loop }}}} in 15 minutes (limit 3)",
    ),
    Alert(
        name="UpkeepStale",
        topic="upkeep",
        level=WARNING,
        expr=f"({_since_success('!~')} > 3600) or ({_since_success('=~')} > 93600)",
        duration="5m",
        summary="The periodic job {{ $labels.exported_job }} has not succeeded for too long",
        description=f"Last success of {{{{ $labels.exported_job }}}} {value_in('s')} ago (limit 1 h, daily jobs 26 h)",
    ),
    Alert(
        name="LongTransaction",
        topic="database-lock",
        level=WARNING,
        expr="max(knowledge_sqlite_longest_transaction_seconds) > 60",
        duration="2m",
        summary="A database transaction stays open",
        description=f"The longest transaction is open for {value_in('s')} (limit 60 s)",
    ),
    Alert(
        name="MigrationPending",
        topic="migration",
        level=WARNING,
        expr="max(knowledge_migration_pending) > 0",
        duration="15m",
        summary="The database waits for a migration",
        description=f"{value_in('count')} migration pending for 15 minutes (target 0)",
    ),
)

_SHARE = "min(knowledge_disk_free_bytes / knowledge_disk_size_bytes)"
DISK_ALERTS = (
    Alert(
        name="DiskWillFill",
        topic="disk",
        level=WARNING,
        expr=f"(min(predict_linear(knowledge_disk_free_bytes[6h], 86400)) < 0) and on () ({_SHARE} < 0.4)",
        duration="1h",
        summary="The disk of the data directory will be full within a day",
        description=(
            f"At the pace of 6 hours {value_in('bytes')} would be free in 24 hours (limit 0 B); now "
            f"{queried(f'100 * {_SHARE}', '%.1f%%')} is free"
        ),
    ),
    Alert(
        name="DiskAlmostFull",
        topic="disk",
        level=CRITICAL,
        expr=f"{_SHARE} < 0.05",
        duration="5m",
        summary="The disk of the data directory is almost full",
        description=f"{value_in('ratio')} of the disk is free (limit 5%)",
    ),
)
