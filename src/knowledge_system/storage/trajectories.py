"""Stored trajectories: one row an exchange, and sums over them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from knowledge_system.domain.trajectory import (
    ActiveConcept,
    Engagement,
    Intent,
    SessionState,
    TrajectoryPoint,
    TrajectoryStatistics,
)
from knowledge_system.storage import path_queries
from knowledge_system.storage.hot_queries import EXCHANGE_KEY
from knowledge_system.storage.outbox import announce_marks
from knowledge_system.storage.path_schema import trajectory
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.portions import portion
from knowledge_system.storage.schema import exchanges
from knowledge_system.storage.statements import chunks, insert_or_replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, RowMapping, Select

    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.storage.rows import Row

LONGEST_STAY = 1800.0
"""Seconds between two exchanges that count as time in the state; longer is a break, of which nobody knows anything."""


class SqlTrajectories(SqlPort):
    """The port `Trajectories` on SQL."""

    @uninterrupted
    async def untracked(self, limit: int) -> list[Exchange]:
        """Return exchanges that have no point for their present content, oldest first; fewer when they are large."""
        return await self._connections.look(lambda connection: portion(connection, path_queries.untracked(limit)))

    @uninterrupted
    async def save(self, points: Sequence[TrajectoryPoint], versions: Mapping[str, str]) -> None:
        """Store points and the intent of their exchanges in one transaction; what has been forgotten is left out."""
        now = self._clock.now()
        await self._connections.change(lambda connection: _save(connection, points, versions, now))

    @uninterrupted
    async def history(self, session_id: str) -> list[TrajectoryPoint]:
        """Return the points of a session in the order of its exchanges."""
        statement = path_queries.trajectory_of(session_id)
        rows = await self._connections.look(lambda connection: connection.execute(statement).mappings().all())
        return [_point(row) for row in rows]

    @uninterrupted
    async def of(self, exchange_ids: Sequence[str]) -> dict[str, TrajectoryPoint]:
        """Return the points of these exchanges, as far as there are any, by exchange id."""

        def work(connection: Connection) -> dict[str, TrajectoryPoint]:
            found: dict[str, TrajectoryPoint] = {}
            for part in chunks(exchange_ids):
                rows = connection.execute(path_queries.points_of(part)).mappings()
                found.update({row["exchange_id"]: _point(row) for row in rows})
            return found

        return await self._connections.look(work)

    @uninterrupted
    async def latest(self, session_ids: Sequence[str]) -> dict[str, TrajectoryPoint]:
        """Return the last point of each session that has one."""

        def work(connection: Connection) -> dict[str, TrajectoryPoint]:
            found: dict[str, TrajectoryPoint] = {}
            for session in dict.fromkeys(session_ids):
                row = connection.execute(path_queries.last_point(session)).mappings().first()
                if row is not None:
                    found[session] = _point(row)
            return found

        return await self._connections.look(work)

    @uninterrupted
    async def statistics(self, project: str | None = None, since: datetime | None = None) -> TrajectoryStatistics:
        """Return sums over all sessions, or over those of a project or since a moment."""
        statement = _statistics_query(project, since)
        rows = await self._connections.look(lambda connection: connection.execute(statement).all())
        return _summed([(row.session_id, row.at, row.intent, row.state) for row in rows])


def _save(
    connection: Connection, points: Sequence[TrajectoryPoint], versions: Mapping[str, str], now: datetime
) -> None:
    known = _known(connection, [point.exchange_id for point in points])
    living = [point for point in points if point.exchange_id in known]
    insert_or_replace(connection, trajectory, [_row(one, known[one.exchange_id]) for one in living])
    if living:
        connection.execute(_MARK, [_marked(one, versions, now) for one in living])
    announce_marks(connection, [one.exchange_id for one in living if known[one.exchange_id].intent != one.intent])
    _reopen(connection, [known[one.exchange_id] for one in living])


def _known(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    columns = exchanges.c
    wanted = (columns.id, columns.session_id, columns.project, columns.intent, *EXCHANGE_KEY[:2])
    found: dict[str, Any] = {}
    for part in chunks(ids):
        found.update({row.id: row for row in connection.execute(select(*wanted).where(columns.id.in_(part)))})
    return found


_MARK = (
    update(exchanges)
    .where(exchanges.c.id == bindparam("point"), exchanges.c.content_hash == bindparam("version"))
    .values(tracked_at=bindparam("moment"), intent=bindparam("wanted"))
)


def _marked(point: TrajectoryPoint, versions: Mapping[str, str], now: datetime) -> Row:
    wanted = point.intent.value if point.intent else None
    return {
        "point": point.exchange_id,
        "version": versions.get(point.exchange_id, ""),
        "moment": now,
        "wanted": wanted,
    }


def _reopen(connection: Connection, saved: Sequence[Any]) -> None:
    """Make untracked what follows the first saved exchange of each session: its points went on from another one."""
    first: dict[str, Any] = {}
    for row in sorted(saved, key=lambda row: (row.ordered_at, row.exchange_index, row.id)):
        first.setdefault(row.session_id, row)
    ids = [row.id for row in saved]
    for row in first.values():
        later = path_queries.tracked_after(row.session_id, (row.ordered_at, row.exchange_index, row.id))
        stale = [key for key in connection.scalars(later) if key not in ids]
        for part in chunks(stale):
            connection.execute(update(exchanges).where(exchanges.c.id.in_(part)).values(tracked_at=None))


def _statistics_query(project: str | None, since: datetime | None) -> Select[Any]:
    columns = trajectory.c
    statement = select(columns.session_id, columns.at, columns.intent, columns.state)
    if project is not None:
        statement = statement.where(columns.project == project)
    if since is not None:
        statement = statement.where(columns.at >= since)
    return statement.order_by(columns.session_id, columns.at, columns.exchange_index, columns.exchange_id)


def _summed(rows: Sequence[tuple[str, datetime, str | None, str]]) -> TrajectoryStatistics:
    intents: defaultdict[str, int] = defaultdict(int)
    states: defaultdict[str, int] = defaultdict(int)
    seconds: defaultdict[str, float] = defaultdict(float)
    moves: defaultdict[tuple[str, str], int] = defaultdict(int)
    turns: defaultdict[tuple[str, str], int] = defaultdict(int)
    before: tuple[str, datetime, str | None, str] | None = None
    for row in rows:
        session, at, intent, state = row
        intents[intent or "none"] += 1
        states[state] += 1
        if before is not None and before[0] == session:
            seconds[before[3]] += min(LONGEST_STAY, max(0.0, (at - before[1]).total_seconds()))
            moves[before[3], state] += before[3] != state
            turns[before[2] or "none", intent or "none"] += before[2] != intent
        before = row
    kept = {pair: count for pair, count in moves.items() if count}
    turned = {pair: count for pair, count in turns.items() if count}
    sessions = len({row[0] for row in rows})
    return TrajectoryStatistics(sessions, len(rows), dict(intents), dict(states), dict(seconds), kept, turned)


def _row(point: TrajectoryPoint, exchange: Any) -> Row:
    return {
        "exchange_id": point.exchange_id,
        "session_id": point.session_id,
        "exchange_index": point.index,
        "project": exchange.project,
        "at": exchange.ordered_at,
        "intent": point.intent.value if point.intent else None,
        "intent_confidence": point.intent_confidence,
        "goal": point.goal,
        "state": point.state.value,
        "state_confidence": point.state_confidence,
        "concepts": [[one.name, one.engagement.value, round(one.weight, 4)] for one in point.concepts],
        "changed": list(point.changed),
        "cause": point.trigger,
        "method": point.method,
    }


def _point(row: RowMapping) -> TrajectoryPoint:
    return TrajectoryPoint(
        exchange_id=row["exchange_id"],
        session_id=row["session_id"],
        index=row["exchange_index"],
        at=row["at"],
        intent=Intent(row["intent"]) if row["intent"] else None,
        intent_confidence=row["intent_confidence"],
        goal=row["goal"],
        state=SessionState(row["state"]),
        state_confidence=row["state_confidence"],
        concepts=tuple(ActiveConcept(name, Engagement(how), weight) for name, how, weight in row["concepts"]),
        changed=tuple(row["changed"]),
        trigger=row["cause"],
        method=row["method"],
    )
