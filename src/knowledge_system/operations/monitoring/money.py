"""The alerts that see money run away before a tier is reached, and those of the ledger.

Burn rates look at two windows: the long one says that it is much, the short one that it goes on. All of them read the
ledger: it knows what every process spends, and what failed calls are charged.
"""

from __future__ import annotations

from knowledge_system.operations.monitoring.alert import CRITICAL, WARNING, Alert, queried, value_in

_SPEND = "max(knowledge_monthly_spend_usd)"
_BUDGET = "max(knowledge_monthly_budget_usd)"
_HOUR = 'max(knowledge_spend_usd{window="1h"})'
_DAY = 'max(knowledge_spend_usd{window="24h"})'
_DAYS_LEFT = "(days_in_month() - day_of_month() + 1 - hour() / 24)"

FAST_BURN = 0.05
"""Share of the monthly budget in one hour: the month's money would be gone in 20 hours."""

SLOW_BURN = 0.10
"""Share of the monthly budget in one day: the month's money would be gone in ten days."""


_NOW = "max(delta(knowledge_monthly_spend_usd[5m])) * 12"
"""Dollars an hour at the pace of five minutes; negative, and silent, where a new month begins at 0."""
_COST = "sum(increase(knowledge_inference_cost_usd_total[1h]))"
_PACE = f"avg_over_time({_DAY}[7d:1h])"
"""Dollars a day: the mean of seven, so that neither a weekend nor one busy day is taken for the month."""
_OF_BUDGET = f"of a monthly budget of {queried(_BUDGET, '$%.2f')}"
_PROJECTED = f"({_SPEND} + on () {_PACE} * on () {_DAYS_LEFT})"
MONEY_ALERTS = (
    Alert(
        name="BudgetBurnFast",
        topic="budget-burn",
        level=CRITICAL,
        expr=f"({_HOUR} > {FAST_BURN:g} * {_BUDGET}) and on () ({_NOW} > {FAST_BURN:g} * {_BUDGET})",
        duration="2m",
        summary="Money runs away: a twentieth of the monthly budget in one hour",
        description=f"Spend of the last hour {value_in('USD')} {_OF_BUDGET} (limit {FAST_BURN:.0%} an "
        "hour), and it goes on",
    ),
    Alert(
        name="BudgetBurnSlow",
        topic="budget-burn",
        level=WARNING,
        expr=f"({_DAY} > {SLOW_BURN:g} * {_BUDGET}) and on () ({_HOUR} * 24 > {SLOW_BURN:g} * {_BUDGET})",
        duration="15m",
        summary="A tenth of the monthly budget was spent in one day",
        description=f"Spend of the last 24 hours {value_in('USD')} {_OF_BUDGET} (limit {SLOW_BURN:.0%} a "
        "day), and it goes on",
    ),
    Alert(
        name="BudgetProjectedOverrun",
        topic="budget-projection",
        level=WARNING,
        expr=f"({_PROJECTED} > {_BUDGET}) and on () ({_SPEND} < {_BUDGET}) and on () ({_DAY} > 0)",
        duration="1h",
        summary="At this pace the budget does not last until the end of the month",
        description=(
            f"Projected spend at the end of the month {value_in('USD')} (limit "
            f"{queried(_BUDGET, '$%.2f')}), spend so far "
            f"{queried(_SPEND, '$%.2f')}"
        ),
    ),
    Alert(
        name="BudgetFrozen",
        topic="budget-frozen",
        level=WARNING,
        expr="max(knowledge_budget_frozen) == 1",
        duration="1h",
        summary="The budget has been frozen for an hour: no call that costs money is made",
        description="Freeze is {{ $value }} (target 0) for 1 hour",
    ),
    Alert(
        name="ReservationsNotSettled",
        topic="ledger",
        level=WARNING,
        expr=(
            "(min(min_over_time(knowledge_budget_reserved_usd[30m])) > 0) unless on () "
            "(sum(increase(knowledge_inference_requests_total[30m])) > 0)"
        ),
        duration="10m",
        summary="Money stays reserved although no call runs",
        description=f"{value_in('USD')} reserved for 30 minutes without a call (target $0.00)",
    ),
    Alert(
        name="LedgerBehindCalls",
        topic="ledger",
        level=WARNING,
        expr=f"{_COST} - on () 1.1 * {_HOUR} > 0.05",
        duration="15m",
        summary="The ledger shows less than the calls cost",
        description=f"Calls of the last hour cost {value_in('USD')} more than 110% of what the ledger "
        "holds (limit $0.05)",
    ),
)
