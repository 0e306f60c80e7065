"""Circuit breakers in SQL: one row per provider for all processes, kept over restarts.

Only failures, changes of phase and trials are written. A breaker that was read closed and without failures is believed
for `BELIEVED` seconds: what another process finds out takes effect here that much later, what this one does at once.
Every change of phase begins a new generation, and reports on permits of an earlier one change nothing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, update

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.inference import BreakerOpen
from knowledge_system.domain.money import AuditEntry, BreakerPhase, BreakerStatus, Permit
from knowledge_system.storage.audit_log import append
from knowledge_system.storage.engine_queries import BREAKER, breakers
from knowledge_system.storage.engine_schema import breaker_permits, breaker_state
from knowledge_system.storage.port import SqlPort, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.money import BreakerRule
    from knowledge_system.storage.connections import Connections

TRIAL_LEASE = timedelta(minutes=2)
"""After this a trial whose owner said nothing counts as returned: longer than any provider's usual timeout."""

BELIEVED = 0.1
"""Seconds for which a sound breaker is not read again: a tenth of what an operator would notice (T23 allows one)."""

_LONGEST_WAIT = 86_400.0
"""Seconds up to which a Retry-After is believed: daily quotas end within a day, more is a mistake."""


class SqlBreakers(SqlPort):
    """The port `Breakers` on SQL."""

    def __init__(self, connections: Connections, clock: Clock, trial_lease: timedelta = TRIAL_LEASE) -> None:
        super().__init__(connections, clock)
        self._lease = trial_lease
        self._sound: dict[str, tuple[float, int]] = {}
        self._changes = 0
        self._reading: dict[tuple[str, int], asyncio.Task[Row[Any] | None]] = {}

    async def admit(self, provider: str, rule: BreakerRule) -> Permit:
        """Give leave for one attempt. Raises BreakerOpen while open, or when all trials of a half-open one are out."""
        generation = self._believed(provider)
        if generation is not None:
            return Permit(provider, uuid.uuid4().hex, trial=False, generation=generation)
        return await self._asked(provider, rule)

    @uninterrupted
    async def _asked(self, provider: str, rule: BreakerRule) -> Permit:
        row = await self._read(provider)
        if row is not None:
            if row.phase == BreakerPhase.CLOSED:
                return _permit(row, trial=False)
            _must_be_due(row, rule, self._now())
        return await self._connections.decide(lambda connection: self._admit(connection, provider, rule))

    async def succeeded(self, permit: Permit, rule: BreakerRule) -> None:
        """Forget the failures; a trial's success closes the breaker."""
        del rule
        if permit.trial or self._believed(permit.provider) != permit.generation:
            await self._forget_failures(permit)

    @uninterrupted
    async def _forget_failures(self, permit: Permit) -> None:
        now = self._now()
        row = await self._read(permit.provider)
        if row is None or row.generation != permit.generation or not (permit.trial or row.failures):
            return

        def apply(connection: Connection) -> None:
            row = _row(connection, permit.provider, now)
            if row is not None and row.generation == permit.generation:
                self._set(connection, row, BreakerPhase.CLOSED if permit.trial else None, failures=0)

        await self._connections.decide(apply)

    @uninterrupted
    async def failed(self, permit: Permit, rule: BreakerRule, reason: str, retry_after: float | None = None) -> None:
        """Count; open at the threshold or after a trial. An open breaker's end moves only later."""
        wait = timedelta(seconds=min(max(retry_after or 0.0, 0.0), _LONGEST_WAIT))

        def apply(connection: Connection) -> None:
            now = self._now()
            row = _row(connection, permit.provider, now)
            if row is None:
                return
            if row.generation != permit.generation:
                self._extend(connection, row, now + wait)
                return
            failures = row.failures + 1
            values = {"failures": failures, "last_failure": now, "detail": reason}
            if permit.trial or failures >= rule.failure_threshold:
                values["next_attempt"] = now + max(timedelta(milliseconds=rule.reset_timeout), wait)
                self._set(connection, row, BreakerPhase.OPEN, **values)
            else:
                self._set(connection, row, **values)

        await self._changed(permit.provider, apply)

    @uninterrupted
    async def returned(self, permit: Permit) -> None:
        """Free the place of a trial; any other permit takes none."""
        if not permit.trial:
            return
        columns = breaker_permits.c
        gone = delete(breaker_permits).where(columns.provider == permit.provider, columns.id == permit.id)
        await self._connections.decide(lambda connection: connection.execute(gone))

    @uninterrupted
    async def status(self) -> list[BreakerStatus]:
        """Return every breaker, by provider."""
        rows = await self._connections.look(lambda connection: connection.execute(breakers()).all())
        return [
            BreakerStatus(
                row.provider, BreakerPhase(row.phase), row.failures, row.last_failure, row.next_attempt, row.detail
            )
            for row in rows
        ]

    @uninterrupted
    async def reset(self, provider: str, actor: str) -> None:
        """Close it by hand, with an audit entry in the same transaction."""

        def apply(connection: Connection) -> None:
            now = self._now()
            row = self._known(connection, provider, now)
            self._set(connection, row, BreakerPhase.CLOSED, failures=0, detail="")
            append(
                connection, AuditEntry(at=now, kind="breaker-reset", provider=provider, outcome="closed", actor=actor)
            )

        await self._changed(provider, apply)

    def _now(self) -> datetime:
        return to_utc(self._clock.now())

    async def _read(self, provider: str) -> Row[Any] | None:
        """Return the row of a provider; who asks while it is being read gets what is read."""
        key = (provider, self._changes)
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.ensure_future(self._look(*key))
            reading.add_done_callback(lambda _: self._reading.pop(key))
        return await asyncio.shield(reading)

    async def _look(self, provider: str, changes: int) -> Row[Any] | None:
        """Read a row; one that is sound is believed for a moment, unless this process changed it meanwhile."""
        now = self._now()
        row = await self._connections.look(lambda connection: _row(connection, provider, now))
        if row is not None and row.phase == BreakerPhase.CLOSED and not row.failures and changes == self._changes:
            self._sound[provider] = time.monotonic(), row.generation
        return row

    def _believed(self, provider: str) -> int | None:
        """Return the generation of a breaker that was sound a moment ago."""
        read, generation = self._sound.get(provider, (-BELIEVED, 0))
        return generation if time.monotonic() - read < BELIEVED else None

    async def _changed(self, provider: str, work: Callable[[Connection], None]) -> None:
        """Change a breaker; whatever was read of it before the change is done is not believed after."""
        try:
            await self._connections.decide(work)
        finally:
            self._changes += 1
            self._sound.pop(provider, None)

    def _admit(self, connection: Connection, provider: str, rule: BreakerRule) -> Permit:
        """Decide on what stands now that it is our turn to write."""
        now = self._now()
        row = self._known(connection, provider, now)
        if row.phase == BreakerPhase.CLOSED:
            return _permit(row, trial=False)
        _must_be_due(row, rule, now)
        if row.phase == BreakerPhase.OPEN:
            self._set(connection, row, BreakerPhase.HALF_OPEN)
            row = self._known(connection, provider, now)
            _must_be_due(row, rule, now)
        permit = _permit(row, trial=True)
        columns = breaker_permits.c
        connection.execute(delete(breaker_permits).where(columns.provider == provider, columns.expires_at <= now))
        values = {"provider": provider, "id": permit.id, "expires_at": now + self._lease}
        connection.execute(insert(breaker_permits), values)
        return permit

    def _known(self, connection: Connection, provider: str, now: datetime) -> Row[Any]:
        """Return the row of a provider, made when this is its first call."""
        row = _row(connection, provider, now)
        if row is None:
            values = {"phase": BreakerPhase.CLOSED.value, "failures": 0, "generation": 0, "detail": ""}
            connection.execute(insert(breaker_state), {"provider": provider, "updated_at": now, **values})
            row = connection.execute(BREAKER, {"provider": provider, "now": now}).one()
        return row

    def _extend(self, connection: Connection, row: Row[Any], until: datetime) -> None:
        """Keep an open breaker open for longer."""
        if row.phase == BreakerPhase.OPEN and (row.next_attempt is None or until > row.next_attempt):
            self._set(connection, row, next_attempt=until)

    def _set(self, connection: Connection, row: Row[Any], phase: BreakerPhase | None = None, **values: Any) -> None:
        """Write a row; a phase begins a new generation without trials."""
        if phase is not None:
            values = {"next_attempt": None, **values, "phase": phase.value, "generation": row.generation + 1}
            connection.execute(delete(breaker_permits).where(breaker_permits.c.provider == row.provider))
        change = update(breaker_state).where(breaker_state.c.provider == row.provider)
        connection.execute(change.values(updated_at=self._now(), **values))


def _row(connection: Connection, provider: str, now: datetime) -> Row[Any] | None:
    return connection.execute(BREAKER, {"provider": provider, "now": now}).first()


def _permit(row: Row[Any], *, trial: bool) -> Permit:
    return Permit(row.provider, uuid.uuid4().hex, trial, row.generation)


def _must_be_due(row: Row[Any], rule: BreakerRule, now: datetime) -> None:
    """Raise BreakerOpen while nothing may be tried, or while all trials are out."""
    if row.phase == BreakerPhase.OPEN and row.next_attempt is not None and now < row.next_attempt:
        raise BreakerOpen(row.provider, row.next_attempt)
    if row.phase == BreakerPhase.HALF_OPEN and row.trials >= rule.half_open_requests:
        raise BreakerOpen(row.provider, row.first_ends)
