"""All alerts, and the rule file that Prometheus reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge_system.operations.monitoring.alert import RUNBOOKS
from knowledge_system.operations.monitoring.critical import critical_alerts, scale_alerts
from knowledge_system.operations.monitoring.knowledge import KNOWLEDGE_ALERTS
from knowledge_system.operations.monitoring.money import MONEY_ALERTS
from knowledge_system.operations.monitoring.platform import DISK_ALERTS, HEALTH_ALERTS, PRESENCE_ALERTS

if TYPE_CHECKING:
    from knowledge_system.operations.monitoring.alert import Alert

GROUP = "knowledge_system"


def all_alerts() -> list[Alert]:
    """Return every alert: those of the table, those beside it, and the signs of growth."""
    beside = (*PRESENCE_ALERTS, *HEALTH_ALERTS, *DISK_ALERTS, *MONEY_ALERTS, *KNOWLEDGE_ALERTS)
    return [*critical_alerts(), *beside, *scale_alerts()]


def rule_file(runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """Return `alerts.yml`. `runbooks` is where the runbooks are published, without a slash at the end."""
    rules = [alert.document(runbooks.rstrip("/")) for alert in all_alerts()]
    return {"groups": [{"name": GROUP, "interval": "30s", "rules": rules}]}
