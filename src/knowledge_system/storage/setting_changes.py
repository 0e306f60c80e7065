"""Settings changed at run time, in SQL: the row in force of a key has not been replaced, the others are its history."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.errors import NotFound, UsageError
from knowledge_system.domain.overrides import SettingChange
from knowledge_system.storage.engine_schema import setting_changes
from knowledge_system.storage.port import SqlPort, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import Connection, Row, Select

_C = setting_changes.c
_LAST = 2**63 - 1


class SqlSettingChanges(SqlPort):
    """The port `SettingChanges` on SQL."""

    @uninterrupted
    async def in_force(self) -> list[SettingChange]:
        """Return the overrides in force, by key."""
        statement = select(setting_changes).where(_C.replaced_at.is_(None), _C.new.is_not(None)).order_by(_C.key)
        return await self._rows(statement)

    @uninterrupted
    async def record(
        self, values: Mapping[str, str | None], actor: str, undoes: str | None = None
    ) -> list[SettingChange]:
        """Put `values` in force as one change; return its rows."""
        identity, now = uuid.uuid4().hex[:12], to_utc(self._clock.now())

        def work(connection: Connection) -> None:
            for key, value in values.items():
                current = _C.key == key, _C.replaced_at.is_(None)
                old = connection.scalar(select(_C.new).where(*current))
                connection.execute(update(setting_changes).where(*current).values(replaced_at=now))
                row = {"change_id": identity, "at": now, "actor": actor, "key": key, "old": old, "new": value}
                connection.execute(insert(setting_changes), {**row, "undoes": undoes})

        await self._connections.change(work)
        return await self._rows(_of_change(identity))

    @uninterrupted
    async def change(self, identity: str) -> list[SettingChange]:
        """Return the rows of a change. Raises NotFound."""
        rows = await self._rows(_of_change(identity))
        if not rows:
            raise NotFound(f"no change is called {identity[:40]!r}", hint="ids come from `knowledge config history`")
        return rows

    @uninterrupted
    async def history(self, limit: int, before: str | None = None) -> tuple[list[SettingChange], str | None]:
        """Return rows newest first, and the cursor of the next page. Raises UsageError for a foreign cursor."""
        if before is not None and not (before.isascii() and before.isdigit() and len(before) < len(str(_LAST))):
            raise UsageError("the cursor does not belong to this listing", hint="start over without it")
        position = _LAST if before is None else int(before)
        statement = select(setting_changes).where(_C.id < position).order_by(_C.id.desc()).limit(limit + 1)
        rows = await self._rows(statement)
        return rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None

    async def _rows(self, statement: Select[Any]) -> list[SettingChange]:
        return [_change(row) for row in await self._connections.look(lambda one: one.execute(statement).all())]


def _of_change(identity: str) -> Select[Any]:
    return select(setting_changes).where(_C.change_id == identity).order_by(_C.id)


def _change(row: Row[Any]) -> SettingChange:
    return SettingChange(
        id=row.id,
        change=row.change_id,
        at=row.at,
        actor=row.actor,
        key=row.key,
        old=row.old,
        new=row.new,
        undoes=row.undoes,
        in_force=row.replaced_at is None,
    )
