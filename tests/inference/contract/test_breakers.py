"""What every Breakers promises."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.inference.contract.conftest import SettableClock

from knowledge_system.domain.inference import BreakerOpen
from knowledge_system.domain.money import AuditLog, BreakerPhase, BreakerRule, Breakers

RULE = BreakerRule(failure_threshold=3, reset_timeout=60_000, half_open_requests=3)


async def phase(breakers: Breakers, provider: str = "groq") -> BreakerPhase:
    return next(status.phase for status in await breakers.status() if status.provider == provider)


async def opened(breakers: Breakers, provider: str = "groq", retry_after: Any = None) -> None:
    for _ in range(RULE.failure_threshold):
        await breakers.failed(await breakers.admit(provider, RULE), RULE, "boom", retry_after)


async def test_a_breaker_nobody_used_is_not_listed_and_admits(breakers: Breakers) -> None:
    assert await breakers.status() == []
    permit = await breakers.admit("groq", RULE)
    assert (permit.provider, permit.trial) == ("groq", False)


async def test_t21_one_provider_alone_opens_at_its_threshold(breakers: Breakers, clock: SettableClock) -> None:
    for _ in range(RULE.failure_threshold - 1):
        await breakers.failed(await breakers.admit("groq", RULE), RULE, "boom")
    assert await phase(breakers) is BreakerPhase.CLOSED
    await breakers.failed(await breakers.admit("groq", RULE), RULE, "boom")
    with pytest.raises(BreakerOpen) as refusal:
        await breakers.admit("groq", RULE)
    assert refusal.value.retry_at == clock.now() + timedelta(seconds=60)


async def test_t26_the_state_can_be_read(breakers: Breakers, clock: SettableClock) -> None:
    await opened(breakers)
    (status,) = await breakers.status()
    assert (status.provider, status.phase, status.failures) == ("groq", BreakerPhase.OPEN, 3)
    assert (status.last_failure, status.detail) == (clock.now(), "boom")
    assert status.next_attempt == clock.now() + timedelta(seconds=60)


async def test_a_success_forgets_the_failures_before_it(breakers: Breakers) -> None:
    for _ in range(5):
        await breakers.failed(await breakers.admit("groq", RULE), RULE, "boom")
        await breakers.failed(await breakers.admit("groq", RULE), RULE, "boom")
        await breakers.succeeded(await breakers.admit("groq", RULE), RULE)
    assert await phase(breakers) is BreakerPhase.CLOSED


async def test_providers_do_not_share_a_breaker(breakers: Breakers) -> None:
    await opened(breakers)
    await breakers.admit("openai", RULE)
    assert await phase(breakers, "openai") is BreakerPhase.CLOSED


async def test_returned_permits_say_nothing(breakers: Breakers) -> None:
    for _ in range(10):
        await breakers.returned(await breakers.admit("groq", RULE))
    assert await phase(breakers) is BreakerPhase.CLOSED


@pytest.mark.parametrize("callers", [1, 3, 4, 32])
async def test_half_open_lets_exactly_its_number_of_trials_through(
    breakers: Breakers, clock: SettableClock, callers: int
) -> None:
    await opened(breakers)
    clock.advance(seconds=60)
    results = await asyncio.gather(*(breakers.admit("groq", RULE) for _ in range(callers)), return_exceptions=True)
    trials = [result for result in results if not isinstance(result, BaseException)]
    assert len(trials) == min(callers, 3)
    assert all(permit.trial for permit in trials)
    assert all(isinstance(result, BreakerOpen) for result in results if isinstance(result, BaseException))
    assert await phase(breakers) is BreakerPhase.HALF_OPEN


async def test_one_good_trial_closes(breakers: Breakers, clock: SettableClock) -> None:
    await opened(breakers)
    clock.advance(seconds=60)
    await breakers.succeeded(await breakers.admit("groq", RULE), RULE)
    assert await phase(breakers) is BreakerPhase.CLOSED
    assert not (await breakers.admit("groq", RULE)).trial


async def test_one_bad_trial_opens_again_for_the_whole_time(breakers: Breakers, clock: SettableClock) -> None:
    await opened(breakers)
    clock.advance(seconds=60)
    await breakers.failed(await breakers.admit("groq", RULE), RULE, "still down")
    clock.advance(seconds=59)
    with pytest.raises(BreakerOpen):
        await breakers.admit("groq", RULE)
    clock.advance(seconds=1)
    assert (await breakers.admit("groq", RULE)).trial


async def test_t24_a_returned_trial_frees_its_place(breakers: Breakers, clock: SettableClock) -> None:
    await opened(breakers)
    clock.advance(seconds=60)
    trials = [await breakers.admit("groq", RULE) for _ in range(3)]
    with pytest.raises(BreakerOpen):
        await breakers.admit("groq", RULE)
    await breakers.returned(trials[1])
    await breakers.returned(trials[1])
    assert (await breakers.admit("groq", RULE)).trial
    with pytest.raises(BreakerOpen):
        await breakers.admit("groq", RULE)


async def test_t24_a_trial_whose_owner_died_is_leased_out_again(breakers: Breakers, clock: SettableClock) -> None:
    await opened(breakers)
    clock.advance(seconds=60)
    for _ in range(3):
        await breakers.admit("groq", RULE)
    clock.advance(minutes=10)
    assert (await breakers.admit("groq", RULE)).trial


async def test_t22_a_longer_retry_after_opens_for_longer(breakers: Breakers, clock: SettableClock) -> None:
    await opened(breakers, retry_after=300.0)
    clock.advance(seconds=299)
    with pytest.raises(BreakerOpen):
        await breakers.admit("groq", RULE)
    clock.advance(seconds=1)
    assert (await breakers.admit("groq", RULE)).trial


async def test_t22_a_longer_retry_after_extends_an_open_breaker_and_a_shorter_one_does_not(
    breakers: Breakers, clock: SettableClock
) -> None:
    late = [await breakers.admit("groq", RULE) for _ in range(2)]
    await opened(breakers)
    await breakers.failed(late[0], RULE, "busy", 300.0)
    await breakers.failed(late[1], RULE, "busy", 1.0)
    clock.advance(seconds=299)
    with pytest.raises(BreakerOpen):
        await breakers.admit("groq", RULE)
    clock.advance(seconds=1)
    assert (await breakers.admit("groq", RULE)).trial


async def test_a_call_from_before_the_opening_neither_closes_nor_reopens(
    breakers: Breakers, clock: SettableClock
) -> None:
    old_good, old_bad = await breakers.admit("groq", RULE), await breakers.admit("groq", RULE)
    await opened(breakers)
    await breakers.succeeded(old_good, RULE)
    assert await phase(breakers) is BreakerPhase.OPEN
    clock.advance(seconds=60)
    trial = await breakers.admit("groq", RULE)
    await breakers.failed(old_bad, RULE, "late")
    assert await phase(breakers) is BreakerPhase.HALF_OPEN
    await breakers.succeeded(trial, RULE)
    assert await phase(breakers) is BreakerPhase.CLOSED


async def test_a_reset_closes_at_once_and_is_audited(breakers: Breakers, audit: AuditLog) -> None:
    await opened(breakers)
    await breakers.reset("groq", "alice")
    (status,) = await breakers.status()
    assert (status.phase, status.failures, status.next_attempt) == (BreakerPhase.CLOSED, 0, None)
    await breakers.admit("groq", RULE)
    (entry,), _ = await audit.entries(5)
    assert (entry.kind, entry.provider, entry.actor) == ("breaker-reset", "groq", "alice")


async def test_concurrent_failures_are_all_counted(breakers: Breakers) -> None:
    permits = [await breakers.admit("groq", RULE) for _ in range(3)]
    await asyncio.gather(*(breakers.failed(permit, RULE, "boom") for permit in permits))
    assert await phase(breakers) is BreakerPhase.OPEN
