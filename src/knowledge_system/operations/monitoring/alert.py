"""What an alert is, and how its values are written in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from knowledge_system.operations.thresholds import Unit

Severity = Literal["critical", "warning", "info", "none"]
Priority = Literal["P1", "P2", "P3", "P4", "none"]

RUNBOOKS = "docs/runbooks"
"""Where `runbook_url` points unless a base address is given: the folder of this project."""


@dataclass(frozen=True, slots=True)
class Level:
    """How bad it is, and who hears of it when: Alertmanager routes by `priority`."""

    severity: Severity
    priority: Priority


OUTAGE = Level("critical", "P1")
"""A complete outage: page at once."""

CRITICAL = Level("critical", "P2")
"""A partial outage: the ops team in business hours."""

WARNING = Level("warning", "P3")
"""Worse service: a ticket for the next business day."""

INFO = Level("info", "P4")
"""Nothing that a user feels: the next maintenance window."""

SILENT = Level("none", "none")
"""For the alert that always fires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule. `topic` joins the alerts of one matter: a critical one silences the warnings beside it.

    `duration` is how long `expr` must hold, `keep` how long the alert stays after it ended ("": not at all). `summary`
    and `description` are templates of Prometheus.
    """

    name: str
    topic: str
    level: Level
    expr: str
    duration: str
    summary: str
    description: str
    keep: str = ""

    def document(self, runbooks: str = RUNBOOKS) -> dict[str, Any]:
        """Return the rule as Prometheus reads it."""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expr, "for": self.duration}
        if self.keep:
            rule["keep_firing_for"] = self.keep
        return rule | {
            "labels": {"severity": self.level.severity, "priority": self.level.priority, "topic": self.topic},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbooks}/{self.name}.md",
            },
        }


_GB = 1e9
_VALUES: dict[Unit, str] = {
    "s": "{{ $value | humanizeDuration }}",
    "bytes": "{{ $value | humanize }}B",
    "ratio": "{{ $value | humanizePercentage }}",
    "USD": '{{ $value | printf "$%.2f" }}',
    "per_minute": '{{ $value | printf "%.1f" }}/min',
    "per_second": '{{ $value | printf "%.1f" }}/s',
    "count": '{{ $value | printf "%.0f" }}',
    "state": "{{ $value }}",
}


def value_in(unit: Unit) -> str:
    """Return the template that writes the value of a rule in its unit."""
    return _VALUES[unit]


def limit_in(unit: Unit, limit: float) -> str:
    """Return a limit in words, in the same unit as its value."""
    written = {
        "s": f"{limit:g} s" if limit >= 1 else f"{limit * 1000:g} ms",
        "bytes": f"{limit / _GB:g} GB" if limit >= _GB else f"{limit / 1e6:g} MB",
        "ratio": f"{limit * 100:g}%",
        "USD": f"${limit:.2f}",
        "per_minute": f"{limit:g}/min",
        "per_second": f"{limit:g}/s",
    }
    return written.get(unit, f"{limit:g}")


def queried(query: str, pattern: str) -> str:
    """Return the template that asks for one more number, for what `$value` alone does not say."""
    return f'{{{{ with query "{query}" }}}}{{{{ . | first | value | printf "{pattern}" }}}}{{{{ end }}}}'
