"""Backfill: what it counts is what it sends, nothing is paid twice, and what ends it early loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.retrieval.larger import LargerWorld
from tests.retrieval.nouns import exchange, item

from knowledge_system.domain.errors import DependencyUnavailable, WrongDimension
from knowledge_system.domain.inference import BudgetExhausted
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.retrieval.backfill import BYTES_PER_TOKEN, Estimate, estimate

TIRED = DependencyUnavailable("nobody answers")


async def filled_with(count: int, **values: object) -> LargerWorld:
    world = LargerWorld(failure=TIRED)
    for name, value in values.items():
        setattr(world, name, value)
    world.reopen()
    await world.add(*(exchange(f"{number:02}", f"question number {number}") for number in range(count)))
    return world


async def counted(world: LargerWorld, limit: int | None = None) -> Estimate:
    return await estimate(world.second.admission, limit)


async def test_the_estimate_is_what_is_sent_and_changes_nothing() -> None:
    world = await filled_with(7)
    plan = await counted(world)
    assert world.calls == []
    assert await world.far_owners() == set()

    tally = await world.fill()

    assert (plan.owners, plan.texts) == (tally.owners, tally.texts) == (7, len(world.sent))
    assert plan.bytes == sum(len(text.encode()) for text in world.sent)
    assert plan.tokens == -(-plan.bytes // BYTES_PER_TOKEN)
    after = await counted(world)
    assert (after.owners, after.texts, after.tokens, after.covered) == (0, 0, 0, 7)


async def test_the_estimate_names_what_stays_here_by_level() -> None:
    world = LargerWorld()
    levels = [*Sensitivity, Sensitivity.CONFIDENTIAL]
    await world.add(*(exchange(str(number), f"q{number}", sensitivity=one) for number, one in enumerate(levels)))
    plan = await counted(world)
    assert dict(plan.levels) == {"public": 1, "internal": 1}
    assert dict(plan.withheld) == {"confidential": 2, "secret": 1}


async def test_a_limit_bounds_entries_and_the_estimate_alike() -> None:
    world = await filled_with(5)
    assert (await counted(world, 2)).owners == 2
    assert (await world.fill(2)).owners == 2
    assert await world.far_owners() == {"x00", "x01"}
    assert (await world.fill(2)).owners == 2
    assert (await world.fill(2)).owners == 1
    assert len(world.sent) == len(set(world.sent))


async def test_calls_carry_one_project_and_one_level_and_at_most_a_batch() -> None:
    world = LargerWorld(batch_size=3)
    await world.add(
        *(exchange(f"a{number}", f"api {number}", project="api") for number in range(3)),
        exchange("w", "web one", project="web"),
        exchange("p", "public one", project="web", sensitivity=Sensitivity.PUBLIC),
    )
    await world.fill()
    assert {(project, level) for project, level, _ in world.calls} == {
        ("api", Sensitivity.INTERNAL),
        ("web", Sensitivity.INTERNAL),
        ("web", Sensitivity.PUBLIC),
    }
    assert max(len(texts) for _, _, texts in world.calls) == 3
    assert all(text.startswith("public") for _, level, texts in world.calls if level == "public" for text in texts)


async def test_a_text_that_two_entries_have_is_paid_once_at_the_stricter_level() -> None:
    world = LargerWorld()
    await world.add(exchange("a", "same", sensitivity=Sensitivity.PUBLIC), exchange("b", "same"))
    tally = await world.fill()
    assert await world.far_owners() == {"xa", "xb"}
    assert tally.owners == 2
    assert len(world.sent) == len(set(world.sent))
    assert {level for _, level, _ in world.calls} == {Sensitivity.INTERNAL}


@pytest.mark.parametrize(
    "error", [TIRED, BudgetExhausted("no money left"), WrongDimension("8 values")], ids=lambda one: type(one).__name__
)
async def test_what_was_paid_before_it_ended_early_is_kept_indexed_and_not_paid_again(error: Exception) -> None:
    world = await filled_with(9, calls_left=2, failure=error)
    with pytest.raises(type(error)):
        await world.fill()
    paid = set(world.sent)
    assert len(paid) == 8, "two batches of four"
    assert await world.far_owners() == {f"x{number:02}" for number in range(8)}

    world.calls_left = None
    world.reopen()
    await world.fill()

    assert await world.far_owners() == {f"x{number:02}" for number in range(9)}
    assert len(world.sent) == len(set(world.sent))


async def test_what_a_killed_run_paid_for_is_indexed_by_the_next_one_for_nothing() -> None:
    world = await filled_with(4)
    await world.fill()
    paid = len(world.calls)
    await world.far_index.apply([], ["x01", "x02"])  # paid and stored, but the run ended before it was indexed

    tally = await world.fill()

    assert await world.far_owners() == {"x00", "x01", "x02", "x03"}
    assert (len(world.calls), tally.texts) == (paid, 0)


async def test_vectors_are_referred_to_before_they_are_paid_so_that_forgetting_reaches_them() -> None:
    world = LargerWorld(failure=TIRED, calls_left=1, batch_size=1)
    long = " ".join(f"Step {number} is done and was checked." for number in range(60))
    await world.add(exchange("a", "canary", long), indexed=False)  # the first index has not come to it yet
    with pytest.raises(DependencyUnavailable):
        await world.fill()
    (document,) = (await world.second.admission.documents(["xa"])).values()
    assert len(await world.second.admission.known([document])) == 1

    await world.truth.exchanges.forget(["xa"])

    assert await world.second.admission.known([document]) == {}


async def test_one_text_that_is_too_sensitive_keeps_back_itself_and_no_other() -> None:
    world = await filled_with(9, too_sensitive=("number 4",), batch_size=8)
    tally = await world.fill()
    assert not any("number 4" in text for text in world.sent)
    assert await world.far_owners() == {f"x{number:02}" for number in range(9) if number != 4}
    assert (tally.owners, tally.refused > 0) == (8, True)
    assert len(world.sent) == len(set(world.sent))


async def test_items_take_part_and_progress_counts_every_entry() -> None:
    world = await filled_with(3)
    await world.add(item("a", "Take locks in order"))
    seen: list[int] = []
    tally = type(await world.fill(1))()
    await world.backfill.run(tally, None, seen.append)
    assert sum(seen) == 4
    assert "ka" in await world.far_owners()


async def test_nothing_to_do_calls_nobody() -> None:
    world = LargerWorld()
    assert (await world.fill()).texts == 0
    assert world.calls == []


@settings(max_examples=40, deadline=None)
@given(owners=st.integers(1, 12), batch=st.integers(1, 9), stops=st.lists(st.integers(0, 4), max_size=5))
async def test_however_often_it_is_interrupted_every_text_is_paid_exactly_once(
    owners: int, batch: int, stops: list[int]
) -> None:
    world = await filled_with(owners, batch_size=batch)
    for stop in stops:
        world.calls_left = stop
        world.reopen()
        await world.fill_quietly(None)
    world.calls_left = None
    await world.fill()
    assert await world.far_owners() == {f"x{number:02}" for number in range(owners)}
    assert len(world.sent) == len(set(world.sent)) > 0
