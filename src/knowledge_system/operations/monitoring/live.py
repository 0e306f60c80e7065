"""Ask a Prometheus whether it really watches this system."""

from __future__ import annotations

from typing import Any

import httpx2

from knowledge_system.operations.diagnosis import Finding
from knowledge_system.operations.monitoring.rules import all_alerts

TIMEOUT = 5.0
"""Seconds that Prometheus may take for one answer."""

_ADVICE = "Install deploy/prometheus/ as docs/monitoring.md says."


async def monitoring_configured(prometheus_url: str, job: str = "knowledge-system") -> list[Finding]:
    """Tell whether Prometheus is reached, scrapes the service, has every alert loaded and an Alertmanager to tell.

    One finding for each of the four; when Prometheus does not answer, only the first. Never raises for what it finds.
    """
    try:
        async with httpx2.AsyncClient(base_url=prometheus_url, timeout=TIMEOUT) as client:
            up = await _get(client, "query", query=f'up{{job="{job}"}}')
            rules = await _get(client, "rules", type="alert")
            managers = await _get(client, "alertmanagers")
    except (httpx2.HTTPError, ValueError, KeyError) as error:
        detail = f"{prometheus_url} gives no answer of Prometheus: {type(error).__name__}"
        return [Finding("prometheus", "error", detail, _ADVICE, exit_code=5)]
    reached = Finding("prometheus", "ok", f"{prometheus_url} answers")
    return [reached, _targets(up["result"], job), _rules(rules["groups"]), _managers(managers["activeAlertmanagers"])]


async def _get(client: httpx2.AsyncClient, path: str, **parameters: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/{path}", params=parameters)
    answer.raise_for_status()
    data: dict[str, Any] = answer.json()["data"]
    return data


def _targets(result: list[dict[str, Any]], job: str) -> Finding:
    down = [sample["metric"].get("instance", "?") for sample in result if float(sample["value"][1]) != 1]
    if result and not down:
        return Finding("targets", "ok", f"{len(result)} target(s) of the job {job} are up")
    detail = f"down: {', '.join(down)}" if down else f"no target of the job {job}"
    return Finding("targets", "error", detail, _ADVICE, exit_code=5)


def _rules(groups: list[dict[str, Any]]) -> Finding:
    rules = {rule["name"]: rule.get("health") for group in groups for rule in group["rules"]}
    missing = [alert.name for alert in all_alerts() if alert.name not in rules]
    broken = [name for name, health in rules.items() if health == "err"]
    if not missing and not broken:
        return Finding("alerts", "ok", f"{len(all_alerts())} alerts are loaded")
    told = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"failing: {', '.join(broken)}"] * bool(broken)
    return Finding("alerts", "error", "; ".join(told), _ADVICE, exit_code=1)


def _managers(active: list[dict[str, Any]]) -> Finding:
    if active:
        return Finding("alertmanager", "ok", f"{len(active)} Alertmanager(s) are told of alerts")
    return Finding("alertmanager", "error", "Prometheus knows no Alertmanager: nobody is told", _ADVICE, exit_code=5)
