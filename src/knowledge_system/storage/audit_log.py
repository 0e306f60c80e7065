"""What left the machine and why, in SQL: appended to, read in pages. The entry of a call is completed by the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.money import AuditEntry
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.storage.engine_queries import LAST_AUDIT, audit_page
from knowledge_system.storage.engine_schema import audit_log
from knowledge_system.storage.port import SqlPort, uninterrupted

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_FIELDS = [column for column in audit_log.c.keys() if column != "id"]  # noqa: SIM118 -- a collection of columns


def fields_of(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as the table names its columns."""
    return {name: getattr(entry, name) for name in _FIELDS}


def append(connection: Connection, entry: AuditEntry) -> None:
    """Append an entry as part of the transaction that does what the entry tells."""
    connection.execute(insert(audit_log), fields_of(entry))


class SqlAuditLog(SqlPort):
    """The port `AuditLog` on SQL."""

    @uninterrupted
    async def record(self, entry: AuditEntry) -> None:
        """Append an entry."""
        await self._connections.decide(lambda connection: append(connection, entry))

    @uninterrupted
    async def entries(self, limit: int, before: str | None = None) -> tuple[list[AuditEntry], str | None]:
        """Return entries in the order of their recording, newest first, and the cursor of the next page.

        Raises UsageError for a cursor that no page has handed out, and for a limit below 1.
        """
        if limit < 1:
            raise UsageError("a page has at least one entry", hint="ask for 1 or more")
        position = LAST_AUDIT if before is None else _position(before)
        rows = await self._connections.look(lambda connection: connection.execute(audit_page(position, limit)).all())
        more = len(rows) > limit
        return [_entry(row) for row in rows[:limit]], str(rows[limit - 1].id) if more else None


def _position(cursor: str) -> int:
    """Read a cursor: the number of the last entry of a page."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < len(str(LAST_AUDIT))):
        raise UsageError("the cursor does not belong to this listing", hint="start over without it")
    return int(cursor)


def _entry(row: Row[Any]) -> AuditEntry:
    values = {name: getattr(row, name) for name in _FIELDS}
    return AuditEntry(**{**values, "sensitivity": Sensitivity(row.sensitivity)})
