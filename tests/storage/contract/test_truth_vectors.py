"""What every implementation of `Vectors` promises."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.storage.samples import OTHER_SPACE, SPACE, exchange, item, save, vector

from knowledge_system.domain.embedding import Coverage
from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.truth import Learned

if TYPE_CHECKING:
    from tests.storage.samples import HandClock

    from knowledge_system.domain.truth import Truth

float32 = st.floats(width=32, allow_nan=False)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(float32, min_size=4, max_size=4))
async def test_any_vector_comes_back_bit_by_bit(truth: Truth, values: list[float]) -> None:
    stored = array("f", values)
    key = stored.tobytes().hex()
    await truth.vectors.put(SPACE, {key: stored})
    found = await truth.vectors.get(SPACE, [key, "missing"])
    assert {name: one.tobytes() for name, one in found.items()} == {key: stored.tobytes()}


async def test_spaces_are_kept_apart(truth: Truth) -> None:
    await truth.vectors.put(SPACE, {"h": vector(1, 0, 0, 0)})
    assert await truth.vectors.get(OTHER_SPACE, ["h"]) == {}
    await truth.vectors.put(OTHER_SPACE, {"h": vector(0, 1, 0, 0)})
    assert await truth.vectors.get(SPACE, ["h"]) == {"h": vector(1, 0, 0, 0)}


async def test_a_hash_keeps_its_first_vector(truth: Truth) -> None:
    await truth.vectors.put(SPACE, {"h": vector(1, 0, 0, 0)})
    await truth.vectors.put(SPACE, {"h": vector(0, 1, 0, 0)})
    assert await truth.vectors.get(SPACE, ["h"]) == {"h": vector(1, 0, 0, 0)}


async def test_a_vector_of_another_dimension_is_refused(truth: Truth) -> None:
    with pytest.raises(UsageError):
        await truth.vectors.put(SPACE, {"h": vector(1, 0)})


async def test_nothing_to_store_or_to_look_up_is_fine(truth: Truth) -> None:
    await truth.vectors.put(SPACE, {})
    await truth.vectors.refer({})
    assert await truth.vectors.get(SPACE, []) == {}
    assert await truth.vectors.references([]) == {}


async def test_references_are_replaced_and_keep_their_order(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.vectors.refer({"xa": ["h2", "h1", "h2"], "xb": ["h1"]})
    await truth.vectors.refer({"xa": ["h3", "h1"]})
    assert await truth.vectors.references(["xa", "xb", "xc"]) == {"xa": ["h3", "h1"], "xb": ["h1"]}


async def test_an_owner_that_is_gone_refers_to_nothing(truth: Truth) -> None:
    await truth.vectors.refer({"xnone": ["h"]})
    assert await truth.vectors.references(["xnone"]) == {}


async def test_pruning_takes_what_is_old_and_unreferenced_or_foreign(truth: Truth, clock: HandClock) -> None:
    await save(truth, exchange("a"))
    await truth.vectors.put(SPACE, {"used": vector(), "unused": vector()})
    await truth.vectors.put(OTHER_SPACE, {"used": vector()})
    await truth.vectors.refer({"xa": ["used"]})
    clock.advance(days=30)
    await truth.vectors.put(SPACE, {"recent": vector()})
    assert await truth.vectors.prune([SPACE], clock.now()) == 2
    assert set(await truth.vectors.get(SPACE, ["used", "unused", "recent"])) == {"used", "recent"}
    assert await truth.vectors.get(OTHER_SPACE, ["used"]) == {}


async def test_pruning_spares_every_space_it_is_told_to_keep(truth: Truth, clock: HandClock) -> None:
    await save(truth, exchange("a"))
    for space in (SPACE, OTHER_SPACE):
        await truth.vectors.put(space, {"used": vector(), "unused": vector()})
    await truth.vectors.refer({"xa": ["used"]})
    clock.advance(days=30)
    assert await truth.vectors.prune([SPACE, OTHER_SPACE], clock.now()) == 2
    for space in (SPACE, OTHER_SPACE):
        assert list(await truth.vectors.get(space, ["used", "unused"])) == ["used"]


async def test_reading_a_vector_counts_as_use(truth: Truth, clock: HandClock) -> None:
    await truth.vectors.put(SPACE, {"read": vector(), "unread": vector()})
    clock.advance(days=30)
    await truth.vectors.get(SPACE, ["read"])
    assert await truth.vectors.prune([SPACE], clock.now()) == 1
    assert list(await truth.vectors.get(SPACE, ["read", "unread"])) == ["read"]


async def test_an_owner_is_covered_when_its_whole_text_has_a_vector_in_the_space(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"), exchange("c"))
    await truth.vectors.refer({"xa": ["whole-a", "part-a"], "xb": ["whole-b", "part-b"], "xc": ["whole-c"]})
    await truth.vectors.put(SPACE, {"whole-a": vector(), "part-b": vector()})
    assert not await truth.vectors.holds(OTHER_SPACE)
    await truth.vectors.put(OTHER_SPACE, {"whole-b": vector(), "whole-c": vector()})
    assert await truth.vectors.holds(OTHER_SPACE)

    assert await truth.vectors.coverage(SPACE) == Coverage(embeddable=3, covered=1)
    assert await truth.vectors.coverage(SPACE, ["xa", "xb", "xc", "xgone"]) == Coverage(3, 1, frozenset({"xa"}))
    assert await truth.vectors.coverage(OTHER_SPACE, ["xb", "xc"]) == Coverage(2, 2, frozenset({"xb", "xc"}))
    assert await truth.vectors.coverage(SPACE, []) == Coverage(0, 0)
    assert (await truth.vectors.coverage(SPACE)).share == pytest.approx(1 / 3)


async def test_secret_owners_do_not_count_and_forgotten_ones_are_gone(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("s", sensitivity=Sensitivity.SECRET), exchange("b"))
    await truth.items.learn(Learned(judged={"xa": "item"}, created=(item("1", "a"),)))
    await truth.vectors.refer({"xa": ["ha"], "k1": ["hk"], "xb": ["hb"]})
    await truth.vectors.put(SPACE, {"ha": vector(), "hk": vector(), "hb": vector()})
    assert await truth.vectors.coverage(SPACE) == Coverage(embeddable=3, covered=3)
    assert await truth.vectors.coverage(SPACE, ["xs"]) == Coverage(embeddable=0, covered=0)
    assert (await truth.vectors.coverage(SPACE, ["xs"])).share == 1.0

    await truth.exchanges.forget(["xa"])

    assert await truth.vectors.coverage(SPACE) == Coverage(embeddable=1, covered=1)
    assert set(await truth.vectors.get(SPACE, ["ha", "hk", "hb"])) == {"hb"}
