"""The second index equals the truth as far as it may, whatever happens to the truth, and spends nothing by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.retrieval.larger import LargerWorld
from tests.retrieval.nouns import NOW, exchange, item

from knowledge_system.domain.errors import DependencyUnavailable
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.retrieval.second_space import FOLLOW, PAID


@pytest.fixture
async def world() -> LargerWorld:
    world = LargerWorld()
    await world.add(exchange("a", "why deadlock"), exchange("b", "which colour"), item("a", "Take locks in order"))
    return world


async def payload(world: LargerWorld, owner: str) -> dict[str, Any]:
    points = [stored.point for stored in world.far_index._points.values() if stored.point.owner_id == owner]
    assert points
    assert all(point.payload == points[0].payload for point in points)
    return dict(points[0].payload)


async def test_following_costs_nothing(world: LargerWorld) -> None:
    assert world.calls == []
    assert await world.far_owners() == set()
    assert await world.truth.outbox.depth() == {}


async def test_what_was_paid_for_is_indexed_with_vectors_and_payload_but_without_words(world: LargerWorld) -> None:
    await world.fill()

    assert await world.far_owners() == {"xa", "xb", "ka"}
    points = [stored.point for stored in world.far_index._points.values()]
    assert all(point.vector is not None and len(point.vector) == 64 and not point.words for point in points)
    assert (await payload(world, "ka"))["type"] == "bug_solution"
    assert {owner for owner, _ in await world.index.owners()} == {"xa", "xb", "ka"}


async def test_a_replaced_item_changes_its_status_without_being_paid_again(world: LargerWorld) -> None:
    await world.add(item("b", "Take locks sorted by name"))
    await world.fill()
    paid = len(world.sent)

    await world.truth.items.supersede("ka", "kb", NOW)
    await world.indexer.catch_up()

    assert (await payload(world, "ka"))["status"] == "superseded"
    assert len(world.sent) == paid


async def test_what_is_forgotten_leaves_the_index_and_its_vectors(world: LargerWorld) -> None:
    await world.fill()
    documents = await world.second.admission.documents(["xa"])

    await world.truth.exchanges.forget(["xa"])
    await world.indexer.catch_up()

    assert "xa" not in await world.far_owners()
    assert await world.truth.vectors.get(world.far.space, documents["xa"].hashes) == {}


async def test_an_exchange_that_grew_leaves_until_it_is_embedded_again(world: LargerWorld) -> None:
    await world.fill()
    grown = exchange("a", "why deadlock", "A longer answer. " * 30, content_hash="grown")
    world.truth.exchanges._store.save_exchanges([grown])  # type: ignore[attr-defined]
    await world.indexer.catch_up()
    assert await world.far_owners() == {"xb", "ka"}

    await world.fill()
    assert await world.far_owners() == {"xa", "xb", "ka"}


async def test_only_levels_that_may_leave_are_admitted_and_secrets_never() -> None:
    world = LargerWorld(levels=tuple(Sensitivity))
    await world.add(*(exchange(level.value, f"said {level.value}", sensitivity=level) for level in Sensitivity))
    await world.fill()
    assert await world.far_owners() == {"xpublic", "xinternal", "xconfidential"}
    assert not any("secret" in text for text in world.sent)

    world.levels = (Sensitivity.PUBLIC,)
    await world.second.reconcile()
    assert await world.far_owners() == {"xpublic"}


async def test_content_that_becomes_confidential_leaves_the_index(world: LargerWorld) -> None:
    await world.fill()
    store = world.truth.exchanges._store  # type: ignore[attr-defined]
    stored = store.exchanges["xa"]
    stored.exchange = replace(stored.exchange, sensitivity=Sensitivity.CONFIDENTIAL)
    store.announce(["xa"])
    await world.indexer.catch_up()
    assert await world.far_owners() == {"xb", "ka"}


class TestAuto:
    async def test_new_content_waits_for_whoever_pays_and_holds_nothing_up(self) -> None:
        world = LargerWorld(auto=True)
        await world.add(exchange("a", "why deadlock"), exchange("s", "hush", sensitivity=Sensitivity.CONFIDENTIAL))

        assert await world.truth.outbox.depth() == {PAID: 1}
        assert {owner for owner, _ in await world.index.owners()} == {"xa", "xs"}
        assert world.calls == []

        await world.fill_waiting()
        assert await world.far_owners() == {"xa"}
        assert await world.truth.outbox.depth() == {}

    async def test_what_cannot_be_paid_waits_on_and_is_paid_once(self) -> None:
        world = LargerWorld(auto=True, calls_left=0, failure=DependencyUnavailable("nobody answers"))
        await world.add(exchange("a", "why deadlock"))
        with pytest.raises(DependencyUnavailable):
            await world.fill_waiting()
        assert await world.truth.outbox.depth() == {PAID: 1}

        world.calls_left = None
        await world.fill_waiting()
        await world.fill_waiting()
        assert len(world.sent) == len(set(world.sent)) > 0

    async def test_switched_off_nothing_waits_any_more(self) -> None:
        world = LargerWorld(auto=True)
        await world.add(exchange("a", "why deadlock"))
        world.auto = False
        world.reopen()
        await world.indexer.catch_up()
        assert await world.truth.outbox.depth() == {}
        assert world.calls == []


class TestMaintenance:
    async def test_a_lost_index_is_rebuilt_from_the_truth_without_a_model(self, world: LargerWorld) -> None:
        await world.fill()
        paid, before = len(world.sent), await world.far_index.owners()
        await world.far_index.apply([], [owner for owner, _ in before])

        await world.second.rebuild()

        assert await world.far_index.owners() == before
        assert len(world.sent) == paid

    async def test_reconciling_repairs_both_ways(self, world: LargerWorld) -> None:
        await world.fill()
        before = await world.far_index.owners()
        point = next(stored.point for stored in world.far_index._points.values())
        await world.far_index.apply([replace(point, owner_id="xgone")], ["xa"])
        assert await world.second.reconcile() == (1, 1)
        assert await world.far_index.owners() == before
        assert await world.second.reconcile() == (0, 0)

    async def test_a_first_index_that_nobody_follows_keeps_to_its_two_stages(self, world: LargerWorld) -> None:
        world.indexer._follower = None
        await world.add(exchange("c", "another"))
        assert await world.truth.outbox.depth() == {}

    async def test_a_search_does_not_call_the_second_stage_a_backlog(self) -> None:
        world = LargerWorld(auto=True)
        await world.add(exchange("a", "why deadlock"))
        assert await world.truth.outbox.depth() == {PAID: 1}
        assert "embedding-backlog" not in (await world.ask("deadlock")).degraded


LEVELS = st.sampled_from(list(Sensitivity))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 9), LEVELS),
        st.tuples(st.just("forget"), st.integers(0, 9), LEVELS),
        st.tuples(st.just("fill"), st.integers(1, 4), LEVELS),
        st.tuples(st.just("break"), st.integers(0, 3), LEVELS),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, auto=st.booleans())
async def test_whatever_happens_the_index_equals_the_truth_and_nothing_sensitive_leaves(
    steps: list[tuple[str, int, Sensitivity]], *, auto: bool
) -> None:
    world = LargerWorld(auto=auto, failure=DependencyUnavailable("nobody answers"))
    for verb, number, level in steps:
        if verb == "add":
            await world.add(exchange(str(number), f"{level.value} question {number}", sensitivity=level))
        elif verb == "forget":
            await world.truth.exchanges.forget([f"x{number}"])
        elif verb == "break":
            world.calls_left = number
        else:
            await world.fill_quietly(number)
            world.calls_left = None
        await world.indexer.catch_up()
    await world.fill_quietly(None)

    ids = await world.truth.ledger.owners()
    living = await world.second.admission.documents(ids)
    known = await world.second.admission.known(living.values())
    admitted = {key for key, one in living.items() if world.second.admission.admits(one) and one.hashes[0] in known}
    assert await world.far_owners() == admitted
    assert not [text for text in world.sent if text.startswith(("confidential", "secret"))]
    assert FOLLOW not in await world.truth.outbox.depth()
    answered = [text for text in world.sent if text]
    forgotten = any(verb == "forget" for verb, _, _ in steps)
    assert forgotten or len(answered) == len(set(answered)), "nothing is paid twice"
