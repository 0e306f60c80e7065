"""Ports of the shared state of the engine: ledger, breakers, audit, response cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from knowledge_system.domain.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from knowledge_system.domain.inference import Usage


SENT = "sent"
"""Outcome of an attempt's audit entry until it is settled: it may have left, and nobody has told how it ended."""


class Tier(StrEnum):
    """How the budget stands: local first from 80 %, local only from 90 %, nothing paid from 100 %."""

    NORMAL = "normal"
    LOCAL_FIRST = "local-first"
    LOCAL_ONLY = "local-only"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class Hold:
    """The worst case of one attempt, to be reserved before its first byte is sent. Money in nano-dollars.

    `entry` is what the audit log will say of the attempt: it is written with the reservation or not at all.
    """

    amount_nano: int
    provider: str
    model: str
    operation: str
    project: str
    lease: timedelta
    entry: AuditEntry | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside: it counts as spent until it is settled, released or expired (then charged at worst case)."""

    id: str
    amount_nano: int
    month: str
    expires_at: datetime
    entry: int = 0
    """Number of the entry in the audit log; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an attempt cost in the end. `measured` False: usage was never told, `cost_nano` is an upper bound."""

    cost_nano: int
    usage: Usage | None
    outcome: str
    measured: bool = True


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The ledger of one month, UTC. `limit_nano` None is no limit; `unmeasured_nano` is part of `settled_nano`."""

    month: str
    limit_nano: int
    settled_nano: int
    reserved_nano: int
    unmeasured_nano: int
    tier: Tier
    frozen: bool
    offline: bool
    limits: Mapping[str, int] = field(default_factory=dict)


class BudgetLedger(Protocol):
    """The hard limit. Shared by all processes; every method is one atomic step."""

    async def reserve(self, hold: Hold) -> Reservation:
        """Set money aside. Raises BudgetExhausted when settled + reserved + new > any limit that applies.

        The hold's audit entry is written in the same step, at the worst case and with the outcome `SENT`.
        """
        ...

    async def settle(self, reservation: Reservation, settlement: Settlement) -> bool:
        """Replace the reservation by the real cost, in the reservation's month, and complete its audit entry.

        Twice is once. Return whether `crossed` should be asked: False, no tier was crossed.
        """
        ...

    async def renew(self, reservation: Reservation, lease: timedelta) -> None:
        """Keep the reservation of a call that is still running."""
        ...

    async def sweep(self) -> int:
        """Charge reservations whose owner died at their worst case; return how many."""
        ...

    async def status(self, month: str | None = None) -> BudgetStatus:
        """Return the state of a month (default: the current one)."""
        ...

    async def change(self, action: str, key: str = "", amount_nano: int | None = None, actor: str = "") -> BudgetStatus:
        """Apply `set-limit`, `freeze`, `unfreeze`, `offline`, `online` or `recompute`; audited.

        Return the effective state, which holds for every process.
        """
        ...

    async def crossed(self) -> Tier | None:
        """Return the tier when it changed since the last call by anyone: each change is told exactly once."""
        ...


class BreakerPhase(StrEnum):
    """Circuit breaker states; metric values 0, 1, 2 in this order."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When a breaker opens and how it tries again; times in milliseconds."""

    failure_threshold: int = 5
    reset_timeout: int = 60_000
    half_open_requests: int = 3


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one attempt; a trial permit belongs to a half-open breaker and is leased."""

    provider: str
    id: str
    trial: bool
    generation: int


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """State of one provider's breaker."""

    provider: str
    phase: BreakerPhase
    failures: int
    last_failure: datetime | None
    next_attempt: datetime | None
    detail: str = ""


class Breakers(Protocol):
    """Circuit breakers shared by all processes, kept over restarts."""

    async def admit(self, provider: str, rule: BreakerRule) -> Permit:
        """Give leave for one attempt. Raises BreakerOpen; half-open lets `half_open_requests` trials through."""
        ...

    async def succeeded(self, permit: Permit, rule: BreakerRule) -> None:
        """Report success: closes a half-open breaker, resets the failure count."""
        ...

    async def failed(self, permit: Permit, rule: BreakerRule, reason: str, retry_after: float | None = None) -> None:
        """Report a failure that counts; a longer `retry_after` (seconds) extends an open breaker."""
        ...

    async def returned(self, permit: Permit) -> None:
        """Give a permit back unused or without verdict (cancelled, our own fault, rate limited)."""
        ...

    async def status(self) -> list[BreakerStatus]:
        """Return the state of every breaker that was ever used."""
        ...

    async def reset(self, provider: str, actor: str) -> None:
        """Close a breaker by hand; audited."""
        ...


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One remote call or admin action. Never content: its hash only."""

    at: datetime
    kind: str
    operation: str = ""
    provider: str = ""
    model: str = ""
    content_hash: str = ""
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    layer: str = ""
    project: str = ""
    cost_nano: int = 0
    outcome: str = ""
    actor: str = ""


class AuditLog(Protocol):
    """What left the machine and why. Entries are only added; that of an attempt is completed once, when it ends."""

    async def record(self, entry: AuditEntry) -> None:
        """Append an entry."""
        ...

    async def entries(self, limit: int, before: str | None = None) -> tuple[list[AuditEntry], str | None]:
        """Return entries newest first, and the cursor of the next page."""
        ...


class ResponseCache(Protocol):
    """Answers by key, with their remaining time to live. Bytes are JSON; never pickles."""

    async def get(self, key: str) -> tuple[bytes, float] | None:
        """Return the value and the seconds it has left, or None."""
        ...

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Store a value for `ttl` seconds."""
        ...

    async def clear(self) -> int:
        """Remove everything; return how many entries where that is known."""
        ...

    async def stats(self) -> Mapping[str, float]:
        """Return hits, misses, size, bytes."""
        ...
