"""What every implementation of `Ledger` promises."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.storage.samples import OTHER_SPACE, SPACE, evidence, exchange, item, minute, save, vector

from knowledge_system.domain.knowledge import KnowledgeItem
from knowledge_system.domain.search import SearchLogEntry, SourceRef
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import ExchangeFacts, ToolCall
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


async def test_several_searches_are_logged_at_once(truth: Truth) -> None:
    await truth.ledger.log_search(*(SearchLogEntry(minute(n), f"q{n}", "hash", "all") for n in range(3)))
    await truth.ledger.log_search()
    assert (await truth.ledger.totals()).searches == 3


async def test_what_a_search_finds_is_what_the_single_reads_return(truth: Truth) -> None:
    tool = ToolCall("Bash", '{"command":"ls"}', "output")
    facts = ExchangeFacts(files=("a.py",), interrupted=True)
    texts = [exchange("a", tools=(tool,), facts=facts, intent="fix"), exchange("b", path="/logs/b.jsonl", index=4)]
    await save(truth, *texts, exchange("c", timestamp=None, user="\U0001f980", assistant=""))
    await truth.items.learn(Learned(judged={}, created=(item("1", "b", "a", intent="fix"), item("2", "b"), item("3"))))
    asked = ["xb", "k1", "k2", "xa", "xc", "k3"]
    found = await truth.ledger.found(asked)
    apart = {**await truth.exchanges.get(asked, tools=False), **await truth.items.get(asked)}
    assert dict(found.rows) == apart
    assert list(found.rows) == asked
    b = SourceRef("/logs/b.jsonl", "s1", 4)
    assert {key: found.places[key] for key in ("xa", "xb")} == {"xa": SourceRef("/logs/s1.jsonl", "s1", 0), "xb": b}


async def test_what_a_search_finds_has_every_sign_and_digit(truth: Truth) -> None:
    chance = random.Random(5)
    texts = [
        "",
        " ",
        "a\tb\r\nc",
        "\x01\x1f\x7f",
        'say "no" \\ \\" \\u0041',
        "[1, null]",
        "\u2028é\U0001f980",
        "0",
        "null",
        "'",
    ]
    items = [
        item(
            f"{place}",
            title=text,
            content=text * 2,
            confidence=confidence,
            metadata={"text": text, "value": [confidence]},
        )
        for place, text in enumerate(texts * 3)
        for confidence in [chance.choice([chance.random(), round(chance.random(), 4), 0.0, 1.0, 1 / 3, 5e-324])]
    ]
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={}, created=tuple(items)))
    found = await truth.ledger.found([one.id for one in items])
    assert list(found.rows.values()) == items


async def test_what_a_search_finds_leaves_out_what_is_gone(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a", "b"),)))
    await truth.exchanges.forget(["xa"])
    found = await truth.ledger.found(["xa", "k1", "knone", "other", ""])
    assert list(found.rows) == ["k1"]
    assert set(found.places) == {"xb"}
    nothing = await truth.ledger.found([])
    assert (dict(nothing.rows), dict(nothing.places)) == ({}, {})


async def test_the_evidence_of_what_is_found_is_in_order(truth: Truth) -> None:
    names = [f"{number:02}" for number in range(12)]
    await save(truth, *(exchange(name) for name in names))
    spans = tuple(evidence(name, start) for name in reversed(names) for start in (9, 0))
    await truth.items.learn(Learned(judged={}, created=(item("1", evidence=spans),)))
    row = (await truth.ledger.found(["k1"])).rows["k1"]
    assert isinstance(row, KnowledgeItem)
    assert row.evidence == spans


async def test_more_can_be_found_at_once_than_one_statement_takes(truth: Truth) -> None:
    names = [f"{number:04}" for number in range(1_100)]
    await save(truth, *(exchange(name) for name in names))
    await truth.items.learn(Learned(judged={}, created=tuple(item(name, name) for name in names)))
    asked = [sign + name for name in names for sign in "xk"]
    found = await truth.ledger.found([*asked, *asked])
    assert list(found.rows) == asked
    assert len(found.places) == len(names)
