"""What every implementation promises about levels: they rise, everything derived rises with them, they never fall."""

from __future__ import annotations

import pytest
from tests.storage.samples import SPACE, drain, evidence, exchange, item, save, vector, waiting

from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.truth import Learned, Truth

PUBLIC, INTERNAL, CONFIDENTIAL, SECRET = Sensitivity


async def levels(truth: Truth, *keys: str) -> list[Sensitivity]:
    found = {**await truth.exchanges.get(keys), **await truth.items.get(keys)}
    return [found[key].sensitivity for key in keys]


@pytest.mark.parametrize("known", list(Sensitivity))
@pytest.mark.parametrize("asked", list(Sensitivity))
async def test_a_level_only_rises(truth: Truth, known: Sensitivity, asked: Sensitivity) -> None:
    await save(truth, exchange("a", sensitivity=known))
    await truth.items.learn(Learned(judged={}, levels={"xa": asked, "xgone": asked}))
    assert await levels(truth, "xa") == [max(known, asked, key=lambda one: one.rank)]


async def test_items_rise_with_the_exchanges_they_rest_on(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"), exchange("c"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a", "b"), item("2", "b"), item("3", "c"))))
    await truth.items.learn(Learned(judged={"xa": "item"}, levels={"xa": CONFIDENTIAL}))
    assert await levels(truth, "xa", "k1", "k2", "k3") == [CONFIDENTIAL, CONFIDENTIAL, INTERNAL, INTERNAL]


async def test_an_item_learned_together_with_the_level_of_its_source_has_it(truth: Truth) -> None:
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"),), levels={"xa": CONFIDENTIAL}))
    assert await levels(truth, "k1") == [CONFIDENTIAL]


async def test_evidence_from_a_stricter_exchange_raises_the_item_that_gains_it(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b", sensitivity=CONFIDENTIAL))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"),)))
    await truth.items.learn(Learned(judged={}, reinforced=(("k1", (evidence("b"),), 0.9),)))
    assert await levels(truth, "k1") == [CONFIDENTIAL]


async def test_what_becomes_secret_loses_its_vectors_and_the_index_hears_of_it(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.vectors.put(SPACE, {"own": vector(1, 0, 0, 0), "shared": vector(0, 1, 0, 0)})
    await truth.vectors.refer({"xa": ["own", "shared"], "xb": ["shared"]})
    await drain(truth)
    await truth.items.learn(Learned(judged={}, levels={"xa": SECRET, "xb": CONFIDENTIAL}))
    assert await waiting(truth) == {"xa"}
    assert set(await truth.vectors.get(SPACE, ["own", "shared"])) == {"shared"}
    assert await truth.vectors.references(["xa", "xb"]) == {"xb": ["shared"]}


async def test_an_exchange_that_grows_keeps_the_level_that_its_meaning_gave_it(truth: Truth) -> None:
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={}, levels={"xa": CONFIDENTIAL}))
    await save(truth, exchange("a", assistant="a longer answer, nothing found in it"))
    assert await levels(truth, "xa") == [CONFIDENTIAL]
    await save(truth, exchange("a", assistant="a longer answer, and a private key in it now", sensitivity=SECRET))
    assert await levels(truth, "xa") == [SECRET]
