"""What every implementation of `IngestLog` promises."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.storage.samples import batch, drain, exchange, minute, save, session, state, waiting

from knowledge_system.domain.errors import Overtaken
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, ReadWarning, TokenUsage, ToolCall
from knowledge_system.domain.truth import Learned, Page, Truth, storable

if TYPE_CHECKING:
    from tests.storage.samples import HandClock


def full_exchange() -> Exchange:
    return exchange(
        "full",
        index=7,
        user="Zeile eins\n\tcafé 🦀 \u202e",
        assistant="x" * 5000,
        timestamp=minute(1.25),
        tools=(
            ToolCall("Bash", '{"command": "ls"}', "a\nb", is_error=True, agent="explorer"),
            ToolCall("Read", "", '"\\u0041" stays \\u0000 as typed'),
        ),
        facts=ExchangeFacts(
            files=("a.py", "ü.py"),
            commands=("ls -l",),
            model="m-1",
            usage=TokenUsage(1, 2, 3, 4),
            interrupted=True,
            git_branch="main",
            notes=("summary",),
        ),
        sensitivity=Sensitivity.CONFIDENTIAL,
        redactions=3,
        intent="debug",
    )


async def test_returns_an_exchange_as_it_was_saved(truth: Truth) -> None:
    saved = full_exchange()
    await save(truth, saved, exchange("bare", timestamp=None))
    found = await truth.exchanges.get(["xfull", "xbare", "xmissing"])
    assert found == {"xfull": saved, "xbare": exchange("bare", timestamp=None)}


async def test_says_what_is_new_and_what_is_known(truth: Truth) -> None:
    first = await save(truth, exchange("a"), exchange("b"))
    second = await save(truth, exchange("b"), exchange("c"))
    assert (first.new, first.known, first.updated) == (("xa", "xb"), (), ())
    assert (second.new, second.known, second.updated) == (("xc",), ("xb",), ())


async def test_a_longer_text_replaces_a_shorter_one_and_is_to_be_learned_again(truth: Truth) -> None:
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={"xa": "chatter"}))
    await drain(truth)
    grown = exchange("a", assistant="answer a, and then some", intent="debug")
    saved = await save(truth, grown)
    assert saved.updated == ("xa",)
    assert await truth.exchanges.get(["xa"]) == {"xa": grown}
    assert [one.id for one in await truth.exchanges.unlearned(10)] == ["xa"]
    assert await waiting(truth) == {"xa"}


async def test_a_longer_tool_output_counts_as_more_text(truth: Truth) -> None:
    await save(truth, exchange("a"))
    saved = await save(truth, exchange("a", tools=(ToolCall("Bash", "ls", "output"),)))
    assert saved.updated == ("xa",)


@pytest.mark.parametrize("assistant", ["short", "answer b"])
async def test_a_text_that_is_not_longer_changes_nothing(truth: Truth, assistant: str) -> None:
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={"xa": "chatter"}))
    await drain(truth)
    saved = await save(truth, exchange("a", assistant=assistant))
    assert saved.known == ("xa",)
    assert await truth.exchanges.get(["xa"]) == {"xa": exchange("a")}
    assert not await truth.exchanges.unlearned(10)
    assert not await waiting(truth)


async def test_one_batch_may_hold_an_exchange_twice(truth: Truth) -> None:
    longer = exchange("a", assistant="the longer version of it")
    saved = await save(truth, exchange("a"), longer, exchange("a"))
    assert (saved.new, saved.known, saved.updated) == (("xa",), (), ())
    assert await truth.exchanges.get(["xa"]) == {"xa": longer}


async def test_new_exchanges_wait_for_the_index(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    assert await waiting(truth) == {"xa", "xb"}


async def test_remembers_how_far_a_file_was_read(truth: Truth) -> None:
    assert await truth.ingest.source("/logs/s1.jsonl") is None
    await truth.ingest.save(batch(state=state(resume={"offset": 12, "open": ["é"]})))
    await truth.ingest.save(batch(state=state(size=2**40, exchanges=2, resume={"offset": 99})))
    assert await truth.ingest.source("/logs/s1.jsonl") == state(size=2**40, exchanges=2, resume={"offset": 99})


async def test_remembers_placeholders_by_session(truth: Truth) -> None:
    assert await truth.ingest.placeholders("s1") == {}
    await truth.ingest.save(batch(placeholders={"s1": {"email": {"d1": 1}}}))
    await truth.ingest.save(batch())
    assert await truth.ingest.placeholders("s1") == {"email": {"d1": 1}}
    await truth.ingest.save(batch(placeholders={"s1": {"email": {"d1": 1, "d2": 2}}}))
    assert await truth.ingest.placeholders("s1") == {"email": {"d1": 1, "d2": 2}}


async def test_tells_which_sessions_have_placeholders_unless_they_are_many(truth: Truth) -> None:
    assert await truth.ingest.numbered(0) == frozenset()
    sessions = tuple(session(f"s{number}") for number in range(4))
    numbers = {"s0": {}, "s1": {"email": {"d1": 1}}, "s2": {"token": {"d2": 1}}}
    await truth.ingest.save(batch(sessions=sessions, placeholders=numbers))
    assert await truth.ingest.numbered(2) == {"s1", "s2"}
    assert await truth.ingest.numbered(1) is None


async def test_a_session_seen_again_gains_and_never_loses(truth: Truth) -> None:
    first = session(title="Fix login", started_at=minute(5), ended_at=minute(6), metadata={"a": 1})
    again = session(title="", cwd="/srv", started_at=minute(3), ended_at=None, metadata={"b": 2}, parent_id="s0")
    await truth.ingest.save(batch(sessions=(first,)))
    await truth.ingest.save(batch(sessions=(again,)))
    (found,), _ = await truth.exchanges.sessions(Page())
    assert found == replace(first, cwd="/srv", started_at=minute(3), metadata={"a": 1, "b": 2}, parent_id="s0")


async def test_a_session_may_come_several_times_in_a_batch(truth: Truth) -> None:
    await truth.ingest.save(batch(sessions=(session(ended_at=minute(1)), session(title="t"), session("s2"))))
    found, _ = await truth.exchanges.sessions(Page())
    assert {one.id: (one.title, one.ended_at) for one in found} == {"s1": ("t", minute(1)), "s2": ("", None)}


async def test_an_exchange_whose_session_was_not_announced_is_kept(truth: Truth) -> None:
    saved = await truth.ingest.save(batch(exchange("a", session_id="s9"), sessions=()))
    found, _ = await truth.exchanges.sessions(Page())
    assert saved.new == ("xa",)
    assert [(one.id, one.project) for one in found] == [("s9", "api")]


async def test_what_was_forgotten_is_known_and_not_stored(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.exchanges.forget(["xa"])
    saved = await save(truth, exchange("a", assistant="a much longer answer than before"))
    assert saved.known == ("xa",)
    assert await truth.exchanges.get(["xa"]) == {}


async def test_warnings_are_no_obstacle(truth: Truth) -> None:
    saved = await truth.ingest.save(batch(exchange("a"), warnings=(ReadWarning("/logs/s1.jsonl", "line 3", "bad"),)))
    assert saved.new == ("xa",)


async def test_what_no_database_can_keep_is_replaced_everywhere_alike(truth: Truth) -> None:
    odd = "a\0b\ud800c\\\0"
    one = exchange(
        "odd", user=odd, tools=(ToolCall(odd, odd, odd, agent=odd),), facts=ExchangeFacts(notes=(odd,)), path=odd
    )
    await save(truth, one)
    found = (await truth.exchanges.get(["xodd"]))["xodd"]
    clean = "a\ufffdb\ufffdc\\\ufffd"
    assert (found.user, found.path, found.facts.notes) == (clean, clean, (clean,))
    assert found.tools == (ToolCall(clean, clean, clean, agent=clean),)


async def test_many_exchanges_at_once(truth: Truth) -> None:
    names = [f"{number:05}" for number in range(2500)]
    saved = await save(truth, *(exchange(name, index=number) for number, name in enumerate(names)))
    assert len(saved.new) == 2500
    assert len(await truth.exchanges.get([f"x{name}" for name in names])) == 2500
    again = await save(truth, *(exchange(name) for name in names))
    assert len(again.known) == 2500


@pytest.mark.parametrize("count", [0, 1])
async def test_a_batch_may_be_almost_empty(truth: Truth, count: int) -> None:
    saved = await truth.ingest.save(batch(*[exchange("a")] * count, sessions=()))
    assert len(saved.new) == count


any_text = st.text(st.characters(codec=None), max_size=40)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.tuples(any_text, any_text, any_text), number=st.integers(0, 2**31 - 1))
async def test_any_text_comes_back_as_storable_text(truth: Truth, texts: tuple[str, str, str], number: int) -> None:
    user, assistant, output = texts
    key = f"x{abs(hash((texts, number)))}"
    await save(
        truth,
        replace(
            exchange("p", user=user, assistant=assistant, tools=(ToolCall("t", user, output),), index=number), id=key
        ),
    )
    found = (await truth.exchanges.get([key]))[key]
    assert (found.user, found.assistant, found.index) == (storable(user), storable(assistant), number)
    assert found.tools == (ToolCall("t", storable(user), storable(output)),)


async def test_moments_come_back_in_utc_to_the_microsecond(truth: Truth, clock: HandClock) -> None:
    clock.advance(microseconds=1)
    moment = clock.now()
    await save(truth, exchange("a", timestamp=moment), exchange("b", timestamp=moment.replace(tzinfo=None)))
    found = await truth.exchanges.get(["xa", "xb"])
    assert [found[key].timestamp for key in ("xa", "xb")] == [moment, moment]


async def test_a_batch_that_rests_on_what_is_no_longer_there_stores_nothing(truth: Truth) -> None:
    first = state(resume={"revision": 1})
    await truth.ingest.save(batch(exchange("a"), state=first, follows=0))
    for follows in (0, 2):
        with pytest.raises(Overtaken) as raised:
            await truth.ingest.save(batch(exchange("b"), state=state(resume={"revision": 9}), follows=follows))
        assert raised.value.hint
    assert await truth.exchanges.get(["xb"]) == {}
    assert await truth.ingest.source(first.path) == first
    saved = await truth.ingest.save(batch(exchange("b"), state=state(resume={"revision": 2}), follows=1))
    assert saved.new == ("xb",)
