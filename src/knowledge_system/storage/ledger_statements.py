"""What a paid call writes: its hold and its entry in the audit log, then its cost. Compiled once, run as scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from knowledge_system.domain.money import SENT
from knowledge_system.storage.engine_queries import STANDING
from knowledge_system.storage.engine_schema import audit_log, budget_reservations, budget_settings, budget_tiers
from knowledge_system.storage.schema import cost_tracking
from knowledge_system.storage.scripts import Prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Insert, Table, Update

SCOPES = ("project", "operation")
"""What may have a limit of its own beside the global one."""

_R = budget_reservations.c
_ZERO: ColumnElement[int] = literal_column("0")
UNSETTLED = _R.settled_sequence.is_(None)
_HELD = ("id", "month", "provider", "model", "operation", "project", "amount_nano", "reserved_at", "expires_at")
_ENTERED = ("at", "kind", "operation", "provider", "model", "content_hash", "sensitivity", "layer", "project", "actor")


def _given(table: Table, name: str) -> ColumnElement[Any]:
    """Return a parameter named after a column, of its type."""
    return bindparam(name, type_=table.c[name].type)


def _number(name: str) -> ColumnElement[int]:
    return bindparam(name, type_=BigInteger())


def _newest(table: Table) -> ColumnElement[Any]:
    return select(func.coalesce(func.max(table.c.id), _ZERO)).scalar_subquery()


def _taken(scope: str = "") -> ColumnElement[Any]:
    """Return what a month has spent and set aside, of a `project` or `operation` or in all.

    It is what is known of it (`known`, up to row number `after`) with what came after that and what is not settled.
    """
    prefix = f"{scope}_" if scope else ""
    mine = [_R.month == _given(budget_reservations, "month")]
    mine += [_R[scope] == _given(budget_reservations, scope)] if scope else []
    rows = select(func.coalesce(func.sum(_R.cost_nano), _ZERO)).where(*mine)
    new = rows.where(_R.settled_sequence > _number(f"{prefix}after")).scalar_subquery()
    return _number(f"{prefix}known") + new + rows.where(UNSETTLED).scalar_subquery()


def _holding(scopes: Sequence[str]) -> Insert:
    """Return the statement that sets money aside if nothing has changed that a second thought is due for.

    Due it is when a setting was changed or a tier entered since the caller's last look, when the hold would leave the
    amounts between which limit and tier stay as they are, and when it would pass the limit of one of its `scopes`.
    """
    amount = _given(budget_reservations, "amount_nano")
    unchanged = and_(
        _newest(budget_settings) == _number("settings"),
        _newest(budget_tiers) == _number("tier"),
        (_taken() + amount).between(_number("low"), _number("high")),
        *(_taken(scope) + amount <= _number(f"{scope}_limit") for scope in scopes),
    )
    values = select(*(_given(budget_reservations, name) for name in _HELD), amount, _ZERO, _ZERO).where(unchanged)
    statement = insert(budget_reservations).from_select([*_HELD, "cost_nano", "measured", "tokens"], values)
    return statement.returning(_R.id)


def _entering() -> Insert:
    """Return the statement that enters a call into the audit log if its money is set aside; it returns the number."""
    row = [_given(audit_log, name) for name in _ENTERED]
    stands = exists().where(_R.id == bindparam("key", type_=_R.id.type))
    values = select(*row, _given(audit_log, "cost_nano"), _given(audit_log, "outcome")).where(stands)
    statement = insert(audit_log).from_select([*_ENTERED, "cost_nano", "outcome"], values)
    return statement.returning(audit_log.c.id)


def _completing() -> Update:
    """Return the statement that completes an entry with how its call ended: once."""
    columns = audit_log.c
    mine = columns.id == _number("entry"), columns.outcome == SENT
    return update(audit_log).where(*mine).values(cost_nano=_number("cost"), outcome=bindparam("how"))


def _settling() -> Update:
    """Return the statement that ends a reservation: numbered after all of its month that ended before."""
    others = budget_reservations.alias()
    highest = func.coalesce(func.max(others.c.settled_sequence), _ZERO)
    last = select(highest + literal_column("1")).where(others.c.month == _R.month)
    return (
        update(budget_reservations)
        .where(_R.id == bindparam("key"), UNSETTLED)
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
    charged = case((_R.swept_at.is_not(None), _R.amount_nano), else_=_ZERO)
    tokens = bindparam("tokens_billed", type_=columns.tokens.type)
    row = select(_R.reserved_at, _R.provider, _R.operation, _R.project, tokens, cost - charged)
    worth = or_(cost > _ZERO, bindparam("free", type_=columns.tokens.type) > _ZERO, _R.swept_at.is_not(None))
    names = ["created_at", "provider", "operation", "project", "tokens", "cost_nano"]
    return insert(cost_tracking).from_select(names, row.where(_R.id == bindparam("key"), UNSETTLED, worth))


TRACK = _tracking()
"""Built once: building a statement takes longer than running it."""

_COMBINATIONS: tuple[tuple[str, ...], ...] = ((), SCOPES[:1], SCOPES[1:], SCOPES)
HOLD = {scopes: Prepared(_holding(scopes)) for scopes in _COMBINATIONS}
ENTER, COMPLETE = Prepared(_entering()), Prepared(_completing())
TRACKED, SETTLED, STANDS = Prepared(TRACK), Prepared(_settling()), Prepared(STANDING)
