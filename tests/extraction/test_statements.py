from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.extraction.episodes import BUG, episode

from knowledge_system.extraction.signals import read_signals
from knowledge_system.extraction.statements import (
    best,
    headline,
    insight,
    is_fragment,
    ranked,
    repeats,
    restated,
    spoken,
)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Good catch \u2014 the issue is that `A` is read before `B` is set.", "`A` is read before `B` is set."),
        ("Found it. The root cause was a lock that nobody released in time.", "A lock that nobody released in time."),
        (
            "You're absolutely right! The parser drops the last line of a file.",
            "The parser drops the last line of a file.",
        ),
        (
            "I've moved the check in front of the loop for all callers.",
            "Moved the check in front of the loop for all callers.",
        ),
        ("I changed `a.py` to close the file after each row.", "Changed `a.py` to close the file after each row."),
        (
            "I suspect that the disk is full on that old machine.",
            "I suspect that the disk is full on that old machine.",
        ),
        ("Yes \u2014 use the second form for shared libraries.", "Use the second form for shared libraries."),
        (
            "The problem is in how the rows are merged afterwards.",
            "The problem is in how the rows are merged afterwards.",
        ),
        ("snake_case_name stays as it is written in the file.", "snake_case_name stays as it is written in the file."),
        ("Logs are in /home/ann/shop/logs on every machine.", "Logs are in ~/shop/logs on every machine."),
    ],
)
def test_chatter_first_person_and_lead_ins_go(said: str, shown: str) -> None:
    assert restated(said) == shown


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The pool is closed too early.", "The pool is closed too early"),
        (
            "Since the driver keeps one connection per thread and never returns it, the pool runs dry under load.",
            "The pool runs dry under load",
        ),
        (
            "The scheduler compares local times, so the job runs twice when the clock is set back in autumn.",
            "The scheduler compares local times",
        ),
    ],
)
def test_headlines(text: str, title: str) -> None:
    assert headline(text, 60) == title


def test_a_headline_is_not_cut_inside_code_or_brackets() -> None:
    text = "Changed `printf(stream, text)` to `printf(stream, format, text)` for the sake of the compiler's warnings"
    assert headline(text, 50).count("`") % 2 == 0


@given(st.text(min_size=1, max_size=400))
def test_headlines_are_short_and_balanced(text: str) -> None:
    title = headline(text)
    assert len(title) <= 101
    assert title.count("`") % 2 == 0


@pytest.mark.parametrize(
    "text", ["name, size, color_hex, spool_id", "opk --gen PDL.yaml --out DIR", "later attributed to the agent"]
)
def test_fragments(text: str) -> None:
    assert is_fragment(text)


@pytest.mark.parametrize(
    "text", ["The cache is cleared on start.", "缓存没有失效导致价格错误", "Der Index wird neu gebaut."]
)
def test_sentences_are_no_fragments(text: str) -> None:
    assert not is_fragment(text)


def test_the_cause_outranks_narration() -> None:
    statements = ranked(read_signals(BUG))
    assert best(statements, "cause")[0].text.startswith("`load_rows()` filters by")
    assert min(statements, key=lambda s: s.points).text.startswith("Let me look")


def test_insight_is_higher_where_more_is_said() -> None:
    empty = ranked(read_signals(episode("go", "Let me see. I will look at the file now.")))
    assert insight(ranked(read_signals(BUG))) > insight(empty)
    assert insight(()) == 0.0


def test_nearly_the_same_words_are_a_repetition() -> None:
    assert repeats("Add the flag to all commands", ["Add the flag to all the commands"])
    assert not repeats("Remove the old index", ["Add the flag to all commands"])


def test_what_a_user_said_keeps_its_person() -> None:
    assert spoken("i get an error in /Users/ann/app/main.py") == "I get an error in ~/app/main.py"
    assert spoken("test_due_date fails in CI") == "test_due_date fails in CI", "a name out of code stays as it is"
