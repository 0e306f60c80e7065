"""The statements that run around every model call, in one place: a test asks the engine for the plan of each.

Spend is always a sum over reservations. Rows that are settled never change and are numbered in the order of their
settlement, so a sum up to a number stays true and only what came after it has to be added.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, case, func, literal_column, select, union_all

from knowledge_system.storage.columns import StoredText
from knowledge_system.storage.engine_schema import (
    audit_log,
    breaker_permits,
    breaker_state,
    budget_reservations,
    budget_settings,
    budget_tiers,
    cache_generation,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, CompoundSelect, Select
    from sqlalchemy.sql import Executable

LAST_AUDIT = 2**63 - 1
"""No entry has a number this high."""

_R = budget_reservations.c
_EMPTY = literal_column("''", StoredText())
_ZERO: ColumnElement[int] = literal_column("0")


def _name(value: str) -> ColumnElement[Any]:
    return literal_column(f"'{value}'", StoredText())


def _sum(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(column), _ZERO)


def _within(scope: str) -> list[ColumnElement[bool]]:
    """Return the condition of a scope: none, `project` or `operation`."""
    return [] if not scope else [_R[scope] == bindparam("name", type_=_R[scope].type)]


def settled_sums(scope: str = "") -> Select[Any]:
    """Sums of a month's settled rows after a number: kind, three texts, cost, unmeasured, highest number."""
    columns = (_name("settled"), _EMPTY, _EMPTY, _EMPTY)
    numbers = (
        _sum(_R.cost_nano),
        _sum(case((_R.measured == _ZERO, _R.cost_nano), else_=_ZERO)),
        func.coalesce(func.max(_R.settled_sequence), _ZERO),
    )
    where = (_R.month == bindparam("month", type_=_R.month.type), _R.settled_sequence > bindparam("after"))
    return select(*columns, *numbers).where(*where, *_within(scope))


def open_sums(scope: str = "") -> Select[Any]:
    """Sums of a month's rows that are not settled: kind, three texts, held, charged at worst case, 0."""
    numbers = (
        _sum(case((_R.swept_at.is_(None), _R.cost_nano), else_=_ZERO)),
        _sum(case((_R.swept_at.is_not(None), _R.cost_nano), else_=_ZERO)),
        _ZERO,
    )
    where = (_R.month == bindparam("month", type_=_R.month.type), _R.settled_sequence.is_(None))
    return select(_name("open"), _EMPTY, _EMPTY, _EMPTY, *numbers).where(*where, *_within(scope))


def _settings_arm() -> Select[Any]:
    """Return the settings in force: kind, name, two texts, amount, 1 when there is one, the row's number."""
    columns = budget_settings.c
    given = case((columns.amount.is_(None), _ZERO), else_=literal_column("1"))
    numbers = (func.coalesce(columns.amount, _ZERO), given, columns.id)
    # the comparison with the empty name lets the index be searched instead of scanned
    where = columns.replaced_at.is_(None), columns.name >= _EMPTY
    return select(_name("setting"), columns.name, _EMPTY, _EMPTY, *numbers).where(*where)


def _tier_arm() -> Select[Any]:
    """Return the tier in force: kind, month, tier, tier told last, two zeros, the row's number."""
    columns = budget_tiers.c
    last = select(func.max(columns.id)).scalar_subquery()
    names = (_name("tier"), columns.month, columns.tier, columns.told)
    return select(*names, _ZERO, _ZERO, columns.id).where(columns.id == last)


def standing() -> CompoundSelect[Any]:
    """All that a decision about money needs, in one statement: settings, sums of the month, tier."""
    return union_all(_settings_arm(), settled_sums(), open_sums(), _tier_arm())


def scope_sums(scope: str) -> CompoundSelect[Any]:
    """As the middle of `standing`, of all, of one project, or of one operation."""
    return union_all(settled_sums(scope), open_sums(scope))


STANDING = standing()
SCOPE_SUMS = {scope: scope_sums(scope) for scope in ("", "project", "operation")}
"""Built once: building a statement takes longer than running it."""


def due() -> Select[Any]:
    """Reservations past their lease, neither settled nor charged."""
    moment = bindparam("now", type_=_R.expires_at.type)
    return select(_R.id).where(_R.settled_sequence.is_(None), _R.swept_at.is_(None), _R.expires_at <= moment)


DUE = due()
"""As `STANDING`."""


def breaker() -> Select[Any]:
    """The state of one provider's breaker, with how many trials are out and when the first of them ends."""
    permits = breaker_permits.c
    mine = permits.provider == breaker_state.c.provider, permits.expires_at > bindparam("now", type_=_R.expires_at.type)
    out = select(func.count()).select_from(breaker_permits).where(*mine).scalar_subquery()
    ends = select(func.min(permits.expires_at)).where(*mine).scalar_subquery()
    provider = bindparam("provider", type_=permits.provider.type)
    return select(breaker_state, out.label("trials"), ends.label("first_ends")).where(
        breaker_state.c.provider == provider
    )


BREAKER = breaker()
"""As `STANDING`."""


def breakers() -> Select[Any]:
    """Every breaker, by provider."""
    return select(breaker_state).order_by(breaker_state.c.provider)


def audit_page(position: int, limit: int) -> Select[Any]:
    """Entries before `position`, newest first, one more than a page has."""
    return select(audit_log).where(audit_log.c.id < position).order_by(audit_log.c.id.desc()).limit(limit + 1)


CACHE_GENERATION = select(cache_generation.c.number).where(cache_generation.c.id == 1)
"""The number that is part of every key of the caches; each process asks for it at most once a second."""

_MOMENT = datetime(2026, 5, 1, tzinfo=UTC)


def _with(statement: Select[Any] | CompoundSelect[Any], **values: Any) -> Executable:
    return statement.params(**values)


ENGINE_HOT_QUERIES: dict[str, Callable[[], Executable]] = {
    "standing of the budget": lambda: _with(STANDING, month="2026-05", after=7),
    "sums of a project": lambda: _with(SCOPE_SUMS["project"], month="2026-05", after=7, name="api"),
    "sums of an operation": lambda: _with(SCOPE_SUMS["operation"], month="2026-05", after=7, name="extract"),
    "reservations past their lease": lambda: _with(DUE, now=_MOMENT),
    "breaker of a provider": lambda: _with(BREAKER, provider="groq", now=_MOMENT),
    "newest audit entries": lambda: audit_page(LAST_AUDIT, 50),
    "older audit entries": lambda: audit_page(7, 50),
    "generation of the caches": lambda: CACHE_GENERATION,
}
"""As `hot_queries.HOT_QUERIES`: no scan of a table, no sort."""
