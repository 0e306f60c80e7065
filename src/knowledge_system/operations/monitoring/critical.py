"""The alerts of the table: two of each critical metric, one of each budget tier and scale trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowledge_system.operations.monitoring.alert import CRITICAL, INFO, WARNING, Alert, limit_in, queried, value_in
from knowledge_system.operations.thresholds import BUDGET_TIERS, CRITICAL_METRICS, LIMIT, SCALE_TRIGGERS, metric

if TYPE_CHECKING:
    from knowledge_system.operations.monitoring.alert import Level
    from knowledge_system.operations.thresholds import BudgetTier, CriticalMetric, ScaleTrigger

_OWN_RULES = frozenset({"circuit-breaker", "monthly-cost"})
"""Rows whose alerts are not simply a limit."""

_SPEND = "max(knowledge_monthly_spend_usd)"
_BUDGET = "max(knowledge_monthly_budget_usd)"
_OF_BUDGET = (
    f"Spend {value_in('USD')} of {queried(_BUDGET, '$%.2f')} ({queried(f'100 * {_SPEND} / {_BUDGET}', '%.2f%%')})"
)


def critical_alerts() -> list[Alert]:
    """Return the alerts of all rows of the table."""
    found = [alert for row in CRITICAL_METRICS if row.id not in _OWN_RULES for alert in _limits(row)]
    found += [_tier(tier) for tier in BUDGET_TIERS if tier.alert]
    return found + _breaker(metric("circuit-breaker"))


def scale_alerts() -> list[Alert]:
    """Return one alert of each scale trigger."""
    return [_scale(trigger) for trigger in SCALE_TRIGGERS]


def _limits(row: CriticalMetric) -> list[Alert]:
    warning, critical = row.alerts
    return [
        _limit(row, row.alert, warning, row.warning_for, WARNING),
        _limit(row, row.critical, critical, row.critical_for, CRITICAL),
    ]


def _limit(row: CriticalMetric, limit: float, name: str, duration: str, level: Level) -> Alert:
    side = "above" if row.above else "below"
    whose = "".join(f" ({label} {{{{ $labels.{label} }}}})" for label in row.labels)
    allowed, target = limit_in(row.unit, limit), limit_in(row.unit, row.target)
    return Alert(
        name=name,
        topic=row.id,
        level=level,
        expr=_crossed(row, limit),
        duration=duration,
        summary=f"{row.what} is {side} {allowed}{whose}",
        description=f"{row.what}{whose} is {value_in(row.unit)} (limit {allowed}, target {target})",
    )


def _crossed(row: CriticalMetric, limit: float) -> str:
    number = f"{limit:.0f}" if limit >= 1 else f"{limit:g}"
    crossed = f"{row.query} {row.compared} {number}"
    guard = row.guard.replace(LIMIT, str(float(limit)))
    return f"({crossed}) and on () ({guard})" if guard else crossed


def _tier(tier: BudgetTier) -> Alert:
    """Return the alert of a tier. Its limit follows the configured budget; without a spend nothing is exceeded."""
    share, full = limit_in("ratio", tier.share), tier.share >= 1
    reached = f"({_SPEND} >= {_BUDGET}) and on () ({_SPEND} > 0)"
    return Alert(
        name=str(tier.alert),
        topic="budget",
        level=CRITICAL if full else WARNING,
        expr=reached if full else f"{_SPEND} > {tier.share:g} * {_BUDGET}",
        duration="1m" if full else "5m",
        summary=f"Spend of this month {'reached' if full else 'is above'} {share} of the budget: {tier.effect}",
        description=f"{_OF_BUDGET}, limit {share}",
    )


def _breaker(row: CriticalMetric) -> list[Alert]:
    """Return the alerts of breakers, which try again after 30 or 60 s and so never stay open for minutes.

    Therefore not the state of this moment is asked but the worst of 90 s; critical is that no scrape meanwhile saw it
    closed.
    """
    state, provider, value = "knowledge_circuit_breaker_state", "{{ $labels.provider }}", "{{ $value }}"
    half_open, opened = row.alerts
    return [
        Alert(
            name=half_open,
            topic=row.id,
            level=WARNING,
            expr=f"max by (provider) ({state}) == {row.alert:g}",
            duration="5m",
            summary=f"Circuit breaker of {provider} is half-open",
            description=f"Circuit breaker of {provider} has been half-open for 5 minutes (state {value}, limit "
            "1 half-open, "
            "target 0 closed): no trial call has succeeded",
        ),
        Alert(
            name="CircuitBreakerOpen",
            topic=row.id,
            level=WARNING,
            expr=f"max by (provider) (max_over_time({state}[90s])) == {row.critical:g}",
            duration="2m",
            keep="2m",
            summary=f"Circuit breaker open for {provider}",
            description=f"Circuit breaker of {provider} keeps opening (worst state of 90 s {value}, limit 2 "
            "open, target 0 "
            "closed)",
        ),
        Alert(
            name=opened,
            topic=row.id,
            level=CRITICAL,
            expr=f"(max by (provider) (max_over_time({state}[90s])) == {row.critical:g})"
            f" and (min by (provider) (min_over_time({state}[30s])) > 0)",
            duration="2m",
            keep="2m",
            summary=f"Circuit breaker of {provider} opened and does not close",
            description=f"Circuit breaker of {provider} opened and was not closed for 2 minutes (worst state "
            f"{value}, limit "
            "2 open, target 0 closed): calls go elsewhere or fail",
        ),
    ]


def _scale(trigger: ScaleTrigger) -> Alert:
    limit, normal = limit_in(trigger.unit, trigger.trigger), limit_in(trigger.unit, trigger.normal)
    return Alert(
        name=trigger.alert,
        topic=f"scale-{trigger.id}",
        level=INFO,
        expr=f"{trigger.query} > {trigger.trigger:g}",
        duration="30m",
        summary=f"{trigger.what} above {limit}: {trigger.advice}",
        description=f"{trigger.what}: {value_in(trigger.unit)} (limit {limit}, normal below {normal})",
    )
