"""The alerts about what is captured, learned, indexed and found."""

from __future__ import annotations

from knowledge_system.operations.monitoring.alert import CRITICAL, INFO, WARNING, Alert, value_in

_SEARCHES = "sum(rate(knowledge_searches_total[15m]))"
_ENOUGH = f"and on () ({_SEARCHES} * 900 >= 10)"
_CAPTURED = 'max(knowledge_capture_exchanges{state="captured"})'
_EXPECTED = 'max(knowledge_capture_exchanges{state="expected"})'
_HARM = 'sum(increase(knowledge_feedback_total{verdict=~"harmful|wrong"}[1d]))'
_VERDICTS = "sum(increase(knowledge_feedback_total[1d]))"
KNOWLEDGE_ALERTS = (
    Alert(
        name="CaptureSilent",
        topic="capture",
        level=CRITICAL,
        expr="max(knowledge_capture_alarms) > 0",
        duration="5m",
        summary="A coding agent works and nothing of it is captured",
        description=f"{value_in('count')} capture alarms for 5 minutes (limit 0)",
    ),
    Alert(
        name="CaptureIncomplete",
        topic="capture",
        level=WARNING,
        expr=f"({_CAPTURED} / {_EXPECTED} < 0.95) and on () ({_EXPECTED} >= 20)",
        duration="30m",
        summary="Part of what coding agents wrote is not captured",
        description=f"{value_in('ratio')} of the exchanges in watched transcripts are stored (limit 95%)",
    ),
    Alert(
        name="CaptureBehind",
        topic="capture",
        level=WARNING,
        expr=(
            "max(min_over_time(knowledge_capture_files_behind[15m])) + on () "
            "max(min_over_time(knowledge_capture_spooled[15m])) > 0"
        ),
        duration="15m",
        summary="Captured sessions wait and are not read",
        description=f"{value_in('count')} files and notices have waited for 15 minutes (limit 0)",
    ),
    Alert(
        name="LearningStalled",
        topic="learning",
        level=WARNING,
        expr=(
            "(max(min_over_time(knowledge_exchanges_waiting[30m])) > 0) unless on () "
            "(sum(increase(knowledge_learning_outcomes_total[30m])) > 0)"
        ),
        duration="10m",
        summary="Exchanges wait and nothing is learned from them",
        description=f"{value_in('count')} exchanges have waited for 30 minutes while nothing was judged (limit 0)",
    ),
    Alert(
        name="IndexDrift",
        topic="index",
        level=WARNING,
        expr="(max(min_over_time(knowledge_index_drift[15m])) > 0) unless on () (sum(knowledge_outbox_depth) > 0)",
        duration="15m",
        summary="The index does not hold what the database says",
        description=f"{value_in('count')} entries differ for 15 minutes while nothing waits to be indexed (limit 0)",
    ),
    Alert(
        name="SearchHitsDropped",
        topic="index",
        level=WARNING,
        expr=f"(sum(rate(knowledge_search_hits_dropped_total[15m])) / {_SEARCHES} > 0.1) {_ENOUGH}",
        duration="15m",
        summary="Searches find entries that the database does not know",
        description='{{ $value | printf "%.2f" }} hits a search were dropped in 15 minutes (limit 0.1)',
    ),
    Alert(
        name="SearchDegraded",
        topic="search-degraded",
        level=WARNING,
        expr=f'(sum(rate(knowledge_searches_total{{degraded="yes"}}[15m])) / {_SEARCHES} > 0.2) {_ENOUGH}',
        duration="10m",
        summary="Searches are answered with a part missing",
        description=f"{value_in('ratio')} of the searches of 15 minutes were degraded (limit 20%)",
    ),
    Alert(
        name="KnowledgeHarmful",
        topic="quality",
        level=INFO,
        expr=f"({_HARM} / {_VERDICTS} > 0.3) and on () ({_VERDICTS} >= 5)",
        duration="1h",
        summary="Much of what was found was harmful or wrong",
        description=f"{value_in('ratio')} of the verdicts of 24 hours were harmful or wrong (limit 30%)",
    ),
)
