"""The statements about trajectories, injections and feedback; those that run all the time are registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from knowledge_system.storage.hot_queries import EXCHANGE_KEY, FIRST_EXCHANGE, after
from knowledge_system.storage.path_schema import feedback, injections, trajectory
from knowledge_system.storage.schema import exchanges

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Executable, Select


def untracked(limit: int) -> Select[Any]:
    """Exchanges without a point for their present content, oldest first."""
    return (
        select(exchanges)
        .where(exchanges.c.tracked_at.is_(None), after(EXCHANGE_KEY, FIRST_EXCHANGE))
        .order_by(*EXCHANGE_KEY)
        .limit(limit)
    )


def tracked_after(session_id: str, position: Sequence[Any]) -> Select[Any]:
    """Tracked exchanges of a session that come after a position."""
    columns = exchanges.c
    return select(columns.id).where(
        columns.session_id == session_id, after(EXCHANGE_KEY, position), columns.tracked_at.is_not(None)
    )


def trajectory_of(session_id: str) -> Select[Any]:
    """Points of a session in order."""
    columns = trajectory.c
    return (
        select(trajectory)
        .where(columns.session_id == session_id)
        .order_by(columns.session_id, columns.at, columns.exchange_index, columns.exchange_id)
    )


def points_of(exchange_ids: Sequence[str]) -> Select[Any]:
    """Points of exchanges."""
    return select(trajectory).where(trajectory.c.exchange_id.in_(exchange_ids))


def last_point(session_id: str) -> Select[Any]:
    """The newest point of a session."""
    columns = trajectory.c
    key = (columns.session_id, columns.at, columns.exchange_index, columns.exchange_id)
    order = [column.desc() for column in key]
    return select(trajectory).where(columns.session_id == session_id).order_by(*order).limit(1)


def injections_of(session_id: str, limit: int) -> Select[Any]:
    """Decisions of a session, newest first."""
    columns = injections.c
    order = (columns.session_id.desc(), columns.id.desc())
    return select(injections).where(columns.session_id == session_id).order_by(*order).limit(limit)


def shown_in(session_id: str) -> Select[Any]:
    """Items that a session has been shown."""
    columns = injections.c
    return select(columns.item_id).where(columns.session_id == session_id, columns.injected == 1)


def feedback_on(item_ids: Sequence[str]) -> Select[Any]:
    """Verdicts on items, oldest first."""
    columns = feedback.c
    return select(feedback).where(columns.item_id.in_(item_ids)).order_by(columns.item_id, columns.id)


PATH_HOT_QUERIES: dict[str, Callable[[], Executable]] = {
    "exchanges to be tracked": lambda: untracked(64),
    "tracked exchanges after one": lambda: tracked_after("s1", FIRST_EXCHANGE),
    "trajectory of a session": lambda: trajectory_of("s1"),
    "points of exchanges": lambda: points_of(["xa", "xb"]),
    "newest point of a session": lambda: last_point("s1"),
    "injections of a session": lambda: injections_of("s1", 200),
    "items shown in a session": lambda: shown_in("s1"),
    "feedback on items": lambda: feedback_on(["ka", "kb"]),
}
"""As `hot_queries.HOT_QUERIES`: no scan of a table, no sort."""
