"""What model calls cost between two moments, summed by the database with bound parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from knowledge_system.domain.costs import CostSum
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.schema import cost_tracking

if TYPE_CHECKING:
    from datetime import datetime

_C = cost_tracking.c


class SqlCostReport(SqlPort):
    """The port `CostReport` on SQL."""

    @uninterrupted
    async def sums(self, start: datetime, end: datetime) -> list[CostSum]:
        """Return sums by provider, operation and project of what was settled from `start` up to before `end`."""
        names = (_C.provider, _C.operation, _C.project)
        sums = (func.count(), func.coalesce(func.sum(_C.tokens), 0), func.coalesce(func.sum(_C.cost_nano), 0))
        where = _C.created_at >= start, _C.created_at < end
        statement = select(*names, *sums).where(*where).group_by(*names).order_by(*names)
        rows = await self._connections.look(lambda connection: connection.execute(statement).all())
        return [CostSum(row[0], row[1], row[2], int(row[3]), int(row[4]), int(row[5])) for row in rows]
