"""Sessions: seen again and again, each time a little more is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from knowledge_system.domain.sessions import Session
from knowledge_system.storage.rows import session_of, session_row
from knowledge_system.storage.schema import sessions, tombstones
from knowledge_system.storage.statements import chunks, insert_or_replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection, RowMapping

    from knowledge_system.domain.sessions import Exchange


def merged(old: Session, new: Session) -> Session:
    """Return what is known of a session after it was seen again: the widest span, and what is not empty wins."""
    starts = [moment for moment in (old.started_at, new.started_at) if moment]
    ends = [moment for moment in (old.ended_at, new.ended_at) if moment]
    return replace(
        new,
        project=new.project or old.project,
        agent=new.agent or old.agent,
        format=new.format or old.format,
        path=new.path or old.path,
        title=new.title or old.title,
        cwd=new.cwd or old.cwd,
        git_branch=new.git_branch or old.git_branch,
        parent_id=new.parent_id or old.parent_id,
        started_at=min(starts, default=None),
        ended_at=max(ends, default=None),
        metadata={**old.metadata, **new.metadata},
    )


def forgotten(connection: Connection, kind: str, ids: Iterable[str]) -> set[str]:
    """Return those of `ids` that have a tombstone of this kind."""
    found: set[str] = set()
    for part in chunks(ids):
        statement = select(tombstones.c.id).where(tombstones.c.id.in_(part), tombstones.c.kind == kind)
        found.update(connection.scalars(statement))
    return found


def save_sessions(
    connection: Connection,
    seen: Iterable[Session],
    placeholders: Mapping[str, dict[str, dict[str, int]]],
    now: datetime,
) -> None:
    """Store sessions together with what is known of them; a forgotten title stays forgotten."""
    latest: dict[str, Session] = {}
    for session in seen:
        latest[session.id] = merged(latest[session.id], session) if session.id in latest else session
    known = _known_sessions(connection, latest)
    gone = forgotten(connection, "session", latest)
    rows = []
    for session_id, session in latest.items():
        old = known.get(session_id)
        whole = merged(session_of(old), session) if old else session
        row = session_row(replace(whole, title="") if session_id in gone else whole)
        row["placeholders"] = placeholders.get(session_id, old["placeholders"] if old else {})
        row["created_at"] = old["created_at"] if old else now
        row["ordered_at"] = whole.started_at or row["created_at"]
        rows.append(row)
    insert_or_replace(connection, sessions, rows)


def _known_sessions(connection: Connection, ids: Iterable[str]) -> dict[str, RowMapping]:
    known: dict[str, RowMapping] = {}
    for part in chunks(ids):
        rows = connection.execute(select(sessions).where(sessions.c.id.in_(part))).mappings()
        known.update((row["id"], row) for row in rows)
    return known


def ensure_sessions(connection: Connection, stored: Iterable[Exchange], now: datetime) -> None:
    """Give every exchange a session to stand in, if only by name."""
    first: dict[str, Exchange] = {}
    for exchange in stored:
        first.setdefault(exchange.session_id, exchange)
    known: set[str] = set()
    for part in chunks(first):
        known.update(connection.scalars(select(sessions.c.id).where(sessions.c.id.in_(part))))
    stubs = [
        Session(id=key, project=one.project, agent=one.agent, format="", path=one.path)
        for key, one in first.items()
        if key not in known
    ]
    if stubs:
        save_sessions(connection, stubs, {}, now)
