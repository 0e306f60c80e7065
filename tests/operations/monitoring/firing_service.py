"""As `firing`, for the service, its knowledge, its disk and its growth."""

from __future__ import annotations

from tests.operations.monitoring.firing import BREAKERS, LATENCY, MONEY, PRESENCE, STORES, Case, Series, always, rising


def requests(failed: float, fine: float) -> Series:
    return {
        'knowledge_http_requests_total{method="GET",route="/v1/items",status="500"}': rising(failed),
        'knowledge_http_requests_total{method="GET",route="/v1/items",status="200"}': rising(fine),
    }


def machines(a_minute: float, status: str = "200") -> Series:
    """Return what Prometheus and a load balancer ask: no sign of use."""
    asked = 'knowledge_http_requests_total{method="GET",route='
    return {f'{asked}"{route}",status="{status}"}}': rising(a_minute) for route in ("/metrics", "/health/ready")}


def model_calls(failed: float, answered: float) -> Series:
    start = 'knowledge_inference_requests_total{provider="groq",operation="extract",outcome='
    return {start + '"provider-failed"}': rising(failed), start + '"answered"}': rising(answered)}


def disk(free: str, size: float = 100e9) -> Series:
    return {"knowledge_disk_free_bytes": free, "knowledge_disk_size_bytes": always(size)}


def captured(stored: float, written: float) -> Series:
    return {
        'knowledge_capture_exchanges{state="captured"}': always(stored),
        'knowledge_capture_exchanges{state="expected"}': always(written),
    }


def searches(whole: float, degraded: float, dropped: float = 0) -> Series:
    return {
        'knowledge_searches_total{scope="all",degraded="no"}': rising(whole),
        'knowledge_searches_total{scope="all",degraded="yes"}': rising(degraded),
        "knowledge_search_hits_dropped_total": rising(dropped),
    }


def verdicts(harmful: float, helpful: float) -> Series:
    return {
        'knowledge_feedback_total{verdict="harmful"}': rising(harmful),
        'knowledge_feedback_total{verdict="helpful"}': rising(helpful),
    }


REFUSED = 'knowledge_http_refused_total{reason="unauthorized"}'
REFUSED_CALLS = 'knowledge_inference_requests_total{provider="none",operation="extract",outcome="budget-exhausted"}'
SLOW = 'knowledge_slow_requests_total{operation="search"}'
LOOP = 'knowledge_loop_failures_total{loop="learn"}'
LAST = "knowledge_upkeep_last_success_timestamp_seconds"
BEHIND, SPOOLED = "knowledge_capture_files_behind", "knowledge_capture_spooled"
WAITING = "knowledge_exchanges_waiting"
JUDGED = 'knowledge_learning_outcomes_total{outcome="rejected"}'
DRIFT, OUTBOX = "knowledge_index_drift", 'knowledge_outbox_depth{stage="vectors"}'

SERVICE = (
    Case("ServiceUnhealthy", {"knowledge_health_status": always(0)}, 3,
         "Health has been 0 for 2 minutes (0 unhealthy, target 1 healthy)",
         near=({"knowledge_health_status": always(0.5)},)),
    Case("ServiceDegraded", {"knowledge_health_status": always(0.5)}, 16,
         "Health has been 0.5 for 15 minutes (0.5 degraded, target 1 healthy)",
         near=({"knowledge_health_status": always(1)},)),
    Case("HttpErrors", requests(1, 9), 12, "10% of the requests of 5 minutes ended with a server error (limit 5%)",
         near=(requests(0.4, 9.6), requests(0.2, 0.8), {**requests(0.2, 0.8), **machines(9)},
               {**requests(0, 10), **machines(9, "503")})),
    Case("RequestsRefused", {REFUSED: rising(20)}, 15,
         "100 requests in 5 minutes were refused as unauthorized (limit 50)", {"reason": "unauthorized"},
         near=({REFUSED: rising(10)}, {REFUSED: always(500)})),
    Case("SlowRequests", {SLOW: rising(1)}, 25, "15 times in 15 minutes search took longer than 2 s (limit 10)",
         {"operation": "search"},
         near=({SLOW: rising(0.5)}, {SLOW: always(0), 'knowledge_slow_requests_total{operation="infer"}': rising(9)})),
    Case("InferenceFailing", {**model_calls(8, 2), REFUSED_CALLS: rising(30)}, 12,
         "80% of the model calls of 5 minutes had no answer (limit 50%)",
         near=(model_calls(5, 5), model_calls(1, 0.5))),
    Case("LoopFailing", {LOOP: rising(1)}, 25, "15 failures of the loop learn in 15 minutes (limit 3)",
         {"loop": "learn"}, near=({LOOP: "0x3 1x800"}, {LOOP: always(9)})),
    Case("UpkeepStale", {LAST + '{exported_job="sweep-reservations"}': always(0)}, 120,
         "Last success of sweep-reservations 2h 0m 0s ago (limit 1 h, daily jobs 26 h)",
         {"exported_job": "sweep-reservations"},
         near=({LAST + '{exported_job="sweep-reservations"}': always(6000)},
               {LAST + '{exported_job="sweep-reservations"}': always(7200),
                LAST + '{exported_job="warm-cache"}': always(0), LAST + '{exported_job="prune-vectors"}': always(0)})),
    Case("LongTransaction", {"knowledge_sqlite_longest_transaction_seconds": always(90)}, 3,
         "The longest transaction is open for 1m 30s (limit 60 s)",
         near=({"knowledge_sqlite_longest_transaction_seconds": always(60)},)),
    Case("MigrationPending", {"knowledge_migration_pending": always(1)}, 16,
         "1 migration pending for 15 minutes (target 0)", near=({"knowledge_migration_pending": always(0)},)),
    # 50 GB, of which 100 MB go every minute: 20 GB are left after five hours, and a day needs 144.
    Case("DiskWillFill", disk("50e9-0.1e9x400"), 300,
         "At the pace of 6 hours -124GB would be free in 24 hours (limit 0 B); now 20.0% is free",
         near=(disk("90e9-0.1e9x400"), disk("30e9-0.001e9x400"))),
    Case("DiskAlmostFull", disk(always(4e9)), 6, "4% of the disk is free (limit 5%)", near=(disk(always(5e9)),)),
)  # fmt: skip

KNOWLEDGE = (
    Case("CaptureSilent", {"knowledge_capture_alarms": always(2)}, 6, "2 capture alarms for 5 minutes (limit 0)",
         near=({"knowledge_capture_alarms": always(0)},)),
    Case("CaptureIncomplete", captured(90, 100), 31,
         "90% of the exchanges in watched transcripts are stored (limit 95%)",
         near=(captured(95, 100), captured(9, 10))),
    Case("CaptureBehind", {BEHIND: always(2), SPOOLED: always(1)}, 31,
         "3 files and notices have waited for 15 minutes (limit 0)",
         near=({BEHIND: "2x10 0 2x10 0 2x10 0 2x10", SPOOLED: always(0)},)),
    Case("LearningStalled", {WAITING: always(40), JUDGED: always(7)}, 45,
         "40 exchanges have waited for 30 minutes while nothing was judged (limit 0)",
         near=({JUDGED: rising(1)}, {WAITING: always(0)})),
    Case("IndexDrift", {DRIFT: always(12), OUTBOX: always(0)}, 31,
         "12 entries differ for 15 minutes while nothing waits to be indexed (limit 0)",
         near=({OUTBOX: always(5)}, {DRIFT: "12x10 0 12x14 0 12x800"})),
    Case("SearchHitsDropped", searches(2, 0, 1), 35, "0.50 hits a search were dropped in 15 minutes (limit 0.1)",
         near=(searches(10, 0, 1), searches(0.5, 0, 0.2))),
    Case("SearchDegraded", searches(5, 5), 30, "50% of the searches of 15 minutes were degraded (limit 20%)",
         near=(searches(9, 1), searches(0.2, 0.2))),
    Case("KnowledgeHarmful", verdicts(1, 1), 120,
         "50% of the verdicts of 24 hours were harmful or wrong (limit 30%)",
         near=(verdicts(1, 4), verdicts(0.01, 0.01))),
)  # fmt: skip

SCALE = (
    Case("ScaleInferenceRequests", model_calls(0, 600), 50,
         "Inference requests a minute: 600.0/min (limit 500/min, normal below 100/min)", near=(model_calls(0, 500),)),
    Case("ScaleVectorSearches", {'knowledge_vector_searches_total{dimension="384"}': rising(300)}, 50,
         "Vector searches a minute: 300.0/min (limit 200/min, normal below 50/min)",
         near=({'knowledge_vector_searches_total{dimension="384"}': rising(200)},)),
    Case("ScaleKnowledgeItems",
         {'knowledge_items_stored{type="gotcha",collection="knowledge_384"}': always(60000),
          'knowledge_items_stored{type="gotcha",collection="knowledge_1536"}': always(60000)}, 31,
         "Knowledge items stored: 60000 (limit 50000, normal below 10000)",
         near=({'knowledge_items_stored{type="gotcha",collection="knowledge_384"}': always(30000),
                'knowledge_items_stored{type="gotcha",collection="knowledge_1536"}': always(30000)},)),
    Case("ScaleEmbeddingQueue", {"knowledge_embedding_queue_depth": always(150)}, 31,
         "Texts that wait for their vector: 150 (limit 100, normal below 10)",
         near=({"knowledge_embedding_queue_depth": always(100)},)),
    Case("ScaleSqliteQueries", {"knowledge_sqlite_queries_total": rising(36000)}, 50,
         "SQLite statements a second: 600.0/s (limit 500/s, normal below 100/s)",
         near=({"knowledge_sqlite_queries_total": rising(30000)},)),
    Case("ScaleMonthlyCost", {"knowledge_monthly_spend_usd": always(7.2)}, 31,
         "Inference cost of the month so far: $7.20 (limit $7.00, normal below $5.00)",
         near=({"knowledge_monthly_spend_usd": always(7)},)),
)  # fmt: skip

CASES = (*LATENCY, *STORES, *MONEY, *BREAKERS, *PRESENCE, *SERVICE, *KNOWLEDGE, *SCALE)
