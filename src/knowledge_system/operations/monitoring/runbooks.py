"""Runbooks: one page for each alert, with its document control, kept until its review date."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from knowledge_system.operations.diagnosis import Finding
from knowledge_system.operations.monitoring.rules import all_alerts

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.operations.monitoring.alert import Alert, Priority

CONTROL = ("version", "last_updated", "next_review", "owner")
"""What every controlled document says of itself, in lines between `---` at its top."""

SECTIONS = ("Meaning", "Impact", "First look", "Causes", "What to do", "Verify", "Escalate")

ESCALATE_AFTER: dict[Priority, str] = {
    "P1": "15 minutes",
    "P2": "1 hour",
    "P3": "4 hours",
    "P4": "1 business day",
    "none": "15 minutes",
}
"""How long whoever is told tries alone: the response times of the operations guide."""

BEGIN = "<!-- made from the rule by scripts/monitoring.py -->"
END = "<!-- end -->"


def rule_block(alert: Alert) -> str:
    """Return what a page says about its rule: made from the rule, so that it is never wrong."""
    level = alert.level
    held = "at once on" if alert.duration == "0m" else f"after {alert.duration} of"
    facts = f"Severity **{level.severity}**, priority **{level.priority}**. Fires {held}:"
    return f"{BEGIN}\n{facts}\n\n```promql\n{alert.expr}\n```\n{END}"


def control_of(text: str) -> dict[str, str]:
    """Return the document control of a page; empty when there is none."""
    head, _, rest = text.partition("\n---\n")
    if not text.startswith("---\n") or not rest:
        return {}
    lines = (line.partition(":") for line in head.splitlines()[1:])
    return {key.strip(): value.strip() for key, _, value in lines}


def control_problems(text: str, today: date) -> list[str]:
    """Return what is wrong with a page's document control: a key missing, or a review date that has passed."""
    control = control_of(text)
    missing = [f"no {key}" for key in CONTROL if not control.get(key)]
    if missing:
        return missing
    try:
        due = date.fromisoformat(control["next_review"])
    except ValueError:
        return [f"next_review is no date: {control['next_review']}"]
    return [f"review was due on {due}"] if due < today else []


def page_problems(text: str, alert: Alert, today: date) -> list[str]:
    """Return what is wrong with the runbook of an alert."""
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    found = [f"no section {section}" for section in SECTIONS if section not in headings]
    if f"\n# {alert.name}\n" not in text:
        found.append("no title")
    if rule_block(alert) not in text:
        found.append("says another rule than the one in force")
    if f"## Escalate\nNot over after {ESCALATE_AFTER[alert.level.priority]}: " not in text:
        found.append("does not say when to escalate")
    return found + control_problems(text, today)


def runbooks_complete(folder: Path, today: date) -> Finding:
    """Tell whether every alert has its page in `folder`, complete, true to its rule and within its review date."""
    found = []
    for alert in all_alerts():
        path = folder / f"{alert.name}.md"
        problems = page_problems(path.read_text("utf-8"), alert, today) if path.is_file() else ["missing"]
        found += [f"{path.name}: {problem}" for problem in problems]
    if not found:
        return Finding("runbooks", "ok", f"{len(all_alerts())} alerts, each with a runbook within its review date")
    return Finding("runbooks", "error", "; ".join(found), f"Write or review the pages in {folder}.", exit_code=1)
