"""What every implementation of `Items` promises, learning apart."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.storage.samples import drain, evidence, exchange, item, minute, save, session, waiting

from knowledge_system.domain.errors import NotFound, UsageError
from knowledge_system.domain.knowledge import Evidence, ItemStatus, KnowledgeItem, KnowledgeType
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.truth import Learned, Page, Truth

if TYPE_CHECKING:
    from tests.storage.samples import HandClock


async def learn(truth: Truth, *items: KnowledgeItem) -> None:
    """Store items, and the exchanges they rest on."""
    await save(truth, *(exchange(one.exchange_id[1:]) for found in items for one in found.evidence))
    await truth.items.learn(Learned(judged={}, created=items))


async def chain(truth: Truth, *names: str) -> None:
    """Store items, each replaced by the next."""
    await learn(truth, *(item(name) for name in names))
    for old, new in itertools.pairwise(names):
        await truth.items.supersede(f"k{old}", f"k{new}", minute(1))


async def test_returns_an_item_as_it_was_learned(truth: Truth) -> None:
    full = item(
        "full",
        type=KnowledgeType.REFACTORING,
        title="ü \U0001f980",
        confidence=0.123456789012345,
        created_at=minute(1.5),
        updated_at=minute(2),
        valid_from=minute(0.25),
        evidence=(Evidence("xb", "user", 3, 9), Evidence("xa", "assistant", 5, 7), Evidence("xa", "assistant", 0, 4)),
        sensitivity=Sensitivity.SECRET,
        intent="debug",
        support=2,
        metadata={"extractor": "rules-1", "nested": {"list": [1, 2.5, None, True]}},
    )
    await learn(truth, full, item("bare"))
    assert await truth.items.get(["kfull", "knone", "kbare"]) == {"kfull": full, "kbare": item("bare")}


async def test_get_keeps_the_order_asked_for(truth: Truth) -> None:
    await learn(truth, item("1"), item("2"), item("3"))
    assert list(await truth.items.get(["k3", "k1", "k2"])) == ["k3", "k1", "k2"]


async def test_pages_are_newest_first_and_complete(truth: Truth) -> None:
    await learn(truth, *(item(str(number), created_at=minute(number // 2)) for number in range(5)))
    first, after = await truth.items.page(Page(limit=3))
    second, end = await truth.items.page(Page(limit=3, after=after))
    assert [one.id for one in (*first, *second)] == ["k4", "k3", "k2", "k1", "k0"]
    assert first[0] == item("4", created_at=minute(2))
    assert end is None


async def test_pages_can_be_filtered(truth: Truth) -> None:
    await learn(
        truth,
        item("1"),
        item("2", project="web"),
        item("3", type=KnowledgeType.TOOL_USAGE),
        item("4", session_id="s2"),
    )
    found = {}
    for name, page in {
        "project": Page(project="web"),
        "type": Page(type="tool_usage"),
        "session": Page(session_id="s2"),
        "both": Page(project="api", type="tool_usage", session_id="s1"),
    }.items():
        found[name] = [one.id for one in (await truth.items.page(page))[0]]
    assert found == {"project": ["k2"], "type": ["k3"], "session": ["k4"], "both": ["k3"]}


async def test_replaced_items_are_listed_only_when_asked_for(truth: Truth) -> None:
    await chain(truth, "1", "2")
    assert [one.id for one in (await truth.items.page(Page()))[0]] == ["k2"]
    assert len((await truth.items.page(Page(include_inactive=True)))[0]) == 2


async def test_finds_the_items_that_rest_on_an_exchange(truth: Truth) -> None:
    await learn(truth, item("1", "a"), item("2", "a", "b"))
    assert await truth.items.from_exchanges(["xa", "xb", "xc"]) == {"xa": ["k1", "k2"], "xb": ["k2"]}


async def test_a_replaced_item_says_by_what_and_since_when(truth: Truth, clock: HandClock) -> None:
    await learn(truth, item("1"), item("2"))
    await drain(truth)
    await truth.items.supersede("k1", "k2", minute(5))
    found = await truth.items.get(["k1", "k2"])
    assert found["k1"] == replace(
        item("1"),
        status=ItemStatus.SUPERSEDED,
        superseded_by="k2",
        valid_to=minute(5),
        updated_at=clock.now(),
    )
    assert found["k2"] == item("2")
    assert await waiting(truth) == {"k1", "k2"}


async def test_no_item_ends_before_it_began(truth: Truth) -> None:
    await learn(truth, item("1", valid_from=minute(9)), item("2"))
    await truth.items.supersede("k1", "k2", minute(5))
    assert (await truth.items.get(["k1"]))["k1"].valid_to == minute(9)


@pytest.mark.parametrize(("old", "new"), [("k1", "knone"), ("knone", "k1")])
async def test_what_is_not_there_cannot_replace_or_be_replaced(truth: Truth, old: str, new: str) -> None:
    await learn(truth, item("1"))
    with pytest.raises(NotFound, match="knone"):
        await truth.items.supersede(old, new, minute(5))


@pytest.mark.parametrize(("old", "new"), [("k3", "k1"), ("k2", "k1"), ("k1", "k1")])
async def test_replacements_never_go_in_a_circle(truth: Truth, old: str, new: str) -> None:
    await chain(truth, "1", "2", "3")
    with pytest.raises(UsageError):
        await truth.items.supersede(old, new, minute(5))
    assert await truth.ledger.check() == []


async def test_a_forgotten_item_does_not_come_back(truth: Truth) -> None:
    await learn(truth, item("1"), item("2"))
    await drain(truth)
    assert await truth.items.forget(["k1", "k1", "knone"]) == 1
    assert await waiting(truth) == {"k1"}
    await truth.items.learn(Learned(judged={}, created=(item("1"), item("3"))))
    assert list(await truth.items.get(["k1", "k2", "k3"])) == ["k2", "k3"]
    assert await truth.items.load([item("1")]) == (0, 1)
    assert list(await truth.exchanges.get(["xa"])) == ["xa"]


async def test_forgetting_a_link_of_a_chain_closes_the_gap(truth: Truth) -> None:
    await chain(truth, "1", "2", "3", "4")
    await truth.items.forget(["k2", "k3"])
    assert (await truth.items.get(["k1"]))["k1"].superseded_by == "k4"
    assert await truth.ledger.check() == []


async def test_what_a_forgotten_item_had_replaced_is_not_active_again(truth: Truth) -> None:
    await chain(truth, "1", "2")
    await drain(truth)
    await truth.items.forget(["k2"])
    left = (await truth.items.get(["k1"]))["k1"]
    assert (left.status, left.superseded_by, left.valid_to) == (ItemStatus.DEPRECATED, None, minute(1))
    assert await waiting(truth) == {"k1", "k2"}


async def test_an_import_stores_records_as_they_are_in_any_order(truth: Truth) -> None:
    records = [
        item("1", "a", status=ItemStatus.SUPERSEDED, superseded_by="k2", valid_to=minute(3), support=5),
        item("2", "elsewhere"),
        exchange("a"),
        exchange("b", session_id="s2"),
        session(title="A title", ended_at=minute(9)),
    ]
    assert await truth.items.load(records) == (5, 0)
    assert list((await truth.items.get(["k1", "k2"])).values()) == records[:2]
    assert list((await truth.exchanges.get(["xa", "xb"])).values()) == records[2:4]
    assert records[4] in (await truth.exchanges.sessions(Page()))[0]
    assert await waiting(truth) == {"k1", "k2", "xa", "xb"}
    assert [one.id for one in await truth.exchanges.unlearned(9)] == ["xa", "xb"]
    assert await truth.ledger.check() == []


async def test_an_import_changes_nothing_that_is_known(truth: Truth) -> None:
    await learn(truth, item("1"))
    await drain(truth)
    records = [item("1", title="other"), exchange("a", assistant="a longer answer than before"), session(title="other")]
    assert await truth.items.load(records) == (0, 3)
    assert await truth.items.load([item("2"), item("2"), exchange("c"), exchange("c")]) == (2, 2)
    assert (await truth.items.get(["k1"]))["k1"] == item("1")
    assert (await truth.exchanges.get(["xa"]))["xa"] == exchange("a")
    assert (await truth.exchanges.sessions(Page()))[0] == [session()]


async def test_an_import_can_complete_a_session_that_only_stood_in(truth: Truth) -> None:
    await truth.items.load([exchange("a")])
    assert await truth.items.load([session(title="A title")]) == (1, 0)
    assert await truth.items.load([session(title="Another")]) == (0, 1)
    assert (await truth.exchanges.sessions(Page()))[0] == [session(title="A title")]


async def test_tombstones_win_over_an_import(truth: Truth) -> None:
    await learn(truth, item("1", "a"), item("2", "b"))
    await truth.exchanges.forget(["xa"])
    assert await truth.items.load([exchange("a"), item("3", "a"), item("4", "a", "b")]) == (1, 2)
    found = await truth.items.get(["k1", "k3", "k4"])
    assert [(key, one.evidence) for key, one in found.items()] == [("k4", (evidence("b"),))]
    assert await truth.ledger.check() == []


async def test_a_belief_changes_the_confidence_and_tells_the_index(truth: Truth) -> None:
    await learn(truth, item("1"), item("2"))
    await truth.outbox.advance(await truth.outbox.pending("words", 99), None)
    await truth.items.believe("k1", 0.25)
    await truth.items.believe("kgone", 0.5)
    found = await truth.items.get(["k1", "k2", "kgone"])
    assert (found["k1"].confidence, found["k2"], len(found)) == (0.25, item("2"), 2)
    assert "k1" in {one.owner_id for one in await truth.outbox.pending("words", 9)}


async def test_a_deprecated_item_ends_and_is_listed_only_on_request(truth: Truth) -> None:
    await learn(truth, item("1"), item("2"))
    await truth.items.deprecate("k1", minute(9))
    await truth.items.deprecate("k1", minute(11))
    found = (await truth.items.get(["k1"]))["k1"]
    assert (found.status, found.valid_to, found.superseded_by) == (ItemStatus.DEPRECATED, minute(9), None)
    listed, _ = await truth.items.page(Page())
    assert [one.id for one in listed] == ["k2"]
