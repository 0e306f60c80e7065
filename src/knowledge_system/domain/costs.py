"""Costs of a period: which moments it has, and sums over it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from knowledge_system.domain.clock import to_utc

if TYPE_CHECKING:
    from collections.abc import Sequence


class Period(StrEnum):
    """Calendar periods, UTC; a week begins on Monday (ISO 8601)."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def around(self, moment: datetime) -> tuple[datetime, datetime]:
        """Return the first moment of the period that `moment` lies in, and the first one after it."""
        hour = to_utc(moment).replace(minute=0, second=0, microsecond=0)
        if self is Period.HOUR:
            return hour, hour + timedelta(hours=1)
        day = hour.replace(hour=0)
        if self is Period.DAY:
            return day, day + timedelta(days=1)
        if self is Period.WEEK:
            monday = day - timedelta(days=day.weekday())
            return monday, monday + timedelta(days=7)
        first = day.replace(day=1)
        return first, (first + timedelta(days=31)).replace(day=1)


@dataclass(frozen=True, slots=True)
class CostSum:
    """Sums of one provider, operation and project; money in nano-dollars."""

    provider: str
    operation: str
    project: str
    calls: int
    tokens: int
    cost_nano: int


class CostReport(Protocol):
    """Sums over what model calls cost."""

    async def sums(self, start: datetime, end: datetime) -> Sequence[CostSum]:
        """Return sums of what was settled from `start` up to before `end`."""
        ...
