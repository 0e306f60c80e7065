"""The engine's shared state beyond its contract: several processes, crashes, restarts, reports and plans."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, inspect, text
from tests.storage.samples import HandClock

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import BreakerOpen, BudgetExhausted, Usage
from knowledge_system.domain.money import AuditEntry, BreakerPhase, BreakerRule, Hold, Settlement, Tier
from knowledge_system.storage.budget_standing import BudgetRules
from knowledge_system.storage.connections import parse_url
from knowledge_system.storage.database import Database
from knowledge_system.storage.engine_queries import ENGINE_HOT_QUERIES
from knowledge_system.storage.schema import REVISIONS
from knowledge_system.storage.upgrade import HEAD, migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from knowledge_system.storage.database import EngineState

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 4
AMOUNT = 1_000
LIMIT = 10 * AMOUNT
HOLD = Hold(AMOUNT, "groq", "model-a", "extract", "api", timedelta(minutes=1))
RULE = BreakerRule(failure_threshold=1, reset_timeout=0, half_open_requests=3)
TABLES = {
    "audit_log",
    "breaker_permits",
    "breaker_state",
    "budget_reservations",
    "budget_settings",
    "budget_tiers",
}


@pytest.fixture
def state(database: Database) -> EngineState:
    return database.engine_state(BudgetRules(LIMIT))


@pytest.fixture
async def other(url: str, clock: HandClock, database: Database) -> AsyncIterator[EngineState]:
    """The same state, as another process on the same database sees it."""
    del database  # the first to open creates the tables
    opened = await Database.open(url, clock)
    yield opened.engine_state(BudgetRules(LIMIT))
    await opened.close()


@contextmanager
def started(url: str, action: str, count: int = PROCESSES, limit: int = LIMIT) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes that have opened the database and wait for a line of input."""
    program = [sys.executable, str(ROOT / "tests" / "storage" / "sharing_process.py"), url, action, str(limit)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(program, env=environment, **pipes) for _ in range(count)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate()


def answers(children: list[subprocess.Popen[str]]) -> list[Any]:
    """Let all of them act at once; return what each one got."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return [json.loads(child.stdout.readline()) for child in children if child.stdout is not None]


def paid(cost: int, tokens: int = 1, *, measured: bool = True) -> Settlement:
    return Settlement(cost, Usage(input=tokens), "answered", measured=measured)


async def value(database: Database, query: str) -> Any:
    async with database.connections.read() as connection:
        return await connection.scalar(text(query))


async def test_t01_t09_four_processes_of_25_callers_spend_exactly_the_limit(url: str, database: Database) -> None:
    with started(url, "reserve") as children:
        assert sum(answers(children)) == 10
    status = await database.engine_state(BudgetRules(LIMIT)).ledger.status()
    assert (status.reserved_nano, status.settled_nano) == (LIMIT, 0)


async def test_t01_a_limit_between_two_calls_is_not_passed_by_a_cent(url: str, database: Database) -> None:
    limit = LIMIT + AMOUNT - 1
    with started(url, "reserve", limit=limit) as children:
        assert sum(answers(children)) == 10
    assert (await database.engine_state(BudgetRules(limit)).ledger.status()).reserved_nano == LIMIT


async def test_t08_kill_9_between_reservation_and_settlement(
    url: str, database: Database, state: EngineState, clock: HandClock
) -> None:
    with started(url, "hold", count=2) as children:
        answers(children)
        children[0].send_signal(signal.SIGKILL)
        children[0].wait()
        assert (await state.ledger.status()).reserved_nano == 2 * AMOUNT, "a dead owner's hold was given back"
    clock.advance(seconds=61)
    assert (await state.ledger.status()).reserved_nano == 2 * AMOUNT
    assert [await state.ledger.sweep(), await state.ledger.sweep()] == [2, 0]
    status = await state.ledger.status()
    assert (status.settled_nano, status.reserved_nano, status.unmeasured_nano) == (2 * AMOUNT, 0, 2 * AMOUNT)
    assert await value(database, "SELECT sum(cost_nano) FROM cost_tracking") == 2 * AMOUNT


async def test_t10_a_tier_is_told_to_one_caller_of_one_process(url: str, state: EngineState) -> None:
    await state.ledger.reserve(Hold(LIMIT * 85 // 100, "groq", "m", "extract", "api", timedelta(minutes=1)))
    with started(url, "crossed") as children:
        assert [tier for told in answers(children) for tier in told] == [Tier.LOCAL_FIRST]
    assert await state.ledger.crossed() is None


async def test_half_open_trials_are_counted_over_all_processes(url: str, state: EngineState) -> None:
    await state.breakers.failed(await state.breakers.admit("groq", RULE), RULE, "down")
    with started(url, "try") as children:
        assert sum(answers(children)) == RULE.half_open_requests


async def test_t23_another_process_sees_a_breaker_open_at_once(state: EngineState, other: EngineState) -> None:
    rule = BreakerRule(failure_threshold=2, reset_timeout=60_000)
    await state.breakers.failed(await state.breakers.admit("groq", rule), rule, "down")
    await other.breakers.failed(await other.breakers.admit("groq", rule), rule, "down")
    for one in (state, other):
        with pytest.raises(BreakerOpen):
            await one.breakers.admit("groq", rule)
    await other.breakers.reset("groq", "ops")
    assert not (await state.breakers.admit("groq", rule)).trial


async def test_state_survives_a_restart(url: str, clock: HandClock) -> None:
    first = await Database.open(url, clock)
    state = first.engine_state(BudgetRules(LIMIT))
    await state.ledger.change("set-limit", "project:api", 5 * AMOUNT, "ops")
    await state.ledger.change("freeze", actor="ops")
    await state.breakers.failed(await state.breakers.admit("groq", RULE), RULE, "down", 60.0)
    await first.close()
    second = await Database.open(url, clock)
    state = second.engine_state(BudgetRules(LIMIT))
    status = await state.ledger.status()
    assert (status.frozen, dict(status.limits)) == (True, {"project:api": 5 * AMOUNT})
    assert [one.phase for one in await state.breakers.status()] == [BreakerPhase.OPEN]
    assert len((await state.audit.entries(10))[0]) == 2
    await second.close()


async def test_an_absurd_retry_after_does_not_close_a_provider_for_ever(state: EngineState, clock: HandClock) -> None:
    await state.breakers.failed(await state.breakers.admit("groq", RULE), RULE, "down", 1e300)
    clock.advance(days=1)
    assert (await state.breakers.admit("groq", RULE)).trial


async def test_a_late_report_in_the_next_half_open_phase_means_nothing(state: EngineState, clock: HandClock) -> None:
    await state.breakers.failed(await state.breakers.admit("groq", RULE), RULE, "down")
    slow = await state.breakers.admit("groq", RULE)
    await state.breakers.failed(await state.breakers.admit("groq", RULE), RULE, "still down")
    clock.advance(seconds=1)
    await state.breakers.admit("groq", RULE)
    await state.breakers.succeeded(slow, RULE)
    await state.breakers.failed(slow, RULE, "late")
    assert [one.phase for one in await state.breakers.status()] == [BreakerPhase.HALF_OPEN]


async def test_a_limit_set_in_one_process_binds_the_other(state: EngineState, other: EngineState) -> None:
    await state.ledger.reserve(HOLD)
    await other.ledger.change("set-limit", "", AMOUNT, "ops")
    with pytest.raises(BudgetExhausted):
        await state.ledger.reserve(HOLD)
    await other.ledger.change("offline", actor="ops")
    assert (await state.ledger.status()).offline
    assert not (await state.ledger.change("online", actor="ops")).offline


async def test_settings_keep_their_history(database: Database, state: EngineState) -> None:
    for amount in (1, 2, None):
        await state.ledger.change("set-limit", "operation:title", amount, "ops")
    assert await value(database, "SELECT count(*) FROM budget_settings WHERE name = 'limit:operation:title'") == 3
    assert await value(database, "SELECT count(*) FROM budget_settings WHERE replaced_at IS NULL") == 1


async def test_without_rules_nothing_is_spent(database: Database) -> None:
    with pytest.raises(BudgetExhausted):
        await database.engine_state().ledger.reserve(HOLD)


async def test_shares_of_the_tiers_can_be_configured(database: Database) -> None:
    ledger = database.engine_state(BudgetRules(LIMIT, offline=True, tiers=(0.1, 0.5))).ledger
    assert (await ledger.status()).offline
    await ledger.reserve(HOLD)
    assert await ledger.crossed() is Tier.LOCAL_FIRST


async def test_sums_follow_what_other_processes_settle(state: EngineState, other: EngineState) -> None:
    for number in range(12):
        here, there = (state, other) if number % 2 else (other, state)
        await there.ledger.settle(await here.ledger.reserve(HOLD), paid(10, measured=number % 3 > 0))
        assert await state.ledger.status() == await other.ledger.status()
        assert (await state.ledger.status()).settled_nano == 10 * (number + 1)
    assert (await state.ledger.status()).unmeasured_nano == 40


async def test_t05_recomputing_anywhere_makes_everyone_sum_from_the_rows(
    database: Database, state: EngineState, other: EngineState
) -> None:
    await state.ledger.settle(await state.ledger.reserve(HOLD), paid(700))
    assert (await state.ledger.status()).settled_nano == 700
    async with database.connections.write() as connection:  # what a repair by hand would do
        await connection.execute(text("UPDATE budget_reservations SET cost_nano = 300"))
    await other.ledger.change("recompute", actor="ops")
    assert (await state.ledger.status()).settled_nano == 300


async def test_the_cost_report_agrees_with_the_ledger(database: Database, state: EngineState, clock: HandClock) -> None:
    clock.moment = datetime(2026, 5, 31, 23, 59, tzinfo=UTC)
    given_up, late, unsent, measured = [await state.ledger.reserve(HOLD) for _ in range(4)]
    clock.advance(minutes=5)
    await state.ledger.settle(measured, paid(120, 7))
    await state.ledger.settle(measured, paid(999, 7))
    await state.ledger.settle(unsent, Settlement(0, None, "released"))
    assert await state.ledger.sweep() == 2
    await state.ledger.settle(late, paid(50, 3))
    rows = "FROM cost_tracking WHERE created_at < '2026-06-01T00:00:00.000000Z'"
    assert await value(database, f"SELECT sum(cost_nano) {rows}") == AMOUNT + 120 + 50
    assert await value(database, f"SELECT sum(tokens) {rows}") == 10
    assert (await state.ledger.status("2026-05")).settled_nano == AMOUNT + 120 + 50
    assert (await state.ledger.status()).settled_nano == 0
    assert await value(database, "SELECT count(*) FROM cost_tracking") == 4  # two swept, one corrected, one settled
    await state.ledger.renew(given_up, timedelta(hours=1))
    assert (await state.ledger.status("2026-05")).reserved_nano == 0


@pytest.mark.parametrize("cost", [2**80, -5])
async def test_an_impossible_bill_is_kept_within_bounds(state: EngineState, cost: int) -> None:
    await state.ledger.settle(await state.ledger.reserve(HOLD), paid(cost, 2**70))
    settled = (await state.ledger.status()).settled_nano
    assert settled == (2**53 if cost > 0 else 0)
    with pytest.raises(BudgetExhausted):
        await state.ledger.reserve(Hold(2**80, "groq", "m", "extract", "api", timedelta(minutes=1)))


async def test_an_impossible_limit_is_refused(state: EngineState) -> None:
    with pytest.raises(UsageError):
        await state.ledger.change("set-limit", "", 2**80)


async def test_a_caller_that_gives_up_leaves_a_hold_that_expires(state: EngineState, clock: HandClock) -> None:
    tasks = [asyncio.create_task(state.ledger.reserve(HOLD)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await state.ledger.change("recompute")
    held = (await state.ledger.status()).reserved_nano
    assert held % AMOUNT == 0
    charged = 0
    while charged < held // AMOUNT or (await state.ledger.status()).reserved_nano:  # what was begun runs to its end
        clock.advance(minutes=2)
        charged += await state.ledger.sweep()
    assert charged <= len(tasks)


async def test_an_audit_page_needs_a_size(state: EngineState) -> None:
    with pytest.raises(UsageError):
        await state.audit.entries(0)


async def test_a_change_and_its_audit_entry_are_one_transaction(database: Database, state: EngineState) -> None:
    async with database.connections.write() as connection:
        await connection.execute(text("DROP TABLE audit_log"))
    with pytest.raises(Exception, match="audit_log"):
        await state.ledger.change("freeze", actor="ops")
    assert not (await state.ledger.status()).frozen


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_the_tables_come_and_go(engine: str, request: pytest.FixtureRequest) -> None:
    url = parse_url(request.getfixturevalue(f"{engine}_url"))
    plain = create_engine(url.set(drivername=url.drivername.replace("+aiosqlite", "")))
    seen = []
    for revision in (REVISIONS[REVISIONS.index("0003") - 1], HEAD, "0002", HEAD):
        migrate(url, revision)
        seen.append(TABLES & set(inspect(plain).get_table_names()))
    plain.dispose()
    assert seen == [set(), TABLES, set(), TABLES]


async def test_hot_queries_search_an_index_and_never_sort(database: Database, state: EngineState) -> None:
    for number in range(60):
        reservation = await state.ledger.reserve(
            Hold(1, "groq", "m", "extract", f"p{number % 5}", timedelta(minutes=1))
        )
        if number % 2:
            await state.ledger.settle(reservation, paid(1))
        await state.breakers.admit(f"provider-{number}", RULE)
        await state.audit.record(AuditEntry(at=datetime(2026, 6, 1, tzinfo=UTC), kind="model-call"))
        await state.ledger.change("set-limit", f"project:p{number}", 500)
    async with database.connections.write() as connection:
        await connection.execute(text("ANALYZE"))
    prefix = "EXPLAIN QUERY PLAN" if database.connections.sqlite else "EXPLAIN ANALYZE"
    plans = {}
    async with database.connections.read() as connection:
        for name, build in ENGINE_HOT_QUERIES.items():
            compiled = build().compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
            plans[name] = [row[-1] for row in await connection.exec_driver_sql(f"{prefix} {compiled}")]
    assert all(plans.values())
    if database.connections.sqlite:  # PostgreSQL rightly prefers to scan tables this small
        bad = {
            name: [line for line in lines if line.startswith("SCAN") or "TEMP" in line] for name, lines in plans.items()
        }
        assert not any(bad.values()), bad
