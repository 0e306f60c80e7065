"""The dashboard is whole, draws the limits of the table, and asks only for what is exposed."""

from __future__ import annotations

import json
import re
import sys
from itertools import combinations
from typing import Any

import pytest
import yaml
from tests.operations.monitoring.exposed import mistakes, names_in, unknown
from tests.operations.monitoring.servers import DEPLOY, ROOT

from knowledge_system.operations.monitoring.panels import TITLE, UID, dashboard_rows
from knowledge_system.operations.monitoring.rules import all_alerts
from knowledge_system.operations.thresholds import BUDGET_TIERS, CRITICAL_METRICS, DEFAULT_BUDGET_USD, SCALE_TRIGGERS
from knowledge_system.settings import Configuration

MODEL = json.loads((DEPLOY / "grafana" / "dashboards" / "knowledge-system.json").read_text())
PANELS = {panel["title"]: panel for panel in MODEL["panels"] if panel["type"] != "row"}
QUERIES = [(title, target["expr"]) for title, panel in PANELS.items() for target in panel["targets"]]


def drawn(panel: dict[str, Any]) -> set[float]:
    return {step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]} - {None}


@pytest.mark.parametrize("row", CRITICAL_METRICS, ids=lambda row: row.id)
def test_every_critical_metric_has_a_metric_a_panel_with_its_limits_and_two_alerts(row: Any) -> None:
    alerts = {alert.name: alert for alert in all_alerts()}
    assert names_in(row.query)
    assert unknown(row.query) == set()

    panel = PANELS[row.panel]
    assert panel["targets"][0]["expr"] == row.query
    assert {row.alert, row.critical} <= drawn(panel) <= {row.target, row.alert, row.critical}
    assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] == "line"

    warning, critical = (alerts[name] for name in row.alerts)
    assert (warning.level.severity, critical.level.severity) == ("warning", "critical")
    assert warning.topic == critical.topic
    assert names_in(warning.expr) >= names_in(row.query) <= names_in(critical.expr)
    for alert, limit in ((warning, row.alert), (critical, row.critical)):
        share = row.shares and row.shares[(alert is critical)]
        written = f"{limit:.0f}" if limit >= 1 else f"{limit:g}"
        assert any(
            text in alert.expr
            for text in (f"{row.compared} {written}", f"== {written}", f"> {share:g} *" if share else "", ">= max")
        )


def test_every_panel_is_explained_in_a_line() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text().splitlines()
    panels = [panel for row in dashboard_rows() for panel in row.panels]
    assert [panel.title for panel in panels if f"- *{panel.title}*: {panel.shows}" not in page] == []


def test_titles_of_the_guide_are_there() -> None:
    guides = {"Inference Latency (p95)", "Cache Hit Rate", "Monthly Spend vs Budget", "Circuit Breaker States"}
    assert guides <= set(PANELS)
    assert len(PANELS["Monthly Spend vs Budget"]["targets"]) == 2


def test_every_scale_trigger_has_an_alert_on_a_metric_that_exists() -> None:
    alerts = {alert.name: alert for alert in all_alerts()}
    for trigger in SCALE_TRIGGERS:
        assert alerts[trigger.alert].level.severity == "info"
        assert alerts[trigger.alert].expr == f"{trigger.query} > {trigger.trigger:g}"


def test_budget_tiers_are_those_of_the_settings() -> None:
    budget = Configuration().budget
    shares = {tier.name: tier.share for tier in BUDGET_TIERS}
    assert (budget.monthly, budget.local_first_at, budget.local_only_at) == (
        DEFAULT_BUDGET_USD, shares["local-first"], shares["local-only"],
    )  # fmt: skip


def test_ids_references_and_places_do_not_collide() -> None:
    ids = [panel["id"] for panel in MODEL["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(PANELS) == sum(len(row.panels) for row in dashboard_rows())
    for panel in PANELS.values():
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    for one, other in combinations([panel["gridPos"] for panel in MODEL["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in (panel["gridPos"] for panel in MODEL["panels"]))


def test_the_data_source_is_a_variable_everywhere() -> None:
    (variable,) = MODEL["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    sources = [panel["datasource"] for panel in PANELS.values()]
    sources += [target["datasource"] for panel in PANELS.values() for target in panel["targets"]]
    assert {source["uid"] for source in sources} == {"${datasource}"}


def test_every_query_parses_and_asks_for_what_is_exposed() -> None:
    assert [(title, unknown(expression)) for title, expression in QUERIES if unknown(expression)] == []


def test_every_alert_asks_for_what_is_exposed() -> None:
    assert {alert.name: unknown(alert.expr) for alert in all_alerts() if unknown(alert.expr)} == {}


def test_nothing_is_asked_in_vain() -> None:
    asked = [*QUERIES, *((alert.name, alert.expr) for alert in all_alerts())]
    assert [(name, mistakes(expression)) for name, expression in asked if mistakes(expression)] == []


@pytest.mark.parametrize(
    ("expression", "mistake"),
    [
        ('sum(rate(knowledge_cache_requests_total{result="l3"}[5m]))', "result is never l3"),
        ('max(knowledge_spend_usd{windows="1h"})', "no label windows"),
        ('sum(rate(knowledge_inference_latency_seconds_bucket{le="3"}[5m]))', "le is never 3"),
        ("rate(knowledge_monthly_spend_usd[5m])", "rate of the gauge"),
        ("max(delta(knowledge_sqlite_queries_total[5m]))", "delta of the counter"),
        ('avg_over_time(max(knowledge_spend_usd{window="1w"})[7d:1h])', "window is never 1w"),
    ],
)
def test_what_is_asked_in_vain_is_told(expression: str, mistake: str) -> None:
    assert mistake in " ".join(mistakes(expression))


def test_a_percentile_keeps_the_bounds_of_buckets() -> None:
    asked = [expression for _, expression in [*QUERIES, *((alert.name, alert.expr) for alert in all_alerts())]]
    assert [one for one in asked if one.count("histogram_quantile") != len(re.findall(r"sum by \(le[,)]", one))] == []


def test_it_can_be_provisioned_and_sent_to_the_interface() -> None:
    body = json.loads((DEPLOY / "grafana" / "knowledge-system-api.json").read_text())
    assert (MODEL["title"], MODEL["uid"], MODEL.get("id")) == (TITLE, UID, None)
    assert MODEL["schemaVersion"] > 0
    assert body["overwrite"] is True
    assert body["dashboard"] == MODEL | {"id": None}
    folder = DEPLOY / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "knowledge-system.yml").read_text())["providers"]
    (source,) = yaml.safe_load((folder / "datasources" / "knowledge-system.yml").read_text())["datasources"]
    assert (provider["type"], source["type"]) == ("file", "prometheus")


def test_builders_are_no_part_of_the_running_system() -> None:
    assert not [name for name in sys.modules if name.startswith("grafana_foundation_sdk")]
