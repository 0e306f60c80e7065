"""A service that runs while the month changes: what was spent stays in its month, the next one begins with nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.interfaces.http.conftest import configure
from tests.interfaces.http.inside import inside
from tests.storage.samples import HandClock

from knowledge_system.testing.scripted_provider import ScriptedProvider

COST = 0.00012
"""Dollars of one answer of the scripted provider."""


async def test_a_new_month_has_its_whole_budget_and_a_report_of_its_own(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    clock = HandClock()
    clock.moment = datetime(2026, 5, 31, 23, 59, tzinfo=UTC)
    configure(tmp_path / "home", provider, monthly=0.01)
    async with inside(tmp_path / "home", provider, clock=clock) as door:
        body = {"prompt": "Say hello.", "sensitivity": "public", "max_output": 10}
        await door.json("POST", "/v1/infer", json=body)
        await door.json("POST", "/internal/budget/freeze")
        await door.json("POST", "/v1/infer", 403, json={**body, "prompt": "Say it again."})
        await door.json("POST", "/internal/budget/unfreeze")
        may = await door.json("GET", "/v1/budget")
        assert may["spend"] == pytest.approx(COST)

        clock.advance(minutes=2)
        june, report = await door.json("GET", "/v1/budget"), await door.json("GET", "/v1/costs/report?period=month")
        assert (june["spend"], june["reserved"], june["percentage"], june["tier"]) == (0, 0, 0, "normal")
        assert (report["from"], report["totals"]["cost"]) == ("2026-06-01T00:00:00Z", 0)
        assert report["partial"]

        await door.json("POST", "/v1/infer", json={**body, "prompt": "Say it in June."})
        clock.advance(seconds=1)
        june, report = await door.json("GET", "/v1/budget"), await door.json("GET", "/v1/costs/report?period=month")
        assert june["spend"] == pytest.approx(COST)
        assert report["totals"]["cost"] == pytest.approx(COST)
        assert june["limit"] == may["limit"]


async def test_a_budget_that_was_spent_is_there_again_on_the_first_of_the_month(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    clock = HandClock()
    clock.moment = datetime(2026, 5, 31, 23, 59, tzinfo=UTC)
    configure(tmp_path / "home", provider, monthly=0.00035)
    async with inside(tmp_path / "home", provider, clock=clock) as door:
        bodies = [{"prompt": f"Say {number}.", "sensitivity": "public", "max_output": 10} for number in range(3)]
        await door.json("POST", "/v1/infer", json=bodies[0])
        refused = await door.json("POST", "/v1/infer", 403, json=bodies[1])
        assert refused["code"] == "budget-exhausted", "what is left does not hold what the call may cost"

        clock.advance(minutes=2)
        await door.json("POST", "/v1/infer", json=bodies[2])
        assert (await door.json("GET", "/v1/budget"))["spend"] == pytest.approx(COST)


async def test_reservations_of_crashed_callers_are_looked_for_in_a_service(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    async with inside(tmp_path / "home", provider):
        await asyncio.sleep(0)
        assert "upkeep sweep-reservations" in {task.get_name() for task in asyncio.all_tasks()}
