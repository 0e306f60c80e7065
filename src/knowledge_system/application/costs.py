"""What model calls cost in a calendar period."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import to_public, to_utc
from knowledge_system.domain.costs import Period
from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import NANO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.costs import CostSum

Document = dict[str, Any]


async def report(parts: Parts, period: str, at: datetime | None = None) -> Document:
    """Return the sums of the period around `at` (default: now), UTC, up to now where it has not ended."""
    now = to_utc(parts.clock.now())
    try:
        start, end = Period(period).around(at or now)
    except OverflowError:
        raise UsageError("the calendar ends before this period does", hint="ask for a moment before 9999") from None
    until = max(start, min(end, now))
    rows = await (await parts.database()).cost_report().sums(start, until)
    return {
        "period": period,
        "from": to_public(start),
        "to": to_public(until),
        "ends": to_public(end),
        "partial": until < end,
        "elapsed": round((until - start) / (end - start), 4),
        "totals": _sums(rows),
        "byProvider": _grouped(rows, "provider"),
        "byOperation": _grouped(rows, "operation"),
        "byProject": _grouped(rows, "project"),
    }


def _grouped(rows: Iterable[CostSum], name: str) -> list[Document]:
    """Return sums by the value of `name`, the most expensive first."""
    groups: defaultdict[str, list[CostSum]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, name)].append(row)
    found: list[Document] = [{name: value, **_sums(group)} for value, group in groups.items()]
    return sorted(found, key=lambda one: (-one["cost"], one[name]))


def _sums(rows: Iterable[CostSum]) -> Document:
    known = list(rows)
    return {
        "calls": sum(row.calls for row in known),
        "tokens": sum(row.tokens for row in known),
        "cost": sum(row.cost_nano for row in known) / NANO,
    }
