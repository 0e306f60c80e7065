"""What every implementation of `Exchanges` promises."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.storage.samples import (
    SPACE,
    batch,
    drain,
    evidence,
    exchange,
    item,
    minute,
    save,
    session,
    vector,
    waiting,
)

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.sessions import ToolCall
from knowledge_system.domain.truth import Learned, Page, Truth

if TYPE_CHECKING:
    from tests.storage.samples import HandClock


async def walk(truth: Truth, **filters: object) -> list[list[str]]:
    """Return the ids of all pages."""
    pages, after = [], None
    while True:
        found, after = await truth.exchanges.page(Page(after=after, **filters))  # type: ignore[arg-type]
        pages.append([one.id for one in found])
        if after is None:
            return pages


async def test_get_keeps_the_order_asked_for(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"), exchange("c"))
    assert list(await truth.exchanges.get(["xc", "xa", "xnone", "xb"])) == ["xc", "xa", "xb"]
    assert await truth.exchanges.get([]) == {}


async def test_tool_calls_can_be_left_out(truth: Truth) -> None:
    whole = exchange("a", tools=(ToolCall("Bash", "ls", "much output"),))
    await save(truth, whole)
    assert await truth.exchanges.get(["xa"], tools=False) == {"xa": replace(whole, tools=())}
    assert await truth.exchanges.get(["xa"]) == {"xa": whole}


async def test_neighbours_are_those_of_the_session_in_order(truth: Truth) -> None:
    await save(
        truth,
        *(exchange(str(number), index=number, timestamp=minute(number)) for number in (3, 1, 0, 4, 2)),
        exchange("foreign", session_id="s2", index=1, timestamp=minute(1.5)),
    )
    before, after = await truth.exchanges.around("x2", 1, 5)
    assert [one.id for one in before] == ["x1"]
    assert [one.id for one in after] == ["x3", "x4"]
    assert [one.id for one in (await truth.exchanges.around("x2", 5, 0))[0]] == ["x0", "x1"]


async def test_time_orders_a_session_and_the_index_breaks_ties(truth: Truth) -> None:
    await save(
        truth,
        exchange("resumed", index=0, path="/logs/second.jsonl", timestamp=minute(9)),
        exchange("late", index=1, timestamp=minute(1)),
        exchange("early", index=0, timestamp=minute(1)),
    )
    before, after = await truth.exchanges.around("xlate", 9, 9)
    assert ([one.id for one in before], [one.id for one in after]) == (["xearly"], ["xresumed"])


async def test_without_times_the_order_of_the_file_holds(truth: Truth, clock: HandClock) -> None:
    untimed = [exchange(str(number), index=number, timestamp=None) for number in range(4)]
    await save(truth, *untimed[:2])
    clock.advance(hours=1)
    await save(truth, *untimed[2:])
    before, after = await truth.exchanges.around("x1", 9, 9)
    assert ([one.id for one in before], [one.id for one in after]) == (["x0"], ["x2", "x3"])


async def test_an_exchange_without_time_stays_behind_the_one_before_it(truth: Truth) -> None:
    await save(
        truth,
        exchange("0", index=0, timestamp=minute(30)),
        exchange("1", index=1, timestamp=None),
        exchange("2", index=2, timestamp=minute(31)),
    )
    before, after = await truth.exchanges.around("x1", 9, 9)
    assert ([one.id for one in before], [one.id for one in after]) == (["x0"], ["x2"])


async def test_an_unknown_exchange_has_no_neighbours(truth: Truth) -> None:
    assert await truth.exchanges.around("xnone", 2, 2) == ([], [])


async def test_pages_are_newest_first_and_complete(truth: Truth) -> None:
    await save(truth, *(exchange(str(number), index=number, timestamp=minute(number // 2)) for number in range(7)))
    assert await walk(truth, limit=3) == [["x6", "x5", "x4"], ["x3", "x2", "x1"], ["x0"]]


@pytest.mark.parametrize("limit", [7, 8])
async def test_a_page_that_shows_everything_has_no_next(truth: Truth, limit: int) -> None:
    await save(truth, *(exchange(str(number), index=number) for number in range(7)))
    assert len(await walk(truth, limit=limit)) == 1


async def test_pages_do_not_shift_when_something_is_added(truth: Truth) -> None:
    await save(truth, *(exchange(str(number), index=number, timestamp=minute(number)) for number in range(4)))
    _, after = await truth.exchanges.page(Page(limit=2))
    await save(truth, exchange("new", timestamp=minute(99)))
    found, _ = await truth.exchanges.page(Page(limit=2, after=after))
    assert [one.id for one in found] == ["x1", "x0"]


async def test_pages_can_be_filtered(truth: Truth) -> None:
    await save(
        truth,
        exchange("a"),
        exchange("b", project="web", session_id="s2", timestamp=minute(1)),
        exchange("c", project="web", session_id="s3", timestamp=minute(2)),
    )
    assert await walk(truth, project="web") == [["xc", "xb"]]
    assert await walk(truth, session_id="s2") == [["xb"]]
    assert await walk(truth, project="api", session_id="s2") == [[]]


@pytest.mark.parametrize("cursor", ["", "nonsense", "W10", "WzEsMl0", "é", "[]"])
async def test_a_foreign_cursor_is_a_usage_error(truth: Truth, cursor: str) -> None:
    with pytest.raises(UsageError):
        await truth.exchanges.page(Page(after=cursor))
    with pytest.raises(UsageError):
        await truth.items.page(Page(after=cursor))
    with pytest.raises(UsageError):
        await truth.exchanges.sessions(Page(after=cursor))


async def test_sessions_come_newest_first_by_page(truth: Truth) -> None:
    names = [session(f"s{number}", started_at=minute(number), project=f"p{number % 2}") for number in range(5)]
    await truth.ingest.save(batch(sessions=tuple(names)))
    first, after = await truth.exchanges.sessions(Page(limit=3))
    second, end = await truth.exchanges.sessions(Page(limit=3, after=after))
    assert [one.id for one in (*first, *second)] == ["s4", "s3", "s2", "s1", "s0"]
    assert end is None
    odd, _ = await truth.exchanges.sessions(Page(project="p1"))
    assert odd == [names[3], names[1]]


async def test_the_backlog_is_oldest_first_and_shrinks(truth: Truth) -> None:
    await save(truth, *(exchange(str(number), timestamp=minute(9 - number)) for number in range(4)))
    assert [one.id for one in await truth.exchanges.unlearned(3)] == ["x3", "x2", "x1"]
    await truth.items.learn(Learned(judged={"x3": "chatter", "x1": "chatter"}))
    assert [one.id for one in await truth.exchanges.unlearned(3)] == ["x2", "x0"]
    await truth.exchanges.reconsider(["x3", "xnobody"])
    assert [one.id for one in await truth.exchanges.unlearned(3)] == ["x3", "x2", "x0"]


async def test_forgetting_erases_the_items_that_rest_on_it_alone(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"), item("2", "a", "b"))))
    await drain(truth)
    assert await truth.exchanges.forget(["xa", "xa", "xnone"]) == 1
    left = await truth.items.get(["k1", "k2"])
    assert list(left) == ["k2"]
    assert (left["k2"].evidence, left["k2"].support) == ((evidence("b"),), 1)
    assert await truth.items.from_exchanges(["xa", "xb"]) == {"xb": ["k2"]}
    assert await waiting(truth) == {"xa", "k1", "k2"}
    assert await truth.ledger.check() == []


async def test_a_forgotten_exchange_takes_its_items_with_it_for_good(truth: Truth) -> None:
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={}, created=(item("1", "a"),)))
    await truth.exchanges.forget(["xa"])
    await truth.items.learn(Learned(judged={"xa": "item"}, created=(item("1", "a"),)))
    assert await truth.items.load([item("1", "a"), exchange("a")]) == (0, 2)
    assert await truth.items.get(["k1"]) == {}


async def test_forgetting_erases_vectors_that_nobody_else_needs(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.vectors.put(SPACE, {"own": vector(), "shared": vector()})
    await truth.vectors.refer({"xa": ["own", "shared"], "xb": ["shared"]})
    await truth.exchanges.forget(["xa"])
    assert list(await truth.vectors.get(SPACE, ["own", "shared"])) == ["shared"]
    assert await truth.vectors.references(["xa", "xb"]) == {"xb": ["shared"]}


async def test_the_last_exchange_takes_its_session_with_it(truth: Truth) -> None:
    await truth.ingest.save(batch(exchange("a"), sessions=(session(title="Question a"),)))
    await truth.exchanges.forget(["xa"])
    assert await truth.exchanges.sessions(Page()) == ([], None)


async def test_a_title_that_quotes_a_forgotten_prompt_is_forgotten_too(truth: Truth) -> None:
    title = "Where is the  vault key…"
    prompt = exchange("a", user="where is the vault\nkey of Anna?")
    await truth.ingest.save(batch(prompt, exchange("b"), sessions=(session(title=title),)))
    await truth.exchanges.forget(["xa"])
    await truth.ingest.save(batch(prompt, sessions=(session(title=title),)))
    (found,), _ = await truth.exchanges.sessions(Page())
    assert found.title == ""


async def test_another_title_stays(truth: Truth) -> None:
    await truth.ingest.save(batch(exchange("a"), exchange("b"), sessions=(session(title="Something else"),)))
    await truth.exchanges.forget(["xa"])
    (found,), _ = await truth.exchanges.sessions(Page())
    assert found.title == "Something else"
