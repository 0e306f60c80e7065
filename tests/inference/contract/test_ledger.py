"""What every BudgetLedger promises. The ledger begins empty, in May 2026, with a limit of 1,000,000."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.inference.contract.conftest import SettableClock, World

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import BudgetExhausted, Usage
from knowledge_system.domain.money import AuditLog, BudgetLedger, Hold, Reservation, Settlement, Tier

LIMIT = 1_000_000
LEASE = timedelta(minutes=1)


def hold(amount: int, project: str = "api", operation: str = "extract") -> Hold:
    return Hold(amount, "groq", "model-a", operation, project, LEASE)


def paid(cost: int, *, measured: bool = True) -> Settlement:
    return Settlement(cost, Usage(input=1), "answered", measured=measured)


async def admitted(ledger: BudgetLedger, amounts: Any) -> int:
    results = await asyncio.gather(*(ledger.reserve(hold(amount)) for amount in amounts), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BudgetExhausted)]
    granted = [result for result in results if not isinstance(result, BaseException)]
    assert len(refused) + len(granted) == len(results)
    return len(granted)


async def test_an_empty_ledger_has_spent_nothing(ledger: BudgetLedger) -> None:
    status = await ledger.status()
    assert (status.month, status.limit_nano) == ("2026-05", LIMIT)
    assert (status.settled_nano, status.reserved_nano, status.unmeasured_nano) == (0, 0, 0)
    assert (status.tier, status.frozen, status.offline, dict(status.limits)) == (Tier.NORMAL, False, False, {})


async def test_a_reservation_counts_until_it_is_settled_to_the_real_cost(ledger: BudgetLedger) -> None:
    reservation = await ledger.reserve(hold(300))
    assert (reservation.amount_nano, reservation.month) == (300, "2026-05")
    assert (await ledger.status()).reserved_nano == 300
    await ledger.settle(reservation, paid(120))
    status = await ledger.status()
    assert (status.settled_nano, status.reserved_nano, status.unmeasured_nano) == (120, 0, 0)


async def test_settling_twice_is_settling_once(ledger: BudgetLedger) -> None:
    reservation = await ledger.reserve(hold(300))
    await ledger.settle(reservation, paid(120))
    await ledger.settle(reservation, paid(250))
    assert (await ledger.status()).settled_nano == 120


async def test_t16_an_unmeasured_cost_is_told_apart(ledger: BudgetLedger) -> None:
    reservation = await ledger.reserve(hold(300))
    await ledger.settle(reservation, paid(300, measured=False))
    status = await ledger.status()
    assert (status.settled_nano, status.unmeasured_nano) == (300, 300)


async def test_a_released_reservation_frees_all_of_it(ledger: BudgetLedger) -> None:
    reservation = await ledger.reserve(hold(LIMIT))
    await ledger.settle(reservation, Settlement(0, None, "released"))
    assert (await ledger.reserve(hold(LIMIT))).amount_nano == LIMIT


async def test_the_limit_is_reached_exactly_and_never_passed(ledger: BudgetLedger) -> None:
    await ledger.reserve(hold(LIMIT - 1))
    await ledger.reserve(hold(1))
    with pytest.raises(BudgetExhausted) as refusal:
        await ledger.reserve(hold(1))
    assert refusal.value.hint
    assert await ledger.reserve(hold(0))


async def test_a_negative_reservation_is_refused(ledger: BudgetLedger) -> None:
    with pytest.raises(UsageError):
        await ledger.reserve(hold(-1))
    assert (await ledger.status()).reserved_nano == 0


@pytest.mark.parametrize("callers", [1, 4, 32, 100, 200])
async def test_t01_concurrent_callers_get_exactly_what_the_limit_holds(ledger: BudgetLedger, callers: int) -> None:
    assert await admitted(ledger, [LIMIT // 10] * callers) == min(callers, 10)
    assert (await ledger.status()).reserved_nano <= LIMIT


async def test_t01_callers_that_settle_below_their_hold_make_room_for_others(ledger: BudgetLedger) -> None:
    async def call() -> bool:
        try:
            reservation = await ledger.reserve(hold(LIMIT // 10))
        except BudgetExhausted:
            return False
        await asyncio.sleep(0)
        await ledger.settle(reservation, paid(LIMIT // 100))
        return True

    rounds = [await asyncio.gather(*(call() for _ in range(5))) for _ in range(10)]
    assert all(all(results) for results in rounds), "money was free and a call was refused"
    status = await ledger.status()
    assert (status.settled_nano, status.reserved_nano) == (LIMIT // 2, 0)


async def test_t07_concurrent_repeated_settlements_never_inflate_the_counter(ledger: BudgetLedger) -> None:
    reservation = await ledger.reserve(hold(500))
    await asyncio.gather(*(ledger.settle(reservation, paid(100)) for _ in range(20)))
    assert (await ledger.status()).settled_nano == 100


async def test_t08_an_expired_hold_counts_is_swept_at_its_worst_case_and_reported(
    ledger: BudgetLedger, clock: SettableClock
) -> None:
    await ledger.reserve(hold(400))
    clock.advance(seconds=61)
    before = await ledger.status()
    assert before.settled_nano + before.reserved_nano == 400
    assert await ledger.sweep() == 1
    after = await ledger.status()
    assert (after.settled_nano, after.reserved_nano, after.unmeasured_nano) == (400, 0, 400)
    assert await ledger.sweep() == 0


async def test_t08_a_renewed_hold_is_not_swept(ledger: BudgetLedger, clock: SettableClock) -> None:
    reservation = await ledger.reserve(hold(400))
    clock.advance(seconds=50)
    await ledger.renew(reservation, LEASE)
    clock.advance(seconds=50)
    assert await ledger.sweep() == 0
    clock.advance(seconds=11)
    assert await ledger.sweep() == 1


async def test_t08_a_settlement_after_the_sweep_corrects_the_charge_once(
    ledger: BudgetLedger, clock: SettableClock
) -> None:
    reservation = await ledger.reserve(hold(400))
    clock.advance(seconds=61)
    await ledger.sweep()
    await ledger.settle(reservation, paid(50))
    await ledger.settle(reservation, paid(400))
    status = await ledger.status()
    assert (status.settled_nano, status.reserved_nano, status.unmeasured_nano) == (50, 0, 0)


async def test_renewing_what_is_settled_or_swept_brings_nothing_back(
    ledger: BudgetLedger, clock: SettableClock
) -> None:
    settled = await ledger.reserve(hold(10))
    await ledger.settle(settled, paid(5))
    swept = await ledger.reserve(hold(20))
    clock.advance(seconds=61)
    await ledger.sweep()
    await ledger.renew(settled, LEASE)
    await ledger.renew(swept, LEASE)
    status = await ledger.status()
    assert (status.settled_nano, status.reserved_nano) == (25, 0)


async def test_t06_a_late_settlement_lands_in_the_month_of_its_reservation(
    ledger: BudgetLedger, clock: SettableClock
) -> None:
    clock.moment = datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    reservation = await ledger.reserve(hold(LIMIT))
    clock.moment = datetime(2026, 6, 1, tzinfo=UTC)
    assert (await ledger.status()).month == "2026-06"
    assert (await ledger.reserve(hold(LIMIT))).month == "2026-06"
    await ledger.settle(reservation, paid(70))
    may, june = await ledger.status("2026-05"), await ledger.status()
    assert (may.settled_nano, may.reserved_nano) == (70, 0)
    assert (june.settled_nano, june.reserved_nano) == (0, LIMIT)


async def test_t06_months_begin_in_utc_wherever_the_clock_stands(ledger: BudgetLedger, clock: SettableClock) -> None:
    clock.moment = datetime(2026, 6, 1, 1, 30, tzinfo=UTC).astimezone(
        datetime.now(UTC).astimezone().tzinfo  # the machine's own zone
    )
    assert (await ledger.reserve(hold(1))).month == "2026-06"
    ahead = datetime.fromisoformat("2026-07-01T01:30:00+02:00")
    clock.moment = ahead
    assert (await ledger.reserve(hold(1))).month == "2026-06"


async def test_a_clock_set_back_gives_no_money_back(ledger: BudgetLedger, clock: SettableClock) -> None:
    await ledger.reserve(hold(LIMIT))
    clock.advance(days=-3)
    with pytest.raises(BudgetExhausted):
        await ledger.reserve(hold(1))


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        ("project:api", hold(1, project="api"), hold(1, project="web")),
        ("operation:extract", hold(1, operation="extract"), hold(1, operation="title")),
    ],
)
async def test_limits_of_a_project_or_operation_stand_beside_the_global_one(
    ledger: BudgetLedger, key: str, same: Hold, other: Hold
) -> None:
    await ledger.change("set-limit", key, 2, actor="test")
    await ledger.reserve(same)
    await ledger.reserve(same)
    with pytest.raises(BudgetExhausted):
        await ledger.reserve(same)
    await ledger.reserve(other)
    assert dict((await ledger.status()).limits) == {key: 2}
    await ledger.change("set-limit", key, None, actor="test")
    await ledger.reserve(same)
    assert dict((await ledger.status()).limits) == {}


async def test_impossible_changes_are_refused_and_change_nothing(ledger: BudgetLedger) -> None:
    before = await ledger.status()
    for arguments in [("explode",), ("set-limit", "", None), ("set-limit", "", -1), ("set-limit", "planet:mars", 1)]:
        with pytest.raises(UsageError):
            await ledger.change(*arguments)
    assert await ledger.status() == before


async def test_freezing_stops_all_spending_and_is_undone(ledger: BudgetLedger) -> None:
    running = await ledger.reserve(hold(10))
    assert (await ledger.change("freeze", actor="ops")).frozen
    for amount in (0, 1):
        with pytest.raises(BudgetExhausted, match="frozen"):
            await ledger.reserve(hold(amount))
    await ledger.settle(running, paid(5))
    assert (await ledger.status()).settled_nano == 5
    assert not (await ledger.change("unfreeze", actor="ops")).frozen
    await ledger.reserve(hold(1))


async def test_offline_mode_is_for_everybody_and_is_undone(ledger: BudgetLedger, audit: AuditLog) -> None:
    assert not (await ledger.status()).offline
    assert (await ledger.change("offline", actor="ops")).offline
    assert (await ledger.change("offline", actor="ops")).offline
    assert (await ledger.status()).offline
    assert (await ledger.reserve(hold(1))).amount_nano == 1, "who may be asked is routing's question, not the ledger's"
    assert not (await ledger.change("online", actor="ops")).offline
    assert not (await ledger.status()).offline
    entries, _ = await audit.entries(10)
    assert [entry.kind for entry in entries] == ["budget-online", "budget-offline", "budget-offline"]


async def test_offline_and_frozen_are_two_switches(ledger: BudgetLedger) -> None:
    await ledger.change("offline", actor="ops")
    await ledger.change("freeze", actor="ops")
    status = await ledger.change("unfreeze", actor="ops")
    assert (status.offline, status.frozen) == (True, False)


async def test_changes_are_audited_with_their_actor(ledger: BudgetLedger, audit: AuditLog) -> None:
    await ledger.change("freeze", actor="alice")
    await ledger.change("unfreeze", actor="bob")
    await ledger.change("set-limit", "", 5, actor="carol")
    entries, _ = await audit.entries(10)
    assert [(entry.kind, entry.actor) for entry in entries] == [
        ("budget-set-limit", "carol"),
        ("budget-unfreeze", "bob"),
        ("budget-freeze", "alice"),
    ]


async def test_t05_recomputing_keeps_every_cent(ledger: BudgetLedger) -> None:
    await ledger.reserve(hold(100))
    await ledger.settle(await ledger.reserve(hold(200)), paid(150))
    before = await ledger.status()
    assert await ledger.change("recompute", actor="ops") == before


async def spend(ledger: BudgetLedger, share: float) -> None:
    amount = round(LIMIT * share)
    await ledger.settle(await ledger.reserve(hold(amount)), paid(amount))


async def test_t10_each_tier_is_told_exactly_once_as_spending_grows(ledger: BudgetLedger) -> None:
    told = []
    for _ in range(100):
        await spend(ledger, 0.01)
        told += [tier for _ in range(3) if (tier := await ledger.crossed()) is not None]
    assert told == [Tier.LOCAL_FIRST, Tier.LOCAL_ONLY, Tier.EXHAUSTED]


@pytest.mark.parametrize(
    ("percent", "tier"),
    [
        (79, Tier.NORMAL),
        (80, Tier.LOCAL_FIRST),
        (89, Tier.LOCAL_FIRST),
        (90, Tier.LOCAL_ONLY),
        (99, Tier.LOCAL_ONLY),
        (100, Tier.EXHAUSTED),
    ],
)
async def test_t10_tiers_begin_at_their_percent_of_spent_and_reserved(
    ledger: BudgetLedger, percent: int, tier: Tier
) -> None:
    await spend(ledger, 0.5)
    await ledger.reserve(hold(round(LIMIT * percent / 100) - LIMIT // 2))
    assert (await ledger.status()).tier is tier


async def test_t10_a_change_is_told_to_one_of_many_callers(ledger: BudgetLedger) -> None:
    await spend(ledger, 0.85)
    told = await asyncio.gather(*(ledger.crossed() for _ in range(20)))
    assert [tier for tier in told if tier is not None] == [Tier.LOCAL_FIRST]


async def test_hysteresis_a_hold_that_comes_and_goes_does_not_flicker(ledger: BudgetLedger) -> None:
    await spend(ledger, 0.78)
    told = []
    for _ in range(10):
        reservation = await ledger.reserve(hold(LIMIT // 33))
        told.append(await ledger.crossed())
        await ledger.settle(reservation, Settlement(0, None, "released"))
        told.append(await ledger.crossed())
    assert [tier for tier in told if tier is not None] == [Tier.LOCAL_FIRST]


async def test_a_tier_is_left_when_the_money_is_clearly_back(ledger: BudgetLedger) -> None:
    reservation = await ledger.reserve(hold(round(LIMIT * 0.95)))
    assert await ledger.crossed() is Tier.LOCAL_ONLY
    await ledger.settle(reservation, paid(LIMIT // 10))
    assert await ledger.crossed() is Tier.NORMAL
    assert await ledger.crossed() is None


async def test_a_raised_limit_and_a_new_month_leave_the_tier_at_once(
    ledger: BudgetLedger, clock: SettableClock
) -> None:
    await spend(ledger, 0.79)
    await spend(ledger, 0.03)
    assert await ledger.crossed() is Tier.LOCAL_FIRST
    await ledger.change("set-limit", "", round(LIMIT * 1.05), actor="test")
    assert await ledger.crossed() is Tier.NORMAL
    await ledger.change("set-limit", "", LIMIT, actor="test")
    assert await ledger.crossed() is Tier.LOCAL_FIRST
    clock.moment = datetime(2026, 6, 1, tzinfo=UTC)
    assert await ledger.crossed() is Tier.NORMAL
    assert await ledger.crossed() is None


async def test_a_limit_of_nothing_is_exhausted_from_the_start(ledger: BudgetLedger) -> None:
    status = await ledger.change("set-limit", "", 0, actor="test")
    assert status.tier is Tier.EXHAUSTED
    with pytest.raises(BudgetExhausted):
        await ledger.reserve(hold(1))


class Sums:
    """The ledger as arithmetic: what is held and what is spent, by month. A crash is a reservation nobody settles."""

    def __init__(self, world: World) -> None:
        self.ledger, self.clock = world.ledger, world.clock
        self.held: dict[str, tuple[str, int, datetime]] = {}
        self.spent: Counter[str] = Counter()
        self.open: list[Reservation] = []

    def month(self) -> str:
        return self.clock.now().strftime("%Y-%m")

    def reserved(self, month: str) -> int:
        return sum(amount for own, amount, _ in self.held.values() if own == month)

    async def reserve(self, amount: int, _: int) -> None:
        free = LIMIT - self.reserved(self.month()) - self.spent[self.month()]
        try:
            reservation = await self.ledger.reserve(hold(amount))
        except BudgetExhausted:
            assert amount > free, "refused while money was free"
            return
        assert amount <= free, "admitted past the limit"
        self.held[reservation.id] = (self.month(), amount, self.clock.now() + LEASE)
        self.open.append(reservation)

    async def settle(self, amount: int, index: int) -> None:
        if index >= len(self.open):
            return
        reservation = self.open.pop(index)
        cost = min(amount, reservation.amount_nano)
        await self.ledger.settle(reservation, paid(cost))
        charged = self.held.pop(reservation.id, None) is None
        self.spent[reservation.month] += cost - (reservation.amount_nano if charged else 0)

    async def crash(self, _: int, index: int) -> None:
        del self.open[index : index + 1]

    async def renew(self, _: int, index: int) -> None:
        for reservation in self.open[index : index + 1]:
            await self.ledger.renew(reservation, LEASE)
            if reservation.id in self.held:
                month, amount, _ends = self.held[reservation.id]
                self.held[reservation.id] = (month, amount, self.clock.now() + LEASE)

    async def sweep(self, _: int, __: int) -> None:
        self.clock.advance(seconds=30)
        dead = [name for name, (_, _, ends) in self.held.items() if ends <= self.clock.now()]
        assert await self.ledger.sweep() == len(dead)
        for name in dead:
            month, amount, _ends = self.held.pop(name)
            self.spent[month] += amount

    async def next_month(self, _: int, __: int) -> None:
        self.clock.advance(days=31)

    async def check(self, month: str) -> None:
        status = await self.ledger.status(month)
        assert (status.settled_nano, status.reserved_nano) == (self.spent[month], self.reserved(month))
        assert status.settled_nano + status.reserved_nano <= LIMIT


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "crash", "renew", "sweep", "next_month"]),
        st.integers(0, LIMIT),
        st.integers(0, 5),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_the_ledger_agrees_with_arithmetic_whatever_crashes_in_between(world: World, steps: list) -> None:
    """The ledger is one for all examples; each begins in an empty year with nothing held."""
    world.clock.moment = datetime(world.clock.moment.year + 5, 1, 1, tzinfo=UTC)
    await world.ledger.sweep()
    sums = Sums(world)
    for action, amount, index in steps:
        month = sums.month()
        await getattr(sums, action)(amount, index)
        await sums.check(month)
        await sums.check(sums.month())
