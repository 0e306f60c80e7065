"""Coalescing by key, on its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from knowledge_system.inference.single_flight import SingleFlight


async def test_callers_share_one_result_and_one_of_them_led() -> None:
    flights: SingleFlight[int] = SingleFlight()
    runs = []

    async def work() -> int:
        runs.append(1)
        await asyncio.sleep(0)
        return 7

    results = await asyncio.gather(*(flights.do("k", work) for _ in range(10)))
    assert [value for value, _ in results] == [7] * 10
    assert sum(led for _, led in results) == 1
    assert (len(runs), len(flights)) == (1, 0)


async def test_keys_do_not_share() -> None:
    flights: SingleFlight[str] = SingleFlight()

    def work(value: str) -> Any:
        async def run() -> str:
            return value

        return run

    assert await asyncio.gather(*(flights.do(key, work(key)) for key in "ab")) == [("a", True), ("b", True)]


async def test_errors_reach_everybody_and_leave_no_slot() -> None:
    flights: SingleFlight[int] = SingleFlight()

    async def work() -> int:
        await asyncio.sleep(0)
        raise ValueError("boom")

    results = await asyncio.gather(*(flights.do("k", work) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    assert len(flights) == 0


async def test_t32_a_slot_is_removed_by_identity() -> None:
    """An abandoned flight that is slow to die must not remove the one that took its place."""
    flights: SingleFlight[str] = SingleFlight()
    dying, gate = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await dying.wait()
            raise
        raise AssertionError

    async def healthy() -> str:
        await gate.wait()
        return "new"

    first = asyncio.create_task(flights.do("k", stubborn))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    leader = asyncio.create_task(flights.do("k", healthy))
    await asyncio.sleep(0)
    dying.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(flights) == 1
    follower = asyncio.create_task(flights.do("k", healthy))
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(leader, follower) == [("new", True), ("new", False)]
