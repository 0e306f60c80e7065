from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.extraction.asks import ASK_CHARACTERS, error_lines, read_ask


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "commit and push",
        "yes",
        "ok, go ahead",
        "1, 2 and 3",
        "/clear",
        "continue",
        "thanks!",
        "run the tests",
        "!ls -la",
    ],
)
def test_chores_say_nothing_by_themselves(prompt: str) -> None:
    assert read_ask(prompt).chore


@pytest.mark.parametrize("prompt", ["why does the build fail?", "add a dark mode to the settings page of the app"])
def test_requests_are_no_chores(prompt: str) -> None:
    assert not read_ask(prompt).chore


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("why is the list empty?", "question"),
        ("the page shows a wrong total", "trouble"),
        ("\u4e3a\u4ec0\u4e48\u62a5\u9519\uff1f", "trouble"),
        ("Implement the following plan:\n\n# Add caching\n", "plan"),
    ],
)
def test_kinds_of_requests(prompt: str, kind: str) -> None:
    assert getattr(read_ask(prompt), kind)


def test_pasted_logs_are_not_part_of_the_request() -> None:
    ask = read_ask(
        "The upload stops after a minute.\n\n2026-01-02 10:00:01 INFO starting the upload now\n"
        "  at Object.send (client.js:10:3)\n$ curl -v http://localhost/upload\n"
    )
    assert ask.text == "The upload stops after a minute."


def test_pasted_errors_are_found_with_their_places() -> None:
    prompt = "it breaks:\nTraceback (most recent call last):\nValueError: no such column: price\n"
    (error,) = read_ask(prompt).errors
    assert error.text == "ValueError: no such column: price"
    assert prompt[error.start : error.end] == error.text


def test_a_question_about_what_one_cannot_do_is_no_error() -> None:
    assert read_ask("can't we compare hashes instead?").errors == ()


def test_of_a_plan_the_context_is_the_request() -> None:
    ask = read_ask(
        "Implement the following plan:\n\n# Confirm before deleting\n\n## Context\n\nUsers delete rows by accident.\n\n"
        "## Steps\n\n1. Add the dialog to the page\n"
    )
    assert ask.text == "Users delete rows by accident."


def test_mentions_and_tags_read_like_words() -> None:
    assert read_ask("please look at @src/app.ts and tell me why").text == "please look at src/app.ts and tell me why"


def test_errors_are_distinct_and_the_last_ones_win() -> None:
    text = "".join(f"ValueError: number {n}\n" for n in (1, 2, 3, 4, 4))
    assert [line.text for line in error_lines(text)] == [f"ValueError: number {n}" for n in (2, 3, 4)]


@given(st.text(max_size=600))
def test_any_prompt_can_be_read(prompt: str) -> None:
    ask = read_ask(prompt)
    assert len(ask.text) <= ASK_CHARACTERS + 3
    assert all(0 <= s.start < s.end <= len(prompt) for s in (*ask.sentences, *ask.errors))
