"""Money around one attempt: its worst case is reserved before the first byte leaves, its real cost settled after."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import AttemptCharged, BudgetTierEntered, SettlementFailed
from knowledge_system.domain.inference import PriceUnknown, ProviderFailed
from knowledge_system.domain.money import Hold, Settlement
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
    from datetime import timedelta

    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply, Usage
    from knowledge_system.domain.money import BudgetLedger, Reservation
    from knowledge_system.inference.candidates import Bill
    from knowledge_system.inference.finishing import Finishing
    from knowledge_system.inference.standing import Standing

ANSWERED = "answered"
CANCELLED = "cancelled"
_SETTLE_DELAYS = (0.0, 0.2, 1.0, 5.0)
"""Seconds before each try to settle; after the last the hold expires at its worst case by itself."""


class Purse:
    """The ledger with the manners of a client: releases what nobody uses, renews, retries settlements, tells tiers."""

    def __init__(
        self,
        ledger: BudgetLedger,
        standing: Standing,
        emit: Emit,
        finishing: Finishing,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._standing = standing
        self._emit = emit
        self._finishing = finishing
        self._sleep = sleep

    async def reserve(self, hold: Hold) -> Reservation:
        """Reserve. When the caller leaves while the ledger works, what it set aside is given back."""
        asked = self._finishing.start(self._ledger.reserve(hold))
        try:
            return asked.result() if asked.done() else await asyncio.shield(asked)
        except asyncio.CancelledError:
            self._finishing.start(self._give_back(asked))
            raise

    def tell(self, charged: AttemptCharged) -> None:
        """Announce what an attempt costs: whether the ledger can write it down is another matter."""
        if charged.cost_nano > 0:
            self._emit(charged)

    async def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """Settle, whatever becomes of the caller. A ledger that fails is asked again in the background."""
        try:
            crossed = await self._finishing.finish(self._ledger.settle(reservation, settlement))
        except KnowledgeError:
            self._finishing.start(self._settle_later(reservation, settlement))
            return
        if crossed:
            await self._tell_tier()

    def renewing(self, reservation: Reservation, lease: timedelta) -> Renewal:
        """Renew a reservation at every third of its lease, until it is cancelled."""
        return Renewal(self._ledger, reservation, lease)

    async def _give_back(self, asked: asyncio.Future[Reservation]) -> None:
        with contextlib.suppress(KnowledgeError):
            await self.settle(await asked, Settlement(0, None, "released"))

    async def _settle_later(self, reservation: Reservation, settlement: Settlement) -> None:
        reason = ""
        for delay in _SETTLE_DELAYS:
            await self._sleep(delay)
            try:
                crossed = await self._ledger.settle(reservation, settlement)
            except KnowledgeError as error:
                reason = error.message
            else:
                if crossed:
                    await self._tell_tier()
                return
        self._emit(SettlementFailed(reservation.id, settlement.cost_nano, reason))

    async def _tell_tier(self) -> None:
        with contextlib.suppress(KnowledgeError):  # told by the next settlement instead
            tier = await self._ledger.crossed()
            if tier is not None:
                self._standing.forget()
                self._emit(BudgetTierEntered(tier.value))


class Renewal:
    """Keeps one hold alive. A timer, not a task: most calls are over before it ever fires."""

    def __init__(self, ledger: BudgetLedger, reservation: Reservation, lease: timedelta) -> None:
        self._ledger = ledger
        self._reservation = reservation
        self._lease = lease
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(lease.total_seconds() / 3, self._fire)

    def cancel(self) -> None:
        """Stop renewing."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _fire(self) -> None:
        self._timer = self._loop.call_later(self._lease.total_seconds() / 3, self._fire)
        self._task = self._loop.create_task(self._renew())

    async def _renew(self) -> None:
        with contextlib.suppress(KnowledgeError):  # the next round tries again; an expired hold is still charged
            await self._ledger.renew(self._reservation, self._lease)


class Budgeted:
    """Reserves, lets the attempt run, settles. Local models cost nothing and need no leave."""

    def __init__(self, inner: LanguageModel, bill: Bill, purse: Purse, lease: timedelta) -> None:
        self._inner = inner
        self._bill = bill
        self._purse = purse
        self._lease = lease

    async def infer(self, call: Call) -> Reply:
        """Answer. Raises PriceUnknown or BudgetExhausted before anything is sent."""
        async with self._paid(call) as account:
            reply = await self._inner.infer(call)
            account.told(reply.usage, reply.model)
            return reply

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Stream. An abandoned stream is charged at its worst case: the provider may have gone on writing."""
        async with self._paid(call) as account, Closing(self._inner.stream(call)) as deltas:
            async for delta in deltas:
                if delta.reply is not None:
                    account.told(delta.reply.usage, delta.reply.model)
                yield delta
            account.ended()

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed. Raises as `infer`."""
        async with self._paid(call) as account:
            reply = await self._inner.embed(call)
            account.told(reply.usage, reply.model)
            return reply

    @asynccontextmanager
    async def _paid(self, call: Call | EmbedCall) -> AsyncIterator[Account]:
        bill, candidate = self._bill, self._bill.candidate
        worst = candidate.pricing.worst_case(call)
        if worst is None:
            raise PriceUnknown(
                f"the price of {candidate.name} is unknown", hint="set `inference.providers.<name>.price`"
            )
        if candidate.local and not worst:
            account = Account(bill, worst)
            with account.judging():
                yield account
            return
        hold = Hold(worst, candidate.provider, candidate.model, call.operation, call.project, self._lease, bill.entry)
        reservation = await self._purse.reserve(hold)
        account = Account(bill, worst)
        renewal = self._purse.renewing(reservation, self._lease)
        try:
            with account.judging():
                yield account
        finally:
            renewal.cancel()
            settlement = account.settlement()
            self._purse.tell(AttemptCharged(candidate.provider, call.operation, settlement.cost_nano))
            await self._purse.settle(reservation, settlement)


class Account:
    """Works out what an attempt cost from how it ended, and writes it on the bill."""

    def __init__(self, bill: Bill, worst: int) -> None:
        self._bill = bill
        self._worst = worst
        self._usage: Usage | None = None
        bill.sent = True
        self._charge(worst, measured=worst == 0)

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """Read the outcome off the exception that ends the attempt, if one does."""
        try:
            yield
        except ProviderFailed as error:
            self._failed(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self._bill.outcome = self._bill.outcome or CANCELLED
            raise
        except KnowledgeError as error:
            self._bill.outcome = error.code
            raise

    def told(self, usage: Usage | None, model: str) -> None:
        """Take the provider's word for what it bills; usage of 0 is believed, nonsense is not."""
        self._bill.outcome = ANSWERED
        cost = None if usage is None or _nonsense(usage) else usage.cost_nano
        if cost is None and usage is not None and not _nonsense(usage):
            cost = self._bill.candidate.pricing.cost(usage, model)
        if cost is not None:
            self._usage = usage
            self._charge(cost, measured=True)

    def ended(self) -> None:
        """Note that a stream ended by itself, with or without telling its usage."""
        self._bill.outcome = self._bill.outcome or ANSWERED

    def settlement(self) -> Settlement:
        """Return what to settle."""
        return Settlement(
            self._bill.cost_nano, self._usage, self._bill.outcome or "crashed", measured=self._bill.measured
        )

    def _failed(self, error: ProviderFailed) -> None:
        if error.usage is not None:
            self.told(error.usage, "")
        elif not error.started:
            self._charge(0, measured=True)
        self._bill.outcome = error.kind.value

    def _charge(self, cost: int, *, measured: bool) -> None:
        self._bill.cost_nano, self._bill.measured = cost, measured


def _nonsense(usage: Usage) -> bool:
    counts = (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.cache_write_hour, usage.reasoning)
    return min(counts) < 0 or (usage.cost_nano is not None and usage.cost_nano < 0)
