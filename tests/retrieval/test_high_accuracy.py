"""`--accuracy high`: two spaces are merged by rank, and whatever keeps the larger one away is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.retrieval.larger import LargerWorld
from tests.retrieval.nouns import exchange, ids, item

from knowledge_system.domain.errors import ModelUnavailable, UsageError, WrongDimension
from knowledge_system.domain.inference import BudgetExhausted, PriceUnknown, PrivacyRefused
from knowledge_system.domain.search import Accuracy, Scope
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.retrieval.fusion import Fused
from knowledge_system.retrieval.high_accuracy import merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.index import IndexHits, IndexQuery
    from knowledge_system.domain.search import SearchResponse

QUESTION = "migration deadlock locks"


@pytest.fixture
async def world() -> LargerWorld:
    world = LargerWorld()
    await world.add(
        exchange("lock", "Why does the migration deadlock?", "Two workers take locks in a different order."),
        exchange("colour", "How do I change the palette?", "Set the colours in the stylesheet of the dialog."),
        item("lock", "Take locks in sorted order", "The migration deadlock goes away with sorted locks."),
        item("web", "Cache static files", "The header says for how long.", project="web"),
    )
    return world


async def high(world: LargerWorld, **values: object) -> SearchResponse:
    return await world.ask(QUESTION, accuracy=Accuracy.HIGH, **values)


def questions(world: LargerWorld) -> int:
    return sum(project == "question" for project, _, _ in world.calls)


async def test_the_larger_space_takes_part_and_says_so(world: LargerWorld) -> None:
    await world.fill()
    response = await high(world)
    assert response.degraded == ()
    assert ids(response)[0] == "klock"
    assert any("rank 1 by meaning in hashing" in reason for hit in response.results for reason in hit.why)
    assert questions(world) == 1


async def test_normal_accuracy_never_asks_the_larger_space(world: LargerWorld) -> None:
    await world.fill()
    response = await world.ask(QUESTION)
    assert questions(world) == 0
    assert not any("by meaning in hashing" in reason for hit in response.results for reason in hit.why)


async def test_too_little_coverage_spends_nothing_and_says_how_little(world: LargerWorld) -> None:
    normal = await world.ask(QUESTION)
    response = await high(world)
    assert response.degraded == ("accuracy-high-unavailable", "accuracy-high-coverage")
    assert questions(world) == 0
    assert ids(response) == ids(normal)
    least = "normal accuracy: 0 of 4 entries at hand have a vector of hashing; `knowledge index backfill` adds them"
    assert all(least in hit.why for hit in response.results)


async def test_coverage_is_that_of_what_the_filter_leaves(world: LargerWorld) -> None:
    await world.fill(2)  # items come first: both of them, no exchange
    assert (await high(world, scope=Scope.ITEMS)).degraded == ()
    assert "accuracy-high-coverage" in (await high(world, scope=Scope.EXCHANGES)).degraded


async def test_the_filter_holds_in_the_larger_space_too(world: LargerWorld) -> None:
    await world.fill()
    asked: list[IndexQuery] = []
    query = world.far_index.query

    async def noted(queries: Sequence[IndexQuery]) -> list[IndexHits]:
        asked.extend(queries)
        return await query(queries)

    world.far_index.query = noted  # type: ignore[method-assign]
    assert ids(await high(world, projects=("web",))) == ["kweb"]
    assert [one.where.projects for one in asked] == [("web",)]
    assert all(one.vector is not None and len(one.vector) == 64 for one in asked)


async def test_what_the_larger_space_has_no_vector_of_is_not_ranked_down_for_it() -> None:
    world = LargerWorld(levels=(Sensitivity.PUBLIC,), min_coverage=0.1)
    best = exchange("best", "the migration deadlock", "Sort the locks.", sensitivity=Sensitivity.CONFIDENTIAL)
    others = [
        exchange(f"o{number}", f"a deadlock of kind {number}", sensitivity=Sensitivity.PUBLIC) for number in range(6)
    ]
    await world.add(best, *others)
    await world.fill()
    response = await high(world)
    assert response.degraded == ()
    assert ids(response)[0] == "xbest"


async def test_an_empty_system_spends_nothing() -> None:
    world = LargerWorld()
    response = await high(world)
    assert response.results == ()
    assert "accuracy-high-coverage" in response.degraded
    assert world.calls == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BudgetExhausted("nothing left of $8.33"), "budget"),
        (PriceUnknown("nobody knows the price"), "price"),
        (PrivacyRefused("no model may see it"), "privacy"),
        (UsageError("no such model"), "configuration"),
        (ModelUnavailable("no answer before the deadline"), "provider"),
        (WrongDimension("8 values instead of 64"), "provider"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_whatever_keeps_the_question_from_being_embedded_leaves_the_normal_answer(
    world: LargerWorld, error: Exception, reason: str
) -> None:
    await world.fill()
    normal = await world.ask(QUESTION)
    world.question_error = error

    response = await high(world)

    assert response.degraded == ("accuracy-high-unavailable", f"accuracy-high-{reason}")
    assert [(hit.id, hit.score) for hit in response.results] == [(hit.id, hit.score) for hit in normal.results]
    assert all(any(str(error) in why for why in hit.why) for hit in response.results)


async def test_an_index_that_cannot_be_searched_costs_nothing(world: LargerWorld) -> None:
    await world.fill()
    world.far_index.broken = "the disk is gone"
    response = await high(world)
    assert "accuracy-high-provider" in response.degraded
    assert questions(world) == 0


async def test_the_level_of_the_question_goes_with_it() -> None:
    world = LargerWorld(scrub=lambda text: (text, Sensitivity.CONFIDENTIAL))
    await world.add(exchange("a", "deadlock"))
    await world.fill()
    await high(world)
    assert [level for project, level, _ in world.calls if project == "question"] == [Sensitivity.CONFIDENTIAL]


async def test_what_is_gone_from_the_truth_is_dropped_and_counted(world: LargerWorld) -> None:
    await world.fill()
    await world.truth.items.forget(["klock"])  # neither index has followed yet
    response = await high(world)
    assert "klock" not in ids(response)
    assert response.dropped >= 1


def order(names: str, scale: float = 1.0) -> list[Fused]:
    return [Fused(name, scale * (1 - place / 10), similarity=0.5) for place, name in enumerate(names)]


def merge(near: str, far: str, missing: str = "") -> str:
    return "".join(one.owner_id for one in merged(order(near), order(far, 0.3), set(missing), "far"))


class TestMerging:
    def test_what_both_rank_high_leads(self) -> None:
        assert merge("abc", "bca") == "bac"
        assert merge("abcd", "abcd") == "abcd"

    def test_equal_sums_keep_the_first_order(self) -> None:
        assert merge("ab", "ba") == "ab"

    def test_what_only_the_larger_space_finds_is_found(self) -> None:
        assert set(merge("ab", "xy")) == set("abxy")
        assert merge("ab", "xab")[0] == "a"

    def test_what_is_not_embedded_there_keeps_its_place(self) -> None:
        assert merge("abcd", "bcd", missing="a") == "abcd"
        assert merge("abcd", "bcd") == "bcda", "without a vector's excuse a is what the larger space did not find"

    def test_scores_stay_those_of_the_first_order_and_fall(self) -> None:
        made = merged(order("abc"), order("xcb", 0.2), (), "far")
        assert [one.relevance for one in made] == [1.0, 0.9, 0.8, 0.8]

    def test_without_a_first_order_the_scores_are_its_own(self) -> None:
        assert [one.relevance for one in merged([], order("xy", 0.5), (), "far")] == [0.5, 0.45]

    @given(st.permutations("abcdefgh"), st.permutations("abcdefgh"), st.integers(0, 8), st.integers(0, 8))
    def test_nobody_is_lost_or_doubled_and_better_in_both_stays_better(
        self, near: list[str], far: list[str], left: int, right: int
    ) -> None:
        one, other = near[:left], far[:right]
        made = merge("".join(one), "".join(other))
        assert sorted(made) == sorted({*one, *other})
        for first in one:
            for second in one:
                better = one.index(first) < one.index(second)
                if better and first in other and (second not in other or other.index(first) < other.index(second)):
                    assert made.index(first) < made.index(second)

    @given(st.permutations("abcdef"), st.sets(st.sampled_from("abcdef")))
    def test_an_order_that_is_nowhere_embedded_does_not_change(self, near: list[str], some: set[str]) -> None:
        assert merge("".join(near), "", missing="abcdef") == "".join(near)
        assert set(merge("".join(near), "".join(sorted(some)), missing="abcdef")) == set("abcdef")
