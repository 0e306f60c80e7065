"""The hard limit in SQL: shared by all processes on one database, every method one transaction.

Money is set aside by a row in `budget_reservations` and counts from then on. The row is the only record of spend: sums
are taken when they are needed. Writers take turns (`Connections`), so a decision rests on what is committed by then.

Nearly every call is a script: one statement sets the money aside if all is as this process saw it last, and nothing has
to be decided. Whatever is new (a setting, a tier, the end of the budget) makes that statement do nothing; the same
question is then decided with a look of its own, in turn.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import BudgetExhausted
from knowledge_system.domain.money import SENT, AuditEntry, Reservation, Tier
from knowledge_system.storage.audit_log import append, fields_of
from knowledge_system.storage.budget_standing import (
    FROZEN,
    LIMIT,
    OFFLINE,
    RECOMPUTED,
    BudgetRules,
    Leave,
    Standing,
    StandingReader,
)
from knowledge_system.storage.engine_queries import DUE
from knowledge_system.storage.engine_schema import audit_log, budget_reservations, budget_settings, budget_tiers
from knowledge_system.storage.ledger_statements import (
    COMPLETE,
    ENTER,
    HOLD,
    SCOPES,
    SETTLED,
    STANDS,
    TRACK,
    TRACKED,
    UNSETTLED,
)
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.scripts import Script

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Usage
    from knowledge_system.domain.money import BudgetStatus, Hold, Settlement
    from knowledge_system.storage.connections import Connections

_MOST = 2**53
"""Nine million dollars in nano-dollars: no limit and no charge is higher, so that no sum leaves 64 bits."""

_SWITCHES = {"freeze": (FROZEN, 1), "unfreeze": (FROZEN, 0), "offline": (OFFLINE, 1), "online": (OFFLINE, 0)}

_R = budget_reservations.c

_OFTEN = 64
"""Holds in a row that rest on one look at the standing: what others have settled since is summed for each."""


class SqlBudgetLedger(SqlPort):
    """The port `BudgetLedger` on SQL.

    Limits: `""` the global one, `project:NAME`, `operation:NAME`. A limit set with `change` holds for all processes and
    takes the place of the configured one.
    """

    def __init__(self, connections: Connections, clock: Clock, rules: BudgetRules | None = None) -> None:
        super().__init__(connections, clock)
        self._reader = StandingReader(rules or BudgetRules())
        self._leave: Leave | None = None
        self._rested = 0

    async def reserve(self, hold: Hold) -> Reservation:
        """Set money aside. Raises BudgetExhausted when frozen or when any limit that applies would be passed."""
        if hold.amount_nano < 0:
            raise UsageError("a reservation cannot be negative", hint="check the price")
        now = self._now()
        held = await self._held(hold, now)
        if held is not None:
            return held
        return await self._connections.decide(lambda connection: self._reserve(connection, hold))

    async def settle(self, reservation: Reservation, settlement: Settlement) -> bool:
        """Replace the hold, or the charge of an expired one, by the real cost; the second time changes nothing.

        Return whether there may be a tier to tell.
        """
        cost, tokens = _bounded(settlement.cost_nano), _tokens(settlement.usage)
        values = {"key": reservation.id, "cost": cost, "tokens_billed": tokens, "how": settlement.outcome}
        ended = {"exact": int(settlement.measured), "now": self._now()}
        turn = [(TRACKED, values | {"free": int(settlement.usage is not None)}), (SETTLED, values | ended)]
        if reservation.entry:
            turn.append((COMPLETE, values | {"entry": reservation.entry}))
        month = self._month()
        basis = self._reader.basis(month)
        look = (STANDS, {"month": month, "after": basis.sums.after})
        # Losable: what is lost with the server's power leaves the hold, which is charged at its worst case.
        rows = await self._connections.script(Script(turn, afterwards=look, losable=True))
        standing = self._reader.judged(month, basis, rows[-1])
        self._saw(standing)
        return standing is None or not standing.calm

    @uninterrupted
    async def renew(self, reservation: Reservation, lease: timedelta) -> None:
        """Move the end of a hold that is neither settled nor charged."""
        still = (_R.id == reservation.id, UNSETTLED, _R.swept_at.is_(None))
        ends = update(budget_reservations).where(*still).values(expires_at=self._now() + lease)
        await self._connections.decide(lambda connection: connection.execute(ends))

    @uninterrupted
    async def sweep(self) -> int:
        """Charge holds past their lease at their worst case; return how many."""
        moment = {"now": self._now()}
        if not await self._connections.look(lambda connection: connection.execute(DUE, moment).first()):
            return 0
        return await self._connections.decide(self._sweep)

    @uninterrupted
    async def status(self, month: str | None = None) -> BudgetStatus:
        """Return a month's sums; tier, limits and switches are those of now."""

        def read(connection: Connection) -> BudgetStatus:
            standing = self._reader.read(connection, self._month())
            wanted = month or standing.month
            sums = standing.sums if wanted == standing.month else self._reader.sums(connection, wanted)
            return standing.status(sums, wanted, standing.tier())

        return await self._connections.look(read)

    @uninterrupted
    async def change(self, action: str, key: str = "", amount_nano: int | None = None, actor: str = "") -> BudgetStatus:
        """Apply an action in one transaction with its audit entry; return the effective state.

        A limit other than the global one is removed by no amount.
        Raises UsageError for an unknown action or limit.
        """
        name, amount = _setting(action, key, amount_nano)
        outcome = f"{key or 'monthly'}={amount_nano}" if action == "set-limit" else "done"

        def apply(connection: Connection) -> BudgetStatus:
            now = self._now()
            _replace_setting(connection, name, amount, actor, now)
            standing = self._reader.read(connection, self._month())
            tier = standing.tier(fresh=True)
            _record_tier(connection, standing, tier, now)
            append(connection, AuditEntry(at=now, kind=f"budget-{action}", outcome=outcome, actor=actor))
            return standing.status(standing.sums, standing.month, tier)

        status = await self._connections.decide(apply)
        self._saw(None)
        return status

    @uninterrupted
    async def crossed(self) -> Tier | None:
        """Return the tier if it is not the one told last; whoever asks first is told."""
        standing = await self._connections.look(lambda connection: self._reader.read(connection, self._month()))
        if standing.calm:
            return None
        return await self._connections.decide(self._tell)

    def _now(self) -> datetime:
        return to_utc(self._clock.now())

    def _month(self) -> str:
        return _month_of(self._now())

    def _saw(self, standing: Standing | None) -> None:
        """Remember what the next hold may rest on."""
        self._leave = standing.leave() if standing is not None else None
        self._rested = 0

    async def _held(self, hold: Hold, now: datetime) -> Reservation | None:
        """Set money aside if nothing has to be decided; None: nothing was done."""
        leave, month = self._leave, _month_of(now)
        if leave is None or leave.month != month or hold.amount_nano > leave.high or self._rested >= _OFTEN:
            return None
        self._rested += 1
        key, ends = uuid.uuid4().hex, now + hold.lease
        values = _row(key, hold, now, ends) | {"settings": leave.settings, "tier": leave.tier}
        values |= {"low": leave.low, "high": leave.high, "known": leave.sums.settled, "after": leave.sums.after}
        names = {"project": hold.project, "operation": hold.operation}
        scopes = tuple(scope for scope in SCOPES if f"{scope}:{names[scope]}" in leave.limits)
        for scope in scopes:
            known = self._reader.basis(month, scope, names[scope]).sums
            values |= {f"{scope}_known": known.settled, f"{scope}_after": known.after}
            values[f"{scope}_limit"] = leave.limits[f"{scope}:{names[scope]}"]
        proof = [(ENTER, _entry(hold.entry, hold) | {"key": key})] if hold.entry else []
        rows = await self._connections.script(Script([(HOLD[scopes], values)], proof))
        if not rows[0]:
            return None
        return Reservation(key, hold.amount_nano, month, ends, rows[1][0][0] if proof else 0)

    def _reserve(self, connection: Connection, hold: Hold) -> Reservation:
        now = self._now()
        standing = self._reader.read(connection, _month_of(now))
        self._saw(None)
        if standing.frozen:
            raise BudgetExhausted("the budget is frozen", hint="`knowledge budget unfreeze`")
        self._check(connection, standing, hold)
        key, ends = uuid.uuid4().hex, now + hold.lease
        connection.execute(insert(budget_reservations), _row(key, hold, now, ends))
        tier = standing.tier(hold.amount_nano)
        if not _record_tier(connection, standing, tier, now):
            self._saw(standing)
        entry = 0
        if hold.entry is not None:
            entered = connection.execute(insert(audit_log).returning(audit_log.c.id), _entry(hold.entry, hold))
            entry = entered.scalar_one()
        return Reservation(key, hold.amount_nano, standing.month, ends, entry)

    def _check(self, connection: Connection, standing: Standing, hold: Hold) -> None:
        """Raise BudgetExhausted when a limit would be passed."""
        _must_fit("", standing.sums.taken, hold.amount_nano, standing.limit)
        limits = standing.limits()
        for kind, name in (("project", hold.project), ("operation", hold.operation)):
            limit = limits.get(f"{kind}:{name}")
            if limit is not None:
                taken = self._reader.sums(connection, standing.month, kind, name).taken
                _must_fit(f"{kind}:{name}", taken, hold.amount_nano, limit)

    def _sweep(self, connection: Connection) -> int:
        now = self._now()
        dead = connection.scalars(DUE, {"now": now}).all()
        for key in dead:
            amount = connection.scalar(select(_R.amount_nano).where(_R.id == key)) or 0
            connection.execute(TRACK, {"key": key, "cost": amount, "tokens_billed": 0, "free": 0})
            connection.execute(update(budget_reservations).where(_R.id == key).values(swept_at=now, outcome="expired"))
        return len(dead)

    def _tell(self, connection: Connection) -> Tier | None:
        now = self._now()
        standing = self._reader.read(connection, _month_of(now))
        tier = standing.tier()
        _record_tier(connection, standing, tier, now, told=tier)
        return None if tier is standing.recorded.told else tier


def _month_of(now: datetime) -> str:
    return f"{now.year:04}-{now.month:02}"


def _must_fit(key: str, taken: int, amount: int, limit: int) -> None:
    if taken + amount > limit:
        raise BudgetExhausted(
            f"the {key or 'monthly'} budget does not hold {amount} nano-dollars more",
            hint="wait for the month to end, raise the limit, or use a local model",
        )


def _row(key: str, hold: Hold, now: datetime, ends: datetime) -> dict[str, Any]:
    return {
        "id": key,
        "month": _month_of(now),
        "provider": hold.provider,
        "model": hold.model,
        "operation": hold.operation,
        "project": hold.project,
        "amount_nano": hold.amount_nano,
        "cost_nano": hold.amount_nano,
        "measured": 0,
        "tokens": 0,
        "reserved_at": now,
        "expires_at": ends,
    }


def _entry(entry: AuditEntry, hold: Hold) -> dict[str, Any]:
    """Return the row of a call that may leave from now on."""
    return {**fields_of(entry), "cost_nano": hold.amount_nano, "outcome": SENT}


def _setting(action: str, key: str, amount: int | None) -> tuple[str, int | None]:
    """Return name and value of the setting that an action writes. Raises UsageError."""
    if action in _SWITCHES:
        return _SWITCHES[action]
    if action == "recompute":
        return RECOMPUTED, 1
    if action != "set-limit":
        raise UsageError(
            f"unknown budget action {action}", hint="set-limit, freeze, unfreeze, offline, online, recompute"
        )
    if (amount is None and not key) or (amount is not None and not 0 <= amount <= _MOST):
        raise UsageError("a limit is an amount from 0 to 9 million dollars", hint="freeze the budget to stop spending")
    if key and key.partition(":")[0] not in {"project", "operation"}:
        raise UsageError(f"unknown limit {key}", hint="project:NAME or operation:NAME")
    return LIMIT + key, amount


def _replace_setting(connection: Connection, name: str, amount: int | None, actor: str, now: datetime) -> None:
    """Put a row in force; the one before stays as history."""
    columns = budget_settings.c
    current = update(budget_settings).where(columns.name == name, columns.replaced_at.is_(None))
    connection.execute(current.values(replaced_at=now))
    connection.execute(insert(budget_settings), {"name": name, "amount": amount, "actor": actor, "created_at": now})


def _record_tier(
    connection: Connection, standing: Standing, tier: Tier, now: datetime, told: Tier | None = None
) -> bool:
    """Append the tier in force when it is another one; a new month that begins normal needs no row."""
    recorded = standing.recorded
    new = replace(recorded, month=standing.month, tier=tier, told=told or recorded.told)
    if (new.tier, new.told) == (recorded.tier, recorded.told) and (new.month == recorded.month or tier is Tier.NORMAL):
        return False
    values = {"month": new.month, "tier": new.tier.value, "told": new.told.value, "created_at": now}
    connection.execute(insert(budget_tiers), values)
    return True


def _bounded(cost: int) -> int:
    return min(max(cost, 0), _MOST)


def _tokens(usage: Usage | None) -> int:
    """Return the tokens billed; reasoning is part of the output."""
    if usage is None:
        return 0
    return _bounded(usage.input + usage.output + usage.cache_read + usage.cache_write + usage.cache_write_hour)
