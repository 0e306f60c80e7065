from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.retrieval.nouns import World, exchange, item

from knowledge_system.domain.sessions import Exchange, ExchangeFacts, ToolCall
from knowledge_system.retrieval.indexing import WORDS_PIECE
from knowledge_system.retrieval.passages import (
    FIRST_WINDOWS,
    LAST_WINDOWS,
    LEAD_PIECES,
    OUTPUT_LIMIT,
    TEXT_LIMIT,
    WHOLE_PIECES,
    WINDOW_PIECES,
    digest,
    ending,
    exchange_passages,
    exchange_words,
    indexed_part,
    item_passages,
    item_words,
    pieces,
    readable,
    shorten,
    windows,
)

SENTENCES = " ".join(f"Sentence number {n} says something about topic{n}." for n in range(400))
TEXTS = st.text(max_size=3_000) | st.text(alphabet="ab .\n", max_size=3_000)


def test_the_whole_comes_first_and_shows_prompt_and_answer() -> None:
    first, *rest = exchange_passages(exchange("a", "Why does the build fail?", "The compiler flag is wrong."))
    assert first.view == "whole"
    assert first.text == "Why does the build fail?\nThe compiler flag is wrong."
    assert {one.view for one in rest} == {"window"}


def test_every_window_is_led_by_the_prompt() -> None:
    _, *rest = exchange_passages(exchange("a", "Why does the build fail?", SENTENCES))
    assert len(rest) > 1
    assert all(one.text.startswith("Why does the build fail?\n") for one in rest)


def test_the_windows_of_a_long_answer_are_its_beginning_and_its_end() -> None:
    _, *rest = exchange_passages(exchange("a", "Report", SENTENCES))
    assert len(rest) == FIRST_WINDOWS + LAST_WINDOWS
    assert "topic0." in rest[0].text
    assert "topic399." in rest[-1].text
    assert not any("topic200." in one.text for one in rest)


def test_the_whole_of_a_long_exchange_shows_where_the_answer_ends() -> None:
    whole = exchange_passages(exchange("a", SENTENCES, SENTENCES))[0]
    assert "topic0." in whole.text
    assert "topic399." in whole.text
    assert pieces(whole.text) <= WHOLE_PIECES + 5


def test_a_short_exchange_has_one_window_and_an_unanswered_one_too() -> None:
    assert [one.view for one in exchange_passages(exchange("a", "hi", "hello"))] == ["whole", "window"]
    assert [one.text for one in exchange_passages(exchange("a", "hi", ""))] == ["hi", "hi"]
    assert [one.view for one in exchange_passages(exchange("a", "", ""))] == ["whole", "window"]


def test_context_leads_only_prompts_that_say_too_little() -> None:
    context = "Move the parser into its own module"
    short = exchange_passages(exchange("a", "go on", "Done."), context)
    full = exchange_passages(exchange("a", "Now write the tests for the parser module you made", "Done."), context)
    assert all(one.text.startswith(context) for one in short)
    assert not any(context in one.text for one in full)


def test_items_are_led_by_their_title() -> None:
    passages = item_passages(item("a", "Flush before reading", SENTENCES))
    assert passages[0].view == "whole"
    assert all(one.text.startswith("Flush before reading\n") for one in passages)


@pytest.mark.parametrize(
    "noise",
    [
        "[secret:aws-key#1]",
        "[personal:email#12]",
        "[REDACTED]",
        "REDACTED",
        "<USER_ID_REDACTED>",
        "iVBORw0KGgo" * 30,
        "=" * 40,
        "- - - - - - - -",
        "\x1b[31m",
        "\x00\x07",
        "\ud800",
    ],
)
def test_noise_carries_no_meaning(noise: str) -> None:
    assert readable(f"before {noise} after").split() == ["before", "after"]
    assert exchange_words(exchange("a", f"before {noise} after", "")).split() == ["before", "after"]


@pytest.mark.parametrize(
    "kept", ["a - b", "x == y", "[link](https://example.org/path)", "list[str]", "[info: ok]", "__init__"]
)
def test_ordinary_text_stays(kept: str) -> None:
    assert readable(kept) == kept


def test_a_huge_text_keeps_beginning_and_end_and_is_fast_enough_to_finish() -> None:
    huge = "start " + "x1 y2 " * 500_000 + " finish"
    passages = exchange_passages(exchange("a", huge, huge))
    assert len(passages) <= 1 + FIRST_WINDOWS + LAST_WINDOWS
    assert passages[-1].text.endswith("finish")
    words = exchange_words(exchange("a", huge, huge))
    assert len(words) <= TEXT_LIMIT


def test_one_endless_line_is_cut_into_windows() -> None:
    log = ",".join(f'"key{n}":{n}' for n in range(5_000))
    assert all(pieces(one) <= WINDOW_PIECES + 5 for one in windows(log.replace(",", ", ")))
    assert windows("a" * 70_000)


def test_words_contain_files_commands_and_errors_but_no_ordinary_output() -> None:
    tools = (
        ToolCall("Bash", "pytest", "E  ImportError: cannot import name", is_error=True),
        ToolCall("Bash", "ls", "listing.txt"),
    )
    facts = ExchangeFacts(files=("src/parser.py",), commands=("pytest -q",))
    words = exchange_words(exchange("a", "prompt", "answer", tools=tools, facts=facts))
    assert words.splitlines() == [
        "prompt",
        "answer",
        "src/parser.py",
        "pytest -q",
        "E  ImportError: cannot import name",
    ]


@given(calls=st.lists(st.tuples(st.text(max_size=3_000), st.booleans()), max_size=4))
def test_the_indexed_part_is_indexed_as_the_whole_is(calls: list[tuple[str, bool]]) -> None:
    tools = tuple(ToolCall("Bash", "make", output, is_error=failed) for output, failed in calls)
    one = exchange("a", "prompt", SENTENCES, tools=tools)
    part = indexed_part(one)
    assert exchange_words(part) == exchange_words(one)
    assert exchange_passages(part) == exchange_passages(one)


async def test_documents_hold_nothing_of_tool_calls_that_is_not_indexed() -> None:
    world = World()
    huge = (ToolCall("Bash", "cat", "x" * 100_000), ToolCall("Bash", "make", "y" * 100_000, is_error=True))
    names = [f"{number}" for number in range(WORDS_PIECE + 1)]
    await world.add(*(exchange(name, "prompt", tools=huge) for name in names), indexed=False)
    documents = await world.indexer.documents([f"x{name}" for name in names])
    held = [call.output for one in documents.values() if isinstance(one.owner, Exchange) for call in one.owner.tools]
    assert [len(output) for output in held] == [OUTPUT_LIMIT] * len(names)


def test_a_failed_call_brings_no_more_than_the_beginning_of_its_output() -> None:
    tools = (ToolCall("Bash", "make", "word " * 5_000, is_error=True),)
    assert len(exchange_words(exchange("a", "", "", tools=tools))) <= OUTPUT_LIMIT


def test_words_of_an_item_are_title_and_content() -> None:
    assert item_words(item("a", "Title", "Content")) == "Title\nContent"


def test_shorten_and_ending_cut_at_pieces() -> None:
    assert shorten("one two three", 2) == "one two"
    assert ending("one two three", 2) == "two three"
    assert digest("one two three four five six", 4) == "one two ... five six"
    assert digest("one two", 4) == "one two"


def test_a_window_repeats_the_short_sentence_before_the_cut() -> None:
    found = windows("aaa bbb ccc ddd eee. fff. ggg hhh iii jjj kkk.", 8)
    assert found[0].endswith("fff.")
    assert found[1].startswith("fff.") or "fff." not in found[1]


@given(TEXTS, st.integers(1, 200))
def test_shortened_texts_keep_the_limit_and_are_prefixes(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert pieces(short) <= limit
    assert " ".join(text.split()).startswith(short)


@given(TEXTS, st.integers(1, 200))
def test_endings_keep_the_limit_and_are_suffixes(text: str, limit: int) -> None:
    end = ending(text, limit)
    assert pieces(end) <= limit
    assert " ".join(text.split()).endswith(end)


@given(TEXTS, st.integers(5, 120))
def test_windows_cover_every_word_and_keep_their_size(text: str, size: int) -> None:
    found = windows(text, size)
    assert all(pieces(one) <= size * 5 // 4 + 1 for one in found if len(one.split()) > 1)
    assert set(" ".join(found).split()) >= {word for word in text.split() if pieces(word) <= size // 2}


@given(TEXTS, TEXTS, TEXTS)
def test_passages_are_bounded_and_deterministic(user: str, assistant: str, context: str) -> None:
    one = exchange("a", user, assistant)
    passages = exchange_passages(one, context)
    assert 2 <= len(passages) <= 1 + FIRST_WINDOWS + LAST_WINDOWS
    assert passages == exchange_passages(replace(one), context)
    assert all(pieces(p.text) <= max(WHOLE_PIECES + 5, WINDOW_PIECES * 5 // 4 + LEAD_PIECES * 2) + 8 for p in passages)
    assert all(p.content_hash for p in passages)


@pytest.mark.parametrize("before", [0, 1, 39, 40, 41, 79, 80, 81, 1000], ids=str)
@pytest.mark.parametrize("size", [79, 80, 81, 160], ids=str)
def test_a_run_is_removed_wherever_it_stands(before: int, size: int) -> None:
    text = f"{'. ' * (before // 2)}{'.' * (before % 2)} {'aB3' * 60}"[: before + 1 + size] + " end"
    assert ("aB3" in readable(text)) == (size < 80)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a [secret:aws-key#1] b", "a   b"),
        ("a [personal:email#12] b", "a   b"),
        ("a [REDACTED by policy] b", "a   b"),
        ("a <API_KEY_REDACTED> b", "a   b"),
        ("a REDACTED b", "a   b"),
        ("a UNREDACTED b", "a UNREDACTED b"),
        ("a \x1b[31mred\x1b[0m b", "a  red  b"),
        ("a\ud800b\x07", "a b"),
    ],
    ids=["secret", "personal", "bracketed", "tag", "word", "part-of-a-word", "colour", "surrogate"],
)
def test_marks_that_say_nothing_are_removed(text: str, left: str) -> None:
    assert readable(text) == left


def test_passages_asked_for_twice_are_the_same_and_may_be_changed() -> None:
    one = exchange("a", "Why does the build fail?", SENTENCES)
    first, again = exchange_passages(one), exchange_passages(one)
    assert first == again
    first.clear()
    assert exchange_passages(one) == again
    assert exchange_passages(replace(one, user="Why not?")) != again
