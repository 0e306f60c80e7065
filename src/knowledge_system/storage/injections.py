"""What was injected and why, and what people and agents said about items: appended to, never changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from knowledge_system.domain.errors import NotFound
from knowledge_system.domain.feedback import Feedback, FeedbackVerdict
from knowledge_system.domain.injection import InjectionDecision, Occasion
from knowledge_system.storage import path_queries
from knowledge_system.storage.path_schema import feedback, injections
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.schema import knowledge_items
from knowledge_system.storage.statements import chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, RowMapping


class SqlInjections(SqlPort):
    """The port `Injections` on SQL."""

    @uninterrupted
    async def record(self, decisions: Sequence[InjectionDecision]) -> None:
        """Append decisions."""
        rows = [{**asdict(one), "occasion": one.occasion.value, "injected": int(one.injected)} for one in decisions]
        if rows:
            await self._connections.change(lambda connection: connection.execute(insert(injections), rows))

    @uninterrupted
    async def of_session(self, session_id: str, limit: int = 200) -> list[InjectionDecision]:
        """Return the last decisions of a session, oldest first."""
        statement = path_queries.injections_of(session_id, limit)
        rows = await self._connections.look(lambda connection: connection.execute(statement).mappings().all())
        return [_decision(row) for row in reversed(rows)]

    @uninterrupted
    async def shown(self, session_id: str) -> frozenset[str]:
        """Return the ids of the items that this session has been shown."""
        statement = path_queries.shown_in(session_id)
        return frozenset(await self._connections.look(lambda connection: connection.scalars(statement).all()))


class SqlFeedback(SqlPort):
    """The port `FeedbackLog` on SQL."""

    @uninterrupted
    async def record(self, given: Feedback) -> None:
        """Append a verdict. Raises NotFound when there is no such item."""

        def work(connection: Connection) -> None:
            known = select(knowledge_items.c.id).where(knowledge_items.c.id == given.item_id)
            if connection.scalar(known) is None:
                raise NotFound(f"no item {given.item_id}", hint="ids come from `knowledge search`")
            connection.execute(insert(feedback), {**asdict(given), "verdict": given.verdict.value})

        await self._connections.change(work)

    @uninterrupted
    async def about(self, item_ids: Sequence[str]) -> dict[str, list[Feedback]]:
        """Return the verdicts on each item that has any, oldest first."""

        def work(connection: Connection) -> dict[str, list[Feedback]]:
            found: defaultdict[str, list[Feedback]] = defaultdict(list)
            for part in chunks(item_ids):
                for row in connection.execute(path_queries.feedback_on(part)).mappings():
                    found[row["item_id"]].append(_feedback(row))
            return dict(found)

        return await self._connections.look(work)


def _decision(row: RowMapping) -> InjectionDecision:
    return InjectionDecision(
        session_id=row["session_id"],
        at=row["at"],
        occasion=Occasion(row["occasion"]),
        prompt_hash=row["prompt_hash"],
        item_id=row["item_id"],
        injected=bool(row["injected"]),
        reason=row["reason"],
        detail=row["detail"],
        score=row["score"],
        tokens=row["tokens"],
    )


def _feedback(row: RowMapping) -> Feedback:
    return Feedback(
        item_id=row["item_id"],
        verdict=FeedbackVerdict(row["verdict"]),
        actor=row["actor"],
        at=row["at"],
        session_id=row["session_id"],
        note=row["note"],
    )
