"""The ledger against arithmetic: two processes, any order of steps, each of them interrupted anywhere.

What may go wrong between two steps does: owners die, connections break, statements stop in the middle, holds expire,
months end, settlements come late or twice, limits change under way. After every step both processes must see the sums
that arithmetic gives, and money must be set aside exactly when it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tests.storage.conftest import POSTGRES
from tests.storage.samples import HandClock

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.inference import BudgetExhausted, Usage
from knowledge_system.domain.money import SENT, AuditEntry, BudgetLedger, Hold, Reservation, Settlement, Tier
from knowledge_system.storage.budget_standing import BudgetRules
from knowledge_system.storage.database import Database

LIMIT = 1_000
LEASE = timedelta(minutes=1)
STARTS = {Tier.LOCAL_FIRST: 0.8, Tier.LOCAL_ONLY: 0.9, Tier.EXHAUSTED: 1.0}
HYSTERESIS = 0.05
ORDER = list(Tier)

WHO = st.integers(0, 1)
INDEX = st.integers(0, 5)
STEPS = st.integers(1, 400)
BROKEN = (sqlite3.Error, OperationalError, KnowledgeError)


@dataclass
class Row:
    """One reservation: `held`, `expired` (charged in full) or `settled`."""

    month: str
    project: str
    operation: str
    amount: int
    ends: datetime
    cost: int
    state: str = "held"
    measured: bool = False
    entry: int = 0
    outcome: str = SENT


@dataclass
class Sums:
    """The ledger as arithmetic."""

    clock: HandClock
    rows: dict[str, Row] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=lambda: {"": LIMIT})
    frozen: bool = False
    told: Tier = Tier.NORMAL

    def month(self) -> str:
        return self.clock.now().strftime("%Y-%m")

    def taken(self, key: str = "") -> int:
        kind, _, name = key.partition(":")
        mine = (row for row in self.rows.values() if row.month == self.month())
        return sum(row.cost for row in mine if not kind or getattr(row, kind) == name)

    def fits(self, amount: int, project: str, operation: str) -> bool:
        keys = [key for key in ("", f"project:{project}", f"operation:{operation}") if key in self.limits]
        return not self.frozen and all(self.taken(key) + amount <= self.limits[key] for key in keys)

    def status(self) -> tuple[Any, ...]:
        rows = [row for row in self.rows.values() if row.month == self.month()]
        spent = [row for row in rows if row.state != "held"]
        return (
            self.month(),
            self.limits[""],
            sum(row.cost for row in spent),
            sum(row.cost for row in rows if row.state == "held"),
            sum(row.cost for row in spent if not row.measured),
            self.frozen,
            {key: limit for key, limit in self.limits.items() if key},
        )

    def tiers(self) -> list[Tier]:
        """Return the tiers that may be in force: which one depends on what was entered on the way here."""
        share = self.taken() / self.limits[""] if self.limits[""] else 1.0
        entered = [tier for tier, start in STARTS.items() if share >= start]
        kept = [tier for tier, start in STARTS.items() if share >= start - (HYSTERESIS if start < 1 else 0)]
        lowest, highest = ([Tier.NORMAL, *some][-1] for some in (entered, kept))
        return ORDER[ORDER.index(lowest) : ORDER.index(highest) + 1]


class Spending(RuleBasedStateMachine):
    """Two processes that share one ledger."""

    url = ""
    hang_up: Callable[[int], None] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = HandClock()
        self.clock.moment = datetime(2026, 5, 30, tzinfo=UTC)
        self.sums = Sums(self.clock)
        self.databases = [self.opened(), self.opened()]
        self.open: list[Reservation] = []
        self.done: list[tuple[Reservation, Settlement]] = []

    def opened(self) -> Database:
        return self.do(Database.open(self.url, self.clock))

    def ledger(self, who: int) -> BudgetLedger:
        return self.ledgers[who]

    @property
    def databases(self) -> list[Database]:
        return self._databases

    @databases.setter
    def databases(self, databases: list[Database]) -> None:
        self._databases = databases
        self.ledgers = [one.engine_state(BudgetRules(LIMIT)).ledger for one in databases]

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.do(self.reports_agree())
        finally:
            for database in self.databases:
                self.do(database.close())
            self.runner.close()

    async def reports_agree(self) -> None:
        """Compare the cost report and the audit log with the reservations: every cent and every call is in both."""
        async with self.databases[0].connections.read() as connection:
            cost = await connection.scalar(text("SELECT coalesce(sum(cost_nano), 0) FROM cost_tracking"))
            entries = (await connection.execute(text("SELECT id, cost_nano, outcome FROM audit_log"))).all()
        assert cost == sum(row.cost for row in self.sums.rows.values() if row.state != "held")
        written = {entry.id: (entry.cost_nano, entry.outcome) for entry in entries}
        for row in self.sums.rows.values():
            if row.entry:
                cost = row.cost if row.state == "settled" else row.amount
                assert written[row.entry] == (cost, row.outcome)

    @contextlib.contextmanager
    def interrupted(self, who: int, steps: int) -> Iterator[None]:
        """Stop whatever this process does next after so many steps of the database; a server hangs up at once."""
        connections = self.databases[who].connections
        if self.hang_up is not None:
            connection = connections._turns._runner._connection
            if connection is not None:
                self.hang_up(connection.info.backend_pid)
            try:
                yield
            finally:
                with contextlib.suppress(*BROKEN):  # whoever is next finds a new connection
                    nothing = Reservation("none", 0, "", self.clock.now())
                    self.do(self.ledger(who).settle(nothing, Settlement(0, None, "")))
            return
        left = [steps]

        def stop() -> int:
            left[0] -= 1
            return left[0] == 0

        with connections._decisions.connect() as pooled:
            ours = [connections._turns._runner._connection, pooled.connection.driver_connection]
        for one in filter(None, ours):
            one.set_progress_handler(stop, 1)
        try:
            yield
        finally:
            for one in filter(None, ours):
                one.set_progress_handler(None, 1)

    def hold(self, amount: int, project: str, operation: str) -> Hold:
        entry = AuditEntry(self.clock.now(), "model-call", operation, "groq", project=project)
        return Hold(amount, "groq", "model", operation, project, LEASE, entry)

    def reserved(self, hold: Hold, reservation: Reservation) -> None:
        row = Row(reservation.month, hold.project, hold.operation, hold.amount_nano, self.clock.now() + LEASE, 0)
        self.sums.rows[reservation.id] = replace(row, cost=hold.amount_nano, entry=reservation.entry)
        self.open.append(reservation)

    def settled(self, reservation: Reservation, settlement: Settlement) -> None:
        row = self.sums.rows[reservation.id]
        row.cost, row.state, row.measured = settlement.cost_nano, "settled", settlement.measured
        row.outcome = settlement.outcome

    @rule(who=WHO, amount=st.integers(0, LIMIT), project=st.sampled_from("ab"), operation=st.sampled_from(["x", "y"]))
    def reserve(self, who: int, amount: int, project: str, operation: str) -> None:
        hold = self.hold(amount, project, operation)
        fits = self.sums.fits(amount, project, operation)
        try:
            reservation = self.do(self.ledger(who).reserve(hold))
        except BudgetExhausted:
            assert not fits, "refused while money was free"
            return
        assert fits, "admitted past a limit"
        self.reserved(hold, reservation)

    @rule(who=WHO, amount=st.integers(0, 60), project=st.sampled_from("ab"))
    def reserve_a_little(self, who: int, amount: int, project: str) -> None:
        self.reserve(who, amount, project, "x")

    @precondition(lambda self: self.open)
    @rule(who=WHO, index=INDEX, share=st.sampled_from([0, 0.1, 0.5, 1, 1.5]), measured=st.booleans())
    def settle(self, who: int, index: int, share: float, measured: bool) -> None:  # noqa: FBT001 -- drawn
        reservation = self.open.pop(index % len(self.open))
        settlement = Settlement(round(reservation.amount_nano * share), Usage(input=1), "answered", measured=measured)
        self.do(self.ledger(who).settle(reservation, settlement))
        self.settled(reservation, settlement)
        self.done.append((reservation, settlement))

    @precondition(lambda self: self.done)
    @rule(who=WHO, index=INDEX, cost=st.integers(0, LIMIT))
    def settle_again(self, who: int, index: int, cost: int) -> None:
        reservation, _ = self.done[index % len(self.done)]
        self.do(self.ledger(who).settle(reservation, Settlement(cost, None, "twice")))

    @precondition(lambda self: self.open)
    @rule(index=INDEX)
    def the_owner_dies(self, index: int) -> None:
        self.open.pop(index % len(self.open))

    @precondition(lambda self: self.open)
    @rule(who=WHO, index=INDEX)
    def renew(self, who: int, index: int) -> None:
        reservation = self.open[index % len(self.open)]
        self.do(self.ledger(who).renew(reservation, LEASE))
        row = self.sums.rows[reservation.id]
        if row.state == "held":
            row.ends = self.clock.now() + LEASE

    @rule(seconds=st.sampled_from([1, 30, 61, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)

    @rule()
    def the_month_ends(self) -> None:
        first = self.clock.moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        self.clock.moment = (first + timedelta(days=32)).replace(day=1)

    @rule(who=WHO)
    def sweep(self, who: int) -> None:
        dead = [row for row in self.sums.rows.values() if row.state == "held" and row.ends <= self.clock.now()]
        assert self.do(self.ledger(who).sweep()) == len(dead)
        for row in dead:
            row.state = "expired"

    @rule(
        who=WHO,
        key=st.sampled_from(["", "project:a", "operation:x"]),
        amount=st.one_of(st.none(), st.integers(0, 2 * LIMIT)),
    )
    def set_limit(self, who: int, key: str, amount: int | None) -> None:
        if amount is None and not key:
            return
        self.do(self.ledger(who).change("set-limit", key, amount))
        self.sums.limits.pop(key, None)
        if amount is not None:
            self.sums.limits[key] = amount

    @rule(who=WHO, action=st.sampled_from(["freeze", "unfreeze", "unfreeze", "recompute"]))
    def change(self, who: int, action: str) -> None:
        self.do(self.ledger(who).change(action))
        self.sums.frozen = {"freeze": True, "unfreeze": False}.get(action, self.sums.frozen)

    @rule(who=WHO)
    def ask_for_the_tier(self, who: int) -> None:
        told = self.do(self.ledger(who).crossed())
        assert told is not self.sums.told, "told twice"
        self.sums.told = told or self.sums.told
        assert self.do(self.ledger(who).status()).tier is self.sums.told, "not told"
        assert self.do(self.ledger(1 - who).crossed()) is None, "told to both"

    @rule(who=WHO)
    def restart(self, who: int) -> None:
        self.do(self.databases[who].close())
        self.databases = [self.opened() if one == who else database for one, database in enumerate(self.databases)]

    @rule(who=WHO, amount=st.integers(0, LIMIT), steps=STEPS)
    def reserve_and_break(self, who: int, amount: int, steps: int) -> None:
        """Reserve; an owner who hears nothing but that it failed sends nothing, whether the money is held or not."""
        hold = self.hold(amount, "a", "x")
        fits = self.sums.fits(amount, "a", "x")
        try:
            with self.interrupted(who, steps):
                reservation = self.do(self.ledger(who).reserve(hold))
        except BudgetExhausted:
            assert not fits, "refused while money was free"
        except BROKEN:
            self.do(self.adopt(hold))
        else:
            assert fits, "admitted past a limit"
            self.reserved(hold, reservation)

    async def adopt(self, hold: Hold) -> None:
        """Take note of a hold whose owner was not told of it; it has an entry unless a server broke off in between."""
        async with self.databases[0].connections.read() as connection:
            held = set((await connection.scalars(text("SELECT id FROM budget_reservations"))).all())
            entries = set((await connection.scalars(text("SELECT id FROM audit_log WHERE kind = 'model-call'"))).all())
        entries -= {row.entry for row in self.sums.rows.values()}
        new = held - self.sums.rows.keys()
        assert len(entries) <= len(new) <= 1
        assert entries or not new or self.hang_up, "held without an entry"
        for key in new:
            reservation = Reservation(key, hold.amount_nano, self.sums.month(), self.clock.now(), *entries)
            self.reserved(hold, reservation)
            self.open.remove(reservation)

    @precondition(lambda self: self.open)
    @rule(who=WHO, index=INDEX, steps=STEPS)
    def settle_and_break(self, who: int, index: int, steps: int) -> None:
        """Settle; where that was interrupted, do what the engine does: settle again."""
        reservation = self.open.pop(index % len(self.open))
        settlement = Settlement(reservation.amount_nano // 2, Usage(input=1), "answered")
        with self.interrupted(who, steps), contextlib.suppress(*BROKEN):
            self.do(self.ledger(who).settle(reservation, settlement))
        self.do(self.settled_at_last(who, reservation, settlement))
        self.settled(reservation, settlement)

    async def settled_at_last(self, who: int, reservation: Reservation, settlement: Settlement) -> None:
        with contextlib.suppress(KnowledgeError):
            await self.ledger(who).settle(reservation, settlement)
            return
        await self.ledger(who).settle(reservation, settlement)

    @invariant()
    def both_see_what_arithmetic_gives(self) -> None:
        for ledger in self.ledgers:
            seen = self.do(ledger.status())
            sums = (seen.month, seen.limit_nano, seen.settled_nano, seen.reserved_nano, seen.unmeasured_nano)
            assert (*sums, seen.frozen, dict(seen.limits)) == self.sums.status()
            assert seen.tier in self.sums.tiers()


SETTINGS = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.slow
def test_two_processes_agree_with_arithmetic_on_sqlite(migrated_sqlite: Path, tmp_path: Path) -> None:
    def machine() -> Spending:
        path = tmp_path / f"{uuid.uuid4().hex}.db"
        shutil.copy(migrated_sqlite, path)
        Spending.url, Spending.hang_up = f"sqlite:///{path}", None
        return Spending()

    run_state_machine_as_test(machine, settings=SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [POSTGRES])
def test_two_processes_agree_with_arithmetic_on_postgres(engine: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(engine)
    template = request.getfixturevalue("migrated_postgres")
    names: list[str] = []

    def hang_up(process: int) -> None:
        server.execute(f"SELECT pg_terminate_backend({process}, 1000)")

    def machine() -> Spending:
        while names:
            server.drop(names.pop())
        names.append(server.create(template))
        Spending.url, Spending.hang_up = server.url(names[0]), staticmethod(hang_up)
        return Spending()

    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=10, stateful_step_count=25))
