"""What every implementation of `Ledger` promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.storage.samples import OTHER_SPACE, SPACE, exchange, item, minute, save, vector

from knowledge_system.domain.search import SearchLogEntry
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.truth import Learned

if TYPE_CHECKING:
    from knowledge_system.domain.truth import Truth


async def test_an_empty_truth_counts_nothing_and_is_sound(truth: Truth) -> None:
    totals = await truth.ledger.totals()
    assert (totals.sessions, totals.exchanges, totals.unlearned, totals.searches) == (0, 0, 0, 0)
    assert (totals.items, totals.vectors, totals.sensitivity) == ({}, {}, {})
    assert totals.last_exchange_at is None
    assert await truth.ledger.check() == []
    assert await truth.ledger.owners() == []


async def test_counts_everything(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b", timestamp=minute(5), sensitivity=Sensitivity.SECRET), exchange("c"))
    await truth.items.learn(
        Learned(judged={"xa": "item"}, created=(item("1", "a", "b"), item("2"), item("3")), superseded=(("k2", "k1"),))
    )
    await truth.vectors.put(SPACE, {"h1": vector(), "h2": vector()})
    await truth.vectors.put(OTHER_SPACE, {"h1": vector()})
    await truth.ledger.log_search(SearchLogEntry(minute(1), "q", "hash", "all", {"project": "api"}, 3, 0.5, 1.25))
    totals = await truth.ledger.totals()
    assert (totals.sessions, totals.exchanges, totals.unlearned) == (1, 3, 2)
    assert (totals.items, totals.evidence) == ({"active": 2, "superseded": 1}, 4)
    assert totals.vectors == {SPACE.key: 2, OTHER_SPACE.key: 1}
    assert totals.sensitivity == {"internal": 2, "secret": 1}
    assert (totals.searches, totals.last_exchange_at) == (1, minute(5))


async def test_a_sensitive_query_and_an_event_can_be_logged(truth: Truth) -> None:
    await truth.ledger.log_search(SearchLogEntry(minute(1), None, "hash", "items"))
    await truth.ledger.record_event("index-rebuilt", {"points": 3, "seconds": 1.5, "reason": "ü"})
    assert (await truth.ledger.totals()).searches == 1


async def test_owners_are_walked_in_ascending_order(truth: Truth) -> None:
    names = ["B", "a", "_", "b", "10", "9", "é"]
    await save(truth, *(exchange(name) for name in names))
    await truth.items.learn(Learned(judged={}, created=tuple(item(name) for name in names)))
    walked: list[str] = []
    while page := await truth.ledger.owners(walked[-1] if walked else "", 4):
        walked += page
    assert walked == sorted([f"x{name}" for name in names] + [f"k{name}" for name in names])
