"""The engine's shared state in memory: ledger, breakers, audit and response cache, with the databases' answers.

They are the reference of the semantics that the contract suite (`tests/inference/contract`) holds every implementation
to. Every method runs to its end without awaiting, so it is atomic among the tasks of one event loop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import BreakerOpen, BudgetExhausted
from knowledge_system.domain.money import (
    SENT,
    AuditEntry,
    BreakerPhase,
    BreakerStatus,
    BudgetStatus,
    Permit,
    Reservation,
    Tier,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.money import AuditLog, BreakerRule, Hold, Settlement

HYSTERESIS = 0.05
"""A tier below 100 % is left when the share spent and reserved falls this far below where it was entered."""

TRIAL_LEASE = timedelta(minutes=2)
"""After this a trial whose owner said nothing counts as returned."""

_ORDER = list(Tier)


@dataclass(slots=True)
class _Row:
    """One reservation as the ledger keeps it. `state`: held, expired (charged at worst case), settled."""

    hold: Hold
    month: str
    expires: datetime
    cost: int
    measured: bool = False
    state: str = "held"


class MemoryLedger:
    """A BudgetLedger. Limits: `""` the global one, `project:NAME`, `operation:NAME`; amounts in nano-dollars."""

    def __init__(
        self,
        clock: Clock,
        limit_nano: int,
        *,
        audit: MemoryAudit | None = None,
        offline: bool = False,
        tiers: tuple[float, float] = (0.8, 0.9),
    ) -> None:
        self._clock = clock
        self._audit = audit
        self._offline = offline
        self._limits = {"": limit_nano}
        self._starts = dict(zip(_ORDER[1:], (*tiers, 1.0), strict=True))
        self._frozen = False
        self._rows: dict[str, _Row] = {}
        self._tier = Tier.NORMAL
        self._tier_month = ""
        self._told = Tier.NORMAL

    async def reserve(self, hold: Hold) -> Reservation:
        """Set money aside. Raises BudgetExhausted when frozen or when any limit that applies would be passed."""
        if hold.amount_nano < 0:
            raise UsageError("a reservation cannot be negative", hint="check the price")
        if self._frozen:
            raise BudgetExhausted("the budget is frozen", hint="`knowledge budget unfreeze`")
        now = to_utc(self._clock.now())
        month = now.strftime("%Y-%m")
        for key in ("", f"project:{hold.project}", f"operation:{hold.operation}"):
            limit = self._limits.get(key)
            if limit is not None and self._taken(month, key) + hold.amount_nano > limit:
                raise BudgetExhausted(
                    f"the {key or 'monthly'} budget does not hold {hold.amount_nano} nano-dollars more",
                    hint="wait for the month to end, raise the limit, or use a local model",
                )
        reservation = Reservation(f"r{len(self._rows) + 1}", hold.amount_nano, month, now + hold.lease)
        self._rows[reservation.id] = _Row(hold, month, reservation.expires_at, hold.amount_nano)
        self._retier()
        if hold.entry is None or self._audit is None:
            return reservation
        return replace(reservation, entry=self._audit.enter(hold.entry, hold.amount_nano))

    async def settle(self, reservation: Reservation, settlement: Settlement) -> bool:
        """Replace the hold, or the charge of an expired one, by the real cost; the second time changes nothing."""
        row = self._rows.get(reservation.id)
        if row is None or row.state == "settled":
            return False
        row.cost, row.measured, row.state = settlement.cost_nano, settlement.measured, "settled"
        if reservation.entry and self._audit is not None:
            self._audit.complete(reservation.entry, settlement)
        self._retier()
        return self._tier is not self._told

    async def renew(self, reservation: Reservation, lease: timedelta) -> None:
        """Move the end of a hold that is still held."""
        row = self._rows.get(reservation.id)
        if row is not None and row.state == "held":
            row.expires = to_utc(self._clock.now()) + lease

    async def sweep(self) -> int:
        """Charge holds past their lease at their worst case."""
        now = to_utc(self._clock.now())
        dead = [row for row in self._rows.values() if row.state == "held" and row.expires <= now]
        for row in dead:
            row.state = "expired"
        self._retier()
        return len(dead)

    async def status(self, month: str | None = None) -> BudgetStatus:
        """Return a month's sums; tier and switches are those of now."""
        month = month or self._month()
        self._retier()
        rows = [row for row in self._rows.values() if row.month == month]
        spent = [row for row in rows if row.state != "held"]
        return BudgetStatus(
            month=month,
            limit_nano=self._limits[""],
            settled_nano=sum(row.cost for row in spent),
            reserved_nano=sum(row.cost for row in rows if row.state == "held"),
            unmeasured_nano=sum(row.cost for row in spent if not row.measured),
            tier=self._tier,
            frozen=self._frozen,
            offline=self._offline,
            limits={key: limit for key, limit in self._limits.items() if key},
        )

    async def change(self, action: str, key: str = "", amount_nano: int | None = None, actor: str = "") -> BudgetStatus:
        """Apply an action; a limit other than the global one is removed by no amount."""
        if action == "set-limit":
            self._set_limit(key, amount_nano)
        elif action in {"freeze", "unfreeze"}:
            self._frozen = action == "freeze"
        elif action in {"offline", "online"}:
            self._offline = action == "offline"
        elif action != "recompute":
            raise UsageError(
                f"unknown budget action {action}", hint="set-limit, freeze, unfreeze, offline, online, recompute"
            )
        self._retier(fresh=True)
        if self._audit is not None:
            outcome = f"{key or 'monthly'}={amount_nano}" if action == "set-limit" else "done"
            await self._audit.record(
                AuditEntry(at=self._clock.now(), kind=f"budget-{action}", outcome=outcome, actor=actor)
            )
        return await self.status()

    async def crossed(self) -> Tier | None:
        """Return the tier if it is not the one told last."""
        self._retier()
        if self._tier is self._told:
            return None
        self._told = self._tier
        return self._tier

    def _set_limit(self, key: str, amount: int | None) -> None:
        if (amount is None and not key) or (amount is not None and amount < 0):
            raise UsageError("a limit is an amount of at least 0", hint="freeze the budget to stop all spending")
        if key and key.partition(":")[0] not in {"project", "operation"}:
            raise UsageError(f"unknown limit {key}", hint="project:NAME or operation:NAME")
        if amount is None:
            self._limits.pop(key, None)
        else:
            self._limits[key] = amount

    def _month(self) -> str:
        return to_utc(self._clock.now()).strftime("%Y-%m")

    def _taken(self, month: str, key: str) -> int:
        kind, _, name = key.partition(":")
        return sum(
            row.cost
            for row in self._rows.values()
            if row.month == month and (not kind or getattr(row.hold, kind) == name)
        )

    def _retier(self, *, fresh: bool = False) -> None:
        """Enter a tier at its start; leave it below, by the hysteresis, unless the month or the limit is new."""
        month = self._month()
        fresh = fresh or month != self._tier_month
        limit = self._limits[""]
        share = self._taken(month, "") / limit if limit else 1.0
        reached = [tier for tier, start in self._starts.items() if share >= start]
        kept = [tier for tier, start in self._starts.items() if share >= start - (HYSTERESIS if start < 1 else 0)]
        top = reached[-1] if reached else Tier.NORMAL
        floor = kept[-1] if kept else Tier.NORMAL
        held = min(self._tier, floor, key=_ORDER.index)
        self._tier = top if fresh else max(top, held, key=_ORDER.index)
        self._tier_month = month


@dataclass(slots=True)
class _Breaker:
    phase: BreakerPhase = BreakerPhase.CLOSED
    failures: int = 0
    generation: int = 0
    last_failure: datetime | None = None
    next_attempt: datetime | None = None
    detail: str = ""
    trials: dict[str, datetime] = field(default_factory=dict)


class MemoryBreakers:
    """Breakers. A permit counts only in the generation it was given in: old calls say nothing about a new phase."""

    def __init__(self, clock: Clock, audit: AuditLog | None = None) -> None:
        self._clock = clock
        self._audit = audit
        self._known: dict[str, _Breaker] = {}
        self._permits = 0

    async def admit(self, provider: str, rule: BreakerRule) -> Permit:
        """Give leave for one attempt. Raises BreakerOpen while open, or when all trials of a half-open one are out."""
        now = self._clock.now()
        breaker = self._known.setdefault(provider, _Breaker())
        if breaker.phase is BreakerPhase.OPEN:
            if breaker.next_attempt is not None and now < breaker.next_attempt:
                raise BreakerOpen(provider, breaker.next_attempt)
            self._enter(breaker, BreakerPhase.HALF_OPEN)
        self._permits += 1
        permit = Permit(provider, f"p{self._permits}", breaker.phase is BreakerPhase.HALF_OPEN, breaker.generation)
        if permit.trial:
            breaker.trials = {key: ends for key, ends in breaker.trials.items() if ends > now}
            if len(breaker.trials) >= rule.half_open_requests:
                raise BreakerOpen(provider, min(breaker.trials.values()))
            breaker.trials[permit.id] = now + TRIAL_LEASE
        return permit

    async def succeeded(self, permit: Permit, rule: BreakerRule) -> None:
        """Forget the failures; a trial's success closes the breaker."""
        del rule
        breaker = self._current(permit)
        if breaker is None:
            return
        breaker.failures = 0
        if permit.trial:
            self._enter(breaker, BreakerPhase.CLOSED)

    async def failed(self, permit: Permit, rule: BreakerRule, reason: str, retry_after: float | None = None) -> None:
        """Count; open at the threshold or after a trial. An open breaker's end moves only later."""
        now = self._clock.now()
        breaker = self._current(permit)
        known = self._known.get(permit.provider)
        if breaker is None:
            if known is not None and known.phase is BreakerPhase.OPEN and retry_after is not None:
                known.next_attempt = max(known.next_attempt or now, now + timedelta(seconds=retry_after))
            return
        breaker.failures += 1
        breaker.last_failure, breaker.detail = now, reason
        if permit.trial or breaker.failures >= rule.failure_threshold:
            self._enter(breaker, BreakerPhase.OPEN)
            breaker.next_attempt = now + max(
                timedelta(milliseconds=rule.reset_timeout), timedelta(seconds=retry_after or 0)
            )

    async def returned(self, permit: Permit) -> None:
        """Free the place of a trial."""
        breaker = self._known.get(permit.provider)
        if breaker is not None:
            breaker.trials.pop(permit.id, None)

    async def status(self) -> list[BreakerStatus]:
        """Return every breaker, by provider."""
        return [
            BreakerStatus(
                name, breaker.phase, breaker.failures, breaker.last_failure, breaker.next_attempt, breaker.detail
            )
            for name, breaker in sorted(self._known.items())
        ]

    async def reset(self, provider: str, actor: str) -> None:
        """Close it by hand."""
        breaker = self._known.setdefault(provider, _Breaker())
        self._enter(breaker, BreakerPhase.CLOSED)
        breaker.failures, breaker.detail = 0, ""
        if self._audit is not None:
            entry = AuditEntry(at=self._clock.now(), kind="breaker-reset", provider=provider, actor=actor)
            await self._audit.record(replace(entry, outcome="closed"))

    def _current(self, permit: Permit) -> _Breaker | None:
        breaker = self._known.get(permit.provider)
        return breaker if breaker is not None and breaker.generation == permit.generation else None

    @staticmethod
    def _enter(breaker: _Breaker, phase: BreakerPhase) -> None:
        breaker.phase = phase
        breaker.generation += 1
        breaker.trials.clear()
        breaker.next_attempt = None


class MemoryAudit:
    """An AuditLog."""

    def __init__(self) -> None:
        self.rows: list[AuditEntry] = []

    def enter(self, entry: AuditEntry, cost_nano: int) -> int:
        """Append the entry of an attempt that may leave from now on; return its number, from 1."""
        self.rows.append(replace(entry, cost_nano=cost_nano, outcome=SENT))
        return len(self.rows)

    def complete(self, number: int, settlement: Settlement) -> None:
        """Say how the attempt ended."""
        entry = self.rows[number - 1]
        self.rows[number - 1] = replace(entry, cost_nano=settlement.cost_nano, outcome=settlement.outcome)

    async def record(self, entry: AuditEntry) -> None:
        """Append."""
        self.rows.append(entry)

    async def entries(self, limit: int, before: str | None = None) -> tuple[list[AuditEntry], str | None]:
        """Return newest first; the cursor is a position."""
        try:
            end = len(self.rows) if before is None else int(before)
        except ValueError as error:
            raise UsageError("the cursor does not belong to this listing", hint="start over without it") from error
        start = max(0, end - limit)
        return self.rows[start:end][::-1], str(start) if start else None


class MemoryResponses:
    """A ResponseCache without bounds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, tuple[bytes, datetime]] = {}
        self._counts: Counter[str] = Counter()

    async def get(self, key: str) -> tuple[bytes, float] | None:
        """Return a fresh value and its seconds left."""
        value, ends = self._entries.get(key, (b"", self._clock.now()))
        left = (ends - self._clock.now()).total_seconds()
        self._counts["hits" if left > 0 else "misses"] += 1
        return (value, left) if left > 0 else None

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Store."""
        self._entries[key] = (value, self._clock.now() + timedelta(seconds=ttl))

    async def clear(self) -> int:
        """Remove everything."""
        count = len(self._entries)
        self._entries.clear()
        return count

    async def stats(self) -> Mapping[str, float]:
        """Return hits, misses, size, bytes."""
        size = sum(len(value) for value, _ in self._entries.values())
        return {
            "hits": self._counts["hits"],
            "misses": self._counts["misses"],
            "size": len(self._entries),
            "bytes": size,
        }
