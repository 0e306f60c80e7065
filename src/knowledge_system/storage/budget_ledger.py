"""The hard limit in SQL: shared by all processes on one database, every method one transaction.

Money is set aside by a row in `budget_reservations` and counts from then on. The row is the only record of spend: sums
are taken when they are needed. Writers take turns (`Connections`), so a decision rests on what is committed by then.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, case, func, insert, or_, select, update

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import BudgetExhausted
from knowledge_system.domain.money import AuditEntry, Reservation, Tier
from knowledge_system.storage.audit_log import append
from knowledge_system.storage.budget_standing import (
    FROZEN,
    LIMIT,
    OFFLINE,
    RECOMPUTED,
    BudgetRules,
    Standing,
    StandingReader,
)
from knowledge_system.storage.engine_queries import DUE
from knowledge_system.storage.engine_schema import budget_reservations, budget_settings, budget_tiers
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.schema import cost_tracking

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Connection, Insert, Update

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Usage
    from knowledge_system.domain.money import BudgetStatus, Hold, Settlement
    from knowledge_system.storage.connections import Connections

_MOST = 2**53
"""Nine million dollars in nano-dollars: no limit and no charge is higher, so that no sum leaves 64 bits."""

_SWITCHES = {"freeze": (FROZEN, 1), "unfreeze": (FROZEN, 0), "offline": (OFFLINE, 1), "online": (OFFLINE, 0)}

_R = budget_reservations.c
_UNSETTLED = _R.settled_sequence.is_(None)


def _settling() -> Update:
    """Return the statement that ends a reservation: numbered after all of its month that ended before."""
    others = budget_reservations.alias()
    last = select(func.coalesce(func.max(others.c.settled_sequence), 0) + 1).where(others.c.month == _R.month)
    return (
        update(budget_reservations)
        .where(_R.id == bindparam("key"), _UNSETTLED)
        .values(
            cost_nano=bindparam("cost"),
            measured=bindparam("exact"),
            tokens=bindparam("tokens_billed"),
            outcome=bindparam("how"),
            settled_at=bindparam("now"),
            settled_sequence=last.scalar_subquery(),
        )
    )


def _tracking() -> Insert:
    """Return the statement that writes a cost into the cost report, at the time of the reservation: months agree.

    What was charged when the hold expired is taken off again, so that the report's sum is the ledger's. What cost
    nothing is written only when `free`: a call that was made, not one that was given up before it was sent.
    """
    columns = cost_tracking.c
    cost = bindparam("cost", type_=columns.cost_nano.type)
    charged = case((_R.swept_at.is_not(None), _R.amount_nano), else_=0)
    tokens = bindparam("tokens_billed", type_=columns.tokens.type)
    row = select(_R.reserved_at, _R.provider, _R.operation, _R.project, tokens, cost - charged)
    worth = or_(cost > 0, bindparam("free", type_=columns.tokens.type) > 0, _R.swept_at.is_not(None))
    names = ["created_at", "provider", "operation", "project", "tokens", "cost_nano"]
    return insert(cost_tracking).from_select(names, row.where(_R.id == bindparam("key"), _UNSETTLED, worth))


_SETTLE = _settling()
_TRACK = _tracking()
"""Built once: building a statement takes longer than running it."""


class SqlBudgetLedger(SqlPort):
    """The port `BudgetLedger` on SQL.

    Limits: `""` the global one, `project:NAME`, `operation:NAME`. A limit set with `change` holds for all processes and
    takes the place of the configured one.
    """

    def __init__(self, connections: Connections, clock: Clock, rules: BudgetRules | None = None) -> None:
        super().__init__(connections, clock)
        self._reader = StandingReader(rules or BudgetRules())

    @uninterrupted
    async def reserve(self, hold: Hold) -> Reservation:
        """Set money aside. Raises BudgetExhausted when frozen or when any limit that applies would be passed."""
        if hold.amount_nano < 0:
            raise UsageError("a reservation cannot be negative", hint="check the price")
        return await self._connections.change(lambda connection: self._reserve(connection, hold))

    @uninterrupted
    async def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """Replace the hold, or the charge of an expired one, by the real cost; the second time changes nothing."""
        await self._connections.change(lambda connection: self._settle(connection, reservation.id, settlement))

    @uninterrupted
    async def renew(self, reservation: Reservation, lease: timedelta) -> None:
        """Move the end of a hold that is neither settled nor charged."""
        still = (_R.id == reservation.id, _UNSETTLED, _R.swept_at.is_(None))
        ends = update(budget_reservations).where(*still).values(expires_at=self._now() + lease)
        await self._connections.change(lambda connection: connection.execute(ends))

    @uninterrupted
    async def sweep(self) -> int:
        """Charge holds past their lease at their worst case; return how many."""
        moment = {"now": self._now()}
        if not await self._connections.look(lambda connection: connection.execute(DUE, moment).first()):
            return 0
        return await self._connections.change(self._sweep)

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

        Besides the port's actions `offline` and `online`. A limit other than the global one is removed by no amount.
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

        return await self._connections.change(apply)

    @uninterrupted
    async def crossed(self) -> Tier | None:
        """Return the tier if it is not the one told last; whoever asks first is told."""
        standing = await self._connections.look(lambda connection: self._reader.read(connection, self._month()))
        if standing.tier() is standing.recorded.tier is standing.recorded.told:
            return None
        return await self._connections.change(self._tell)

    def _now(self) -> datetime:
        return to_utc(self._clock.now())

    def _month(self) -> str:
        return _month_of(self._now())

    def _reserve(self, connection: Connection, hold: Hold) -> Reservation:
        now = self._now()
        standing = self._reader.read(connection, _month_of(now))
        if standing.frozen:
            raise BudgetExhausted("the budget is frozen", hint="`knowledge budget unfreeze`")
        self._check(connection, standing, hold)
        reservation = Reservation(uuid.uuid4().hex, hold.amount_nano, standing.month, now + hold.lease)
        connection.execute(insert(budget_reservations), _row(reservation, hold, now))
        _record_tier(connection, standing, standing.tier(hold.amount_nano), now)
        return reservation

    def _check(self, connection: Connection, standing: Standing, hold: Hold) -> None:
        """Raise BudgetExhausted when a limit would be passed."""
        _must_fit("", standing.sums.taken, hold.amount_nano, standing.limit)
        limits = standing.limits()
        for kind, name in (("project", hold.project), ("operation", hold.operation)):
            limit = limits.get(f"{kind}:{name}")
            if limit is not None:
                taken = self._reader.sums(connection, standing.month, kind, name).taken
                _must_fit(f"{kind}:{name}", taken, hold.amount_nano, limit)

    def _settle(self, connection: Connection, key: str, settlement: Settlement) -> None:
        values = {"key": key, "cost": _bounded(settlement.cost_nano), "tokens_billed": _tokens(settlement.usage)}
        connection.execute(_TRACK, values | {"free": int(settlement.usage is not None)})
        ended = {"how": settlement.outcome, "exact": int(settlement.measured), "now": self._now()}
        connection.execute(_SETTLE, values | ended)

    def _sweep(self, connection: Connection) -> int:
        now = self._now()
        dead = connection.scalars(DUE, {"now": now}).all()
        for key in dead:
            amount = connection.scalar(select(_R.amount_nano).where(_R.id == key)) or 0
            connection.execute(_TRACK, {"key": key, "cost": amount, "tokens_billed": 0, "free": 0})
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


def _row(reservation: Reservation, hold: Hold, now: datetime) -> dict[str, Any]:
    return {
        "id": reservation.id,
        "month": reservation.month,
        "provider": hold.provider,
        "model": hold.model,
        "operation": hold.operation,
        "project": hold.project,
        "amount_nano": hold.amount_nano,
        "cost_nano": hold.amount_nano,
        "measured": 0,
        "tokens": 0,
        "reserved_at": now,
        "expires_at": reservation.expires_at,
    }


def _setting(action: str, key: str, amount: int | None) -> tuple[str, int | None]:
    """Return name and value of the setting that an action writes. Raises UsageError."""
    if action in _SWITCHES:
        return _SWITCHES[action]
    if action == "recompute":
        return RECOMPUTED, 1
    if action != "set-limit":
        raise UsageError(f"unknown budget action {action}", hint="set-limit, freeze, unfreeze, recompute")
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
) -> None:
    """Append the tier in force when it is another one; a new month that begins normal needs no row."""
    recorded = standing.recorded
    new = replace(recorded, month=standing.month, tier=tier, told=told or recorded.told)
    if (new.tier, new.told) == (recorded.tier, recorded.told) and (new.month == recorded.month or tier is Tier.NORMAL):
        return
    values = {"month": new.month, "tier": new.tier.value, "told": new.told.value, "created_at": now}
    connection.execute(insert(budget_tiers), values)


def _bounded(cost: int) -> int:
    return min(max(cost, 0), _MOST)


def _tokens(usage: Usage | None) -> int:
    """Return the tokens billed; reasoning is part of the output."""
    if usage is None:
        return 0
    return _bounded(usage.input + usage.output + usage.cache_read + usage.cache_write + usage.cache_write_hour)
