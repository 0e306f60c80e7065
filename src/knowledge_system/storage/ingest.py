"""What has been read: batches of a file become sessions and exchanges, once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, select, update

from knowledge_system.domain.errors import Overtaken
from knowledge_system.domain.sensitivity import Sensitivity, highest
from knowledge_system.domain.truth import SavedExchanges
from knowledge_system.storage.outbox import announce
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.rows import exchange_row, source_of, source_row, text_length
from knowledge_system.storage.schema import events, exchanges, sessions, sources
from knowledge_system.storage.sessions import ensure_sessions, forgotten, save_sessions
from knowledge_system.storage.statements import chunks, insert_or_replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, RowMapping

    from knowledge_system.domain.sessions import Exchange, ReadWarning, SourceState
    from knowledge_system.domain.truth import IngestBatch
    from knowledge_system.storage.rows import Row


def order_moments(
    batch: Sequence[Exchange], starts: Mapping[str, datetime | None], now: datetime
) -> dict[str, datetime]:
    """Return for each exchange the moment it is ordered by.

    That is its own, else that of the exchange before it in the file, else the session's start, else now.
    """
    moments: dict[str, datetime] = {}
    last: dict[tuple[str, str], datetime] = {}
    for exchange in sorted(batch, key=lambda one: (one.session_id, one.path, one.index)):
        place = (exchange.session_id, exchange.path)
        moment = exchange.timestamp or last.get(place) or starts.get(exchange.session_id) or now
        moments[exchange.id] = last[place] = moment
    return moments


def longest(batch: Iterable[Exchange]) -> dict[str, Exchange]:
    """Return one exchange per id: the version with the most text."""
    kept: dict[str, Exchange] = {}
    for exchange in batch:
        if exchange.id not in kept or text_length(exchange) > text_length(kept[exchange.id]):
            kept[exchange.id] = exchange
    return kept


def save_exchanges(
    connection: Connection, batch: Sequence[Exchange], now: datetime, *, grow: bool = True
) -> SavedExchanges:
    """Store exchanges and announce them; `grow` False leaves every exchange that is there as it is."""
    offered = longest(batch)
    gone = forgotten(connection, "exchange", offered)
    living = {key: one for key, one in offered.items() if key not in gone}
    ensure_sessions(connection, living.values(), now)
    known = _known(connection, living)
    moments = order_moments(list(living.values()), _starts(connection, living.values()), now)
    new = [exchange_row(one, moments[key], now) for key, one in living.items() if key not in known]
    grown = [
        _at_least(one, known[key])
        for key, one in living.items()
        if grow and key in known and _has_grown(one, known[key])
    ]
    if new:
        connection.execute(insert(exchanges), new)
    if grown:
        _replace(connection, [exchange_row(one, _moment(one, known[one.id]), now) for one in grown])
    changed = [row["id"] for row in new], [one.id for one in grown]
    announce(connection, changed[0] + changed[1])
    touched = {*changed[0], *changed[1]}
    return SavedExchanges(tuple(changed[0]), tuple(key for key in offered if key not in touched), tuple(changed[1]))


def _known(connection: Connection, ids: Iterable[str]) -> dict[str, RowMapping]:
    columns = exchanges.c
    place = (columns.timestamp, columns.ordered_at)
    wanted = (columns.id, columns.content_hash, columns.text_length, columns.sensitivity, *place)
    known: dict[str, RowMapping] = {}
    for part in chunks(ids):
        rows = connection.execute(select(*wanted).where(columns.id.in_(part))).mappings()
        known.update((row["id"], row) for row in rows)
    return known


def _starts(connection: Connection, stored: Iterable[Exchange]) -> dict[str, datetime | None]:
    starts: dict[str, datetime | None] = {}
    for part in chunks(one.session_id for one in stored if one.timestamp is None):
        statement = select(sessions.c.id, sessions.c.started_at).where(sessions.c.id.in_(part))
        starts.update({row.id: row.started_at for row in connection.execute(statement)})
    return starts


def _has_grown(exchange: Exchange, known: RowMapping) -> bool:
    return bool(exchange.content_hash != known["content_hash"] and text_length(exchange) > known["text_length"])


def _at_least(exchange: Exchange, known: RowMapping) -> Exchange:
    """Return a grown exchange at no lower level than it had: its meaning may have raised it."""
    level = highest([exchange.sensitivity, Sensitivity(known["sensitivity"])])
    return replace(exchange, sensitivity=level)


def _moment(exchange: Exchange, known: RowMapping) -> datetime:
    """Return where a grown exchange stands: where it stood, unless its time was not known before."""
    if known["timestamp"] is None and exchange.timestamp is not None:
        return exchange.timestamp
    moment: datetime = known["ordered_at"]
    return moment


def _replace(connection: Connection, rows: Sequence[Row]) -> None:
    changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in rows[0] if name not in {"id", "created_at"}}
    statement = update(exchanges).where(exchanges.c.id == bindparam("new_id")).values(changed)
    connection.execute(statement, [{f"new_{name}": value for name, value in row.items()} for row in rows])


class SqlIngestLog(SqlPort):
    """The port `IngestLog` on SQL."""

    @uninterrupted
    async def source(self, path: str) -> SourceState | None:
        """Return how far `path` has been read, or None."""
        statement = select(sources).where(sources.c.path == path)
        row = await self._connections.look(lambda connection: connection.execute(statement).mappings().first())
        return None if row is None else source_of(row)

    @uninterrupted
    async def placeholders(self, session_id: str) -> dict[str, dict[str, int]]:
        """Return the placeholder memory of a session, empty when it has none."""
        statement = select(sessions.c.placeholders).where(sessions.c.id == session_id)
        return await self._connections.look(lambda connection: connection.scalar(statement)) or {}

    @uninterrupted
    async def numbered(self, limit: int) -> frozenset[str] | None:
        """Return the ids of the sessions that have a placeholder memory, None when they are more than `limit`."""
        statement = select(sessions.c.id).where(sessions.c.placeholders != {}).limit(limit + 1)
        found = await self._connections.look(lambda connection: connection.scalars(statement).all())
        return frozenset(found) if len(found) <= limit else None

    @uninterrupted
    async def save(self, batch: IngestBatch) -> SavedExchanges:
        """Store a batch in one transaction; the caller may repeat it after any failure."""
        now = self._clock.now()

        def work(connection: Connection) -> SavedExchanges:
            _check_follows(connection, batch)
            save_sessions(connection, batch.sessions, batch.placeholders, now)
            saved = save_exchanges(connection, batch.exchanges, now)
            insert_or_replace(connection, sources, [source_row(batch.state, now)])
            if batch.warnings:
                connection.execute(insert(events), [_warning_row(one, now) for one in batch.warnings])
            return saved

        return await self._connections.change(work)


def _check_follows(connection: Connection, batch: IngestBatch) -> None:
    """Raise Overtaken when the source is not as the batch found it; writers take turns, so it stays as it is now."""
    if batch.follows is None:
        return
    path = batch.state.path
    resume = connection.scalar(select(sources.c.resume).where(sources.c.path == path)) or {}
    if resume.get("revision", 0) != batch.follows:
        raise Overtaken(f"{path} was written by another process meanwhile.", hint="Try again.")


def _warning_row(warning: ReadWarning, now: datetime) -> Row:
    place = {"path": warning.path, "place": warning.place, "reason": warning.reason}
    return {"kind": "transcript-warning", "payload": place, "created_at": now}
