"""Every alert fires when it should, with the words it should say, and is silent otherwise: promtool decides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.operations.monitoring.firing import Case, Series, always, calls, embeds, histogram, rising, vectors
from tests.operations.monitoring.firing_service import CASES, disk, model_calls, requests, searches
from tests.operations.monitoring.servers import DEPLOY, run

from knowledge_system.operations.monitoring.alert import Alert
from knowledge_system.operations.monitoring.platform import DAILY_JOBS
from knowledge_system.operations.monitoring.rules import all_alerts

RULES = DEPLOY / "prometheus" / "alerts.yml"
ALERTS = {alert.name: alert for alert in all_alerts()}
UNITS = {"m": 1, "h": 60}


def said(case: Case, alert: Alert) -> dict[str, Any]:
    """Return the alert as promtool expects it: the description literally, the summary with the labels put in."""
    summary = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], alert.summary)
    level = alert.level
    return {
        "exp_labels": case.labels | {"severity": level.severity, "priority": level.priority, "topic": alert.topic},
        "exp_annotations": {
            "summary": summary,
            "description": case.description,
            "runbook_url": f"docs/runbooks/{alert.name}.md",
        },
    }


Expected = list[dict[str, Any]]


def asking(series: Series, step: str, asked: dict[str, dict[float, Expected]]) -> dict[str, Any]:
    """Return one test of promtool: the series, and what each alert should be at each minute."""
    return {
        "interval": step,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{int(minute * 60)}s", "alertname": alert, "exp_alerts": expected}
            for alert, moments in asked.items()
            for minute, expected in moments.items()
        ],
    }


def examined(tmp_path: Path, tests: list[dict[str, Any]], names: Iterable[str], every: str = "30s") -> str:
    """Let promtool judge, with no other rules than those asked about: it evaluates each at every step."""
    wanted = set(names)
    document = yaml.safe_load(RULES.read_text())
    (group,) = document["groups"]
    group["rules"] = [rule for rule in group["rules"] if rule["alert"] in wanted]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(document, width=10_000))
    tested = {"rule_files": ["rules.yml"], "evaluation_interval": every, "tests": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(tested, sort_keys=False, width=10_000))
    done = run("promtool", "test", "rules", tmp_path / "test.yml")
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_fires_with_its_words_not_before_its_time_and_not_near_it(tmp_path: Path, case: Case) -> None:
    alert = ALERTS[case.alert]
    wait = int(alert.duration[:-1]) * UNITS[alert.duration[-1]]
    moments: dict[float, Expected] = {wait - 0.5: []} if wait else {}
    tests = [asking(case.series, case.step, {case.alert: moments | {case.at: [said(case, alert)]}})]
    tests += [asking(case.series | near, case.step, {case.alert: {case.at: []}}) for near in case.near]

    assert examined(tmp_path, tests, [case.alert]) == ""


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert sorted(case.alert for case in CASES) == sorted(ALERTS)
    assert [case.alert for case in CASES if not case.near] == ["Watchdog"]


def test_a_job_that_never_succeeded_is_stale_an_hour_after_the_start(tmp_path: Path) -> None:
    started = 'process_start_time_seconds{job="knowledge-system",instance="a"}'
    failing = 'knowledge_upkeep_runs_total{exported_job="sweep-reservations",outcome="unavailable"}'
    case = Case("UpkeepStale", {started: always(0), failing: rising(2)}, 66,
                "Last success of sweep-reservations 1h 6m 0s ago (limit 1 h, daily jobs 26 h)",
                {"exported_job": "sweep-reservations"})  # fmt: skip
    moments: dict[float, Expected] = {60: [], case.at: [said(case, ALERTS[case.alert])]}

    assert examined(tmp_path, [asking(case.series, "1m", {case.alert: moments})], [case.alert]) == ""


def healthy() -> Series:
    """Return a day of a service in use: everything moves and nothing is wrong."""
    return {
        **calls("2"), **vectors("0.1"), **embeds(384, "0.02"), **embeds(1536, "0.2"),
        **histogram("knowledge_search_latency_seconds", ("0.1", "+Inf"), "0.1", 5, 'scope="all",'),
        **searches(5, 0), **model_calls(0, 10), **requests(0, 20), **disk(always(60e9)),
        'knowledge_cache_requests_total{result="l1"}': rising(5),
        'knowledge_cache_requests_total{result="miss"}': rising(5),
        'knowledge_items_extracted_total{type="gotcha",mode="realtime"}': rising(1),
        'knowledge_exchanges_ingested_total{mode="realtime"}': rising(3),
        'knowledge_learning_outcomes_total{outcome="created"}': rising(1),
        'knowledge_monthly_budget_usd{job="knowledge-system",instance="a"}': always(8.33),
        "knowledge_monthly_spend_usd": always(1), 'knowledge_spend_usd{window="1h"}': always(0.01),
        'knowledge_spend_usd{window="24h"}': always(0.1),
        'knowledge_inference_cost_usd_total{provider="groq",operation="extract"}': rising(0.0001),
        "knowledge_budget_reserved_usd": " ".join(["0.1x8 0"] * 300), "knowledge_budget_frozen": always(0),
        'knowledge_circuit_breaker_state{provider="groq"}': always(0),
        'knowledge_vector_store_memory_bytes{component="process"}': always(3e8),
        "knowledge_sqlite_size_bytes": always(5e7), "knowledge_sqlite_queries_total": rising(600),
        'up{job="knowledge-system",instance="a"}': always(1), 'up{job="node-exporter",instance="b"}': always(1),
        'process_start_time_seconds{job="knowledge-system",instance="a"}': always(0),
        'scrape_duration_seconds{job="knowledge-system",instance="a"}': always(0.05),
        "knowledge_health_status": always(1), "knowledge_exchanges_waiting": " ".join(["5x8 0"] * 300),
        'knowledge_capture_exchanges{state="captured"}': always(990),
        'knowledge_capture_exchanges{state="expected"}': always(1000),
        "knowledge_capture_files_behind": " ".join(["1x8 0"] * 300), "knowledge_capture_spooled": always(0),
        "knowledge_capture_alarms": always(0), "knowledge_index_drift": always(0),
        'knowledge_outbox_depth{stage="vectors"}': always(3), "knowledge_embedding_queue_depth": always(3),
        'knowledge_items_stored{type="gotcha",collection="knowledge_384"}': always(9000),
        "knowledge_migration_pending": always(0), "knowledge_sqlite_longest_transaction_seconds": always(0.1),
        'knowledge_feedback_total{verdict="helpful"}': rising(0.1),
        'knowledge_feedback_total{verdict="harmful"}': rising(0.01),
        **{f'knowledge_upkeep_last_success_timestamp_seconds{{exported_job="{job}"}}': always(0) for job in DAILY_JOBS},
        'knowledge_upkeep_last_success_timestamp_seconds{exported_job="sweep-reservations"}': rising(60),
        'knowledge_upkeep_runs_total{exported_job="sweep-reservations",outcome="done"}': rising(2),
    }  # fmt: skip


def restarted(series: Series) -> Series:
    """Return the series of a service that begins anew after an hour: counters from 0, a scrape lost."""
    made = {
        name: values.replace("x800", "x60 ") + values if "+" in values and "timestamp" not in name else values
        for name, values in series.items()
    }
    return made | {
        'up{job="knowledge-system",instance="a"}': "1x60 0 1x800",
        'process_start_time_seconds{job="knowledge-system",instance="a"}': "0x60 _ 3660x800",
    }


def idle(series: Series) -> Series:
    """Return the series of a service that nobody asks anything after an hour, as at night."""
    return {
        name: values.replace("x800", "x60 ") + f"{float(values[2:].split('x')[0]) * 60:g}x800"
        if values.startswith("0+") and "timestamp" not in name
        else values
        for name, values in series.items()
    }


@pytest.mark.parametrize("change", [dict, restarted, idle], ids=["in use", "restarted", "idle"])
def test_nothing_fires_while_nothing_is_wrong(tmp_path: Path, change: Any) -> None:
    quiet = set(ALERTS) - {"Watchdog"}
    moments: dict[float, Expected] = {minute: [] for minute in (1, 15, 45, 61, 62, 63, 66, 75, 120, 240)}
    tests = [asking(change(healthy()), "1m", dict.fromkeys(quiet, moments))]

    assert examined(tmp_path, tests, quiet, "1m") == ""


def test_nothing_fires_before_the_first_scrape_but_that_nothing_is_there(tmp_path: Path) -> None:
    quiet = set(ALERTS) - {"Watchdog", "KnowledgeSystemAbsent"}
    tests = [asking({}, "1m", {name: {1: [], 30: [], 90: []} for name in quiet})]

    assert examined(tmp_path, tests, quiet, "1m") == ""


def test_rule_file_is_one_group_of_thirty_seconds() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert (group["name"], group["interval"]) == ("knowledge_system", "30s")
    assert run("promtool", "check", "rules", RULES).returncode == 0
