"""What every implementation promises about `Items.learn`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.storage.samples import SPACE, drain, evidence, exchange, item, minute, save, vector, waiting

from knowledge_system.domain.knowledge import ItemStatus
from knowledge_system.domain.truth import Learned, Truth

if TYPE_CHECKING:
    from tests.storage.samples import HandClock


async def test_marks_what_was_judged(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={"xa": "chatter", "xgone": "item"}))
    assert [one.id for one in await truth.exchanges.unlearned(9)] == ["xb"]


async def test_an_exchange_that_grew_while_it_was_judged_stays_to_be_learned(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    judged = {one.id: one.content_hash for one in await truth.exchanges.unlearned(9)}
    await save(truth, exchange("a", assistant="answer a grew meanwhile"))
    await truth.items.learn(Learned(judged={"xa": "item", "xb": "item"}, versions=judged))
    assert [one.id for one in await truth.exchanges.unlearned(9)] == ["xa"]


async def test_every_touched_item_waits_for_the_index(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1"), item("2"), item("3"))))
    await drain(truth)
    await truth.items.learn(
        Learned(
            judged={"xb": "item"},
            created=(item("4", "b"),),
            reinforced=(("k1", (evidence("b"),), 0.8),),
            superseded=(("k2", "k4"),),
            withdrawn=("k3",),
        )
    )
    assert await waiting(truth) == {"k1", "k2", "k3", "k4"}


async def test_learning_twice_is_learning_once(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"),)))
    outcome = Learned(
        judged={"xb": "item"},
        created=(item("2", "b"),),
        reinforced=(("k1", (evidence("b"),), 0.8),),
        superseded=(("k1", "k2"),),
    )
    await truth.items.learn(outcome)
    once = await truth.items.get(["k1", "k2"])
    await truth.items.learn(outcome)
    assert await truth.items.get(["k1", "k2"]) == once
    assert (await truth.ledger.totals()).evidence == 3
    assert await truth.ledger.check() == []


async def test_agreement_adds_evidence_and_counts_exchanges(truth: Truth, clock: HandClock) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"),)))
    clock.advance(hours=1)
    more = (evidence("a", 50), evidence("b"), evidence("b"), evidence("a"))
    await truth.items.learn(Learned(judged={}, reinforced=(("k1", more, 0.9), ("kgone", more, 0.9))))
    found = await truth.items.get(["k1", "kgone"])
    assert found == {
        "k1": replace(
            item("1", "a"),
            evidence=(evidence("a"), evidence("a", 50), evidence("b")),
            confidence=0.9,
            support=2,
            updated_at=clock.now(),
        )
    }


async def test_a_new_item_ends_the_one_it_replaces_when_it_begins(truth: Truth) -> None:
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={}, created=(item("1"),)))
    await truth.items.learn(
        Learned(judged={}, created=(item("2", valid_from=minute(7)),), superseded=(("k1", "k2"), ("kgone", "k2")))
    )
    old = (await truth.items.get(["k1"]))["k1"]
    assert (old.status, old.superseded_by, old.valid_to) == (ItemStatus.SUPERSEDED, "k2", minute(7))


@pytest.mark.parametrize("pair", [("k2", "k1"), ("k1", "k1"), ("k1", "kgone")])
async def test_a_replacement_that_makes_no_sense_is_left_out(truth: Truth, pair: tuple[str, str]) -> None:
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={}, created=(item("1"), item("2")), superseded=(("k1", "k2"),)))
    before = await truth.items.get(["k1", "k2"])
    await truth.items.learn(Learned(judged={"xa": "item"}, superseded=(pair,)))
    assert await truth.items.get(["k1", "k2"]) == before
    assert await truth.exchanges.unlearned(9) == []


async def test_nothing_is_learned_from_an_exchange_that_is_gone(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"),)))
    await truth.exchanges.forget(["xb"])
    await truth.items.learn(
        Learned(
            judged={"xb": "item"},
            created=(item("2", "b"), item("3", "a", "b")),
            reinforced=(("k1", (evidence("b"),), 0.9),),
        )
    )
    found = await truth.items.get(["k1", "k2", "k3"])
    assert {key: one.evidence for key, one in found.items()} == {"k1": (evidence("a"),), "k3": (evidence("a"),)}
    assert found["k3"].support == 1
    assert found["k1"].confidence == 0.7
    assert await truth.ledger.check() == []


async def test_a_withdrawn_item_is_erased_but_may_return(truth: Truth) -> None:
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={"xa": "item"}, created=(item("1"),)))
    await truth.vectors.put(SPACE, {"h": vector()})
    await truth.vectors.refer({"k1": ["h"]})
    await truth.items.learn(Learned(judged={"xa": "nothing"}, withdrawn=("k1", "kgone")))
    assert await truth.items.get(["k1"]) == {}
    assert await truth.vectors.get(SPACE, ["h"]) == {}
    await truth.items.learn(Learned(judged={"xa": "item"}, created=(item("1"),)))
    assert await truth.items.get(["k1"]) == {"k1": item("1")}


async def test_a_withdrawn_item_that_rests_on_others_too_only_loses_evidence(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a", "b"),)))
    await drain(truth)
    await truth.items.learn(Learned(judged={"xa": "nothing"}, withdrawn=("k1",)))
    left = (await truth.items.get(["k1"]))["k1"]
    assert (left.evidence, left.support) == ((evidence("b"),), 1)
    assert await waiting(truth) == {"k1"}


async def test_what_a_withdrawn_item_had_replaced_is_active_again(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"), item("2", "b")), superseded=(("k1", "k2"),)))
    await drain(truth)
    await truth.items.learn(Learned(judged={"xb": "nothing"}, withdrawn=("k2",)))
    back = (await truth.items.get(["k1"]))["k1"]
    assert (back.status, back.superseded_by, back.valid_to) == (ItemStatus.ACTIVE, None, None)
    assert await waiting(truth) == {"k1", "k2"}
    assert await truth.ledger.check() == []


async def test_an_item_learned_anew_keeps_its_place_in_the_history(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"), exchange("c"))
    await truth.items.learn(
        Learned(
            judged={},
            created=(item("1", "a"), item("2", "b"), item("3", "c")),
            superseded=(("k1", "k2"), ("k2", "k3")),
        )
    )
    anew = item("2", "b", title="better", confidence=0.9, created_at=minute(60), updated_at=minute(60))
    await truth.items.learn(Learned(judged={"xb": "item"}, created=(anew,), withdrawn=("k2",)))
    found = await truth.items.get(["k1", "k2"])
    assert found["k1"].superseded_by == "k2"
    assert (found["k2"].title, found["k2"].confidence, found["k2"].superseded_by) == ("better", 0.9, "k3")
    assert (found["k2"].created_at, found["k2"].updated_at) == (minute(0), minute(60))
    assert await truth.ledger.check() == []


async def test_an_item_that_is_there_already_keeps_its_text_and_gains_evidence(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"),)))
    await truth.items.learn(Learned(judged={}, created=(item("1", "b", title="another text"),)))
    found = (await truth.items.get(["k1"]))["k1"]
    assert (found.title, found.evidence, found.support) == ("title 1", (evidence("a"), evidence("b")), 2)
