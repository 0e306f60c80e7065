"""One of several processes that share the engine's state; tells on its output what it got, after a line of input."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from tests.storage.samples import HandClock

from knowledge_system.domain.inference import BreakerOpen, BudgetExhausted
from knowledge_system.domain.money import BreakerRule, Hold
from knowledge_system.storage.budget_standing import BudgetRules
from knowledge_system.storage.database import Database, EngineState

CALLERS = 25
AMOUNT = 1_000
RULE = BreakerRule(failure_threshold=1, reset_timeout=0, half_open_requests=3)
HOLD = Hold(AMOUNT, "groq", "model-a", "extract", "api", timedelta(minutes=1))


async def granted(*calls: Coroutine[Any, Any, Any]) -> int:
    """Run all calls at once; return how many were not refused."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    unexpected = [one for one in results if isinstance(one, BaseException)]
    assert all(isinstance(one, BudgetExhausted | BreakerOpen) for one in unexpected), unexpected
    return len(results) - len(unexpected)


async def act(state: EngineState, action: str) -> Any:
    if action == "reserve":
        return await granted(*(state.ledger.reserve(HOLD) for _ in range(CALLERS)))
    if action == "try":
        return await granted(*(state.breakers.admit("groq", RULE) for _ in range(CALLERS)))
    if action == "hold":
        return (await state.ledger.reserve(HOLD)).id
    told = await asyncio.gather(*(state.ledger.crossed() for _ in range(CALLERS)))
    return [tier.value for tier in told if tier is not None]


async def work(url: str, action: str, limit: int) -> None:
    state = (await Database.open(url, HandClock())).engine_state(BudgetRules(limit))
    print("ready", flush=True)  # noqa: T201 -- what the parent waits for
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(await act(state, action)), flush=True)  # noqa: T201 -- as above
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
