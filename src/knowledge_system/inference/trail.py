"""What one call went through: which targets were asked, which were passed over and why, what it all cost."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from knowledge_system.domain.inference import (
    Attempt,
    BudgetExhausted,
    EmbedReply,
    FailureKind,
    NoProvider,
    PriceUnknown,
    ProviderFailed,
    Reply,
)
from knowledge_system.inference.candidates import Bill

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.errors import KnowledgeError
    from knowledge_system.domain.inference import Call, EmbedCall
    from knowledge_system.inference.candidates import Candidate
    from knowledge_system.inference.styles import Style

_ReplyT = TypeVar("_ReplyT", Reply, EmbedReply)

_RETRYABLE = frozenset(
    {FailureKind.TIMEOUT, FailureKind.CONNECTION, FailureKind.SERVER, FailureKind.CAPACITY, FailureKind.RATE_LIMITED}
)


class Trail:
    """The record of one call: bills, reasons, and the time that is left."""

    def __init__(self, style: Style, deadline: datetime, clock: Clock, monotonic: Callable[[], float]) -> None:
        self.style = style
        self.deadline = deadline
        self.monotonic = monotonic
        self._clock = clock
        self._bills: list[Bill] = []
        self._reasons: dict[str, str] = {}
        self._errors: dict[tuple[str, str], ProviderFailed] = {}
        self._unpriced: dict[str, PriceUnknown] = {}
        self._budget = False

    def left(self) -> float:
        """Return the seconds until the deadline."""
        return (self.deadline - self._clock.now()).total_seconds()

    def bill(self, candidate: Candidate) -> Bill:
        """Open the bill of an attempt."""
        bill = Bill(candidate)
        self._bills.append(bill)
        return bill

    def rule_out(self, candidate: Candidate, reason: str, *, budget: bool = False) -> None:
        """Note why a candidate is not asked; `budget` when money is the reason."""
        self._reasons[candidate.name] = reason
        self._budget = self._budget or budget

    def failed(self, candidate: Candidate, error: KnowledgeError) -> None:
        """Note how an attempt failed, or why it was not made."""
        self.rule_out(candidate, error.message, budget=isinstance(error, BudgetExhausted))
        if isinstance(error, ProviderFailed):
            self._errors[candidate.key] = error
        elif isinstance(error, PriceUnknown):
            self._unpriced[candidate.name] = error

    def sent(self, candidate: Candidate) -> int:
        """Return how many requests went to `candidate`."""
        return sum(bill.sent and bill.candidate.key == candidate.key for bill in self._bills)

    def next_try(self, targets: list[Candidate], backoff: float) -> tuple[Candidate, float] | None:
        """Return whom to ask again and how long to wait first; None: nobody within the deadline.

        Asked again is only the one target that stood alone, and a rate-limited target that was passed over so far:
        where there was a fallback, every target is asked at most once.
        """
        asked = {bill.candidate.key for bill in self._bills if bill.sent}
        waits = [
            (max(error.retry_after or 0.0, 0.0 if self.sent(target) == 0 else backoff), position)
            for position, target in enumerate(targets)
            if (error := self._errors.get(target.key)) is not None
            and error.kind in _RETRYABLE
            and (target.key not in asked or len(asked) == 1)
        ]
        if not waits or min(waits)[0] >= self.left():
            return None
        wait, position = min(waits)
        return targets[position], wait

    def signed(self, reply: _ReplyT, route: str) -> _ReplyT:
        """Return `reply` with every attempt, the whole cost, and the route in words."""
        attempts = self.attempts()
        cost = sum(attempt.cost_nano for attempt in attempts)
        if isinstance(reply, EmbedReply):
            return dataclasses.replace(reply, attempts=attempts, cost_nano=cost)
        return dataclasses.replace(reply, attempts=attempts, cost_nano=cost, route=self.route(route))

    def attempts(self) -> tuple[Attempt, ...]:
        """Return every request that was sent."""
        return tuple(
            Attempt(*bill.candidate.key, bill.outcome, bill.seconds, bill.cost_nano, bill.measured)
            for bill in self._bills
            if bill.sent
        )

    def route(self, head: str) -> str:
        """Return the route in words: strategy, winner, and why not the others."""
        others = "; ".join(f"not {name}: {reason}" for name, reason in self._reasons.items())
        return f"{self.style.name}: {head}" + (f"; {others}" if others else "")

    def error(self, call: Call | EmbedCall, *, late: bool = False) -> KnowledgeError:
        """Return the error of a call that nobody answered, naming each candidate with its reason."""
        for bill in self._bills if late else ():
            self._reasons.setdefault(bill.candidate.name, "no answer before the deadline")
        reasons = (
            "; ".join(f"{name}: {reason}" for name, reason in self._reasons.items()) or "no candidate is configured"
        )
        if late or self.left() <= 0:
            reasons = f"the deadline has passed; {reasons}"
        if self._budget:
            return BudgetExhausted(
                f"no model may answer {call.operation} for money: {reasons}",
                hint="wait for the month to end, raise `budget.monthly`, or start a local model",
            )
        if self._reasons and self._reasons.keys() == self._unpriced.keys():
            return next(iter(self._unpriced.values()))
        nobody = NoProvider(f"no model answered {call.operation}: {reasons}", hint="see `knowledge providers status`")
        nobody.requests = len(self.attempts())
        return nobody


def patience(call: Call | EmbedCall, clock: Clock, seconds: float) -> datetime:
    """Return the deadline of `call`, or the default one."""
    return call.deadline or clock.now() + timedelta(seconds=seconds)
