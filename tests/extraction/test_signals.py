from __future__ import annotations

import pytest
from tests.extraction.episodes import BUG, edit, episode, run

from knowledge_system.domain.sessions import ToolCall
from knowledge_system.extraction.signals import identifiers, read_signals

ASK, ANSWER = "the total is wrong, why?", "The total was wrong because of rounding."


def test_failure_edit_and_passing_check_are_a_recovery() -> None:
    work = read_signals(BUG).work
    assert work.recovered
    assert work.checked == "pytest"
    assert work.edits == 1
    assert not work.failed_last
    assert work.failures == ("KeyError: 'weekday'",)


def test_a_check_that_fails_last_is_no_recovery() -> None:
    tools = [edit("a.py"), run("go test ./...", "--- FAIL: TestX\nFAIL")]
    work = read_signals(episode(ASK, ANSWER, tools=tools)).work
    assert work.failed_last
    assert not work.recovered
    assert work.checked == ""


def test_an_error_in_plain_output_counts_as_failure() -> None:
    tools = [run("make build", "src/a.c:3: error: expected ';'"), edit("src/a.c"), run("make build", "done")]
    assert read_signals(episode(ASK, ANSWER, tools=tools)).work.recovered


def test_commands_that_check_nothing_are_no_check() -> None:
    assert read_signals(episode(ASK, ANSWER, tools=[run("ls -la"), run("git status")])).work.checked == ""


def test_calls_of_sub_agents_are_not_the_exchanges_own_work() -> None:
    call = ToolCall("Bash", "pytest", "1 passed", agent="explorer")
    assert read_signals(episode(ASK, ANSWER, tools=[call])).work.calls == 0


@pytest.mark.parametrize("prompt", ["thanks, works", "perfect", "ok commit it", "gracias!", "it works now", "lgtm"])
def test_acceptance(prompt: str) -> None:
    assert read_signals(episode(ASK, ANSWER, prompt)).reception.accepted


@pytest.mark.parametrize(
    "prompt",
    [
        "no, still wrong",
        "that's not what I meant",
        "it doesn't work",
        "are you sure?",
        "you forgot the header",
        "не работает",
    ],
)
def test_correction(prompt: str) -> None:
    reception = read_signals(episode(ASK, ANSWER, prompt)).reception
    assert reception.corrected
    assert not reception.accepted


@pytest.mark.parametrize("prompt", ["revert that please", "undo it", "never mind", "put it back the way it was"])
def test_undoing_is_seen_also_one_prompt_later(prompt: str) -> None:
    assert read_signals(episode(ASK, ANSWER, prompt)).reception.undone
    assert read_signals(episode(ASK, ANSWER, "and the footer?", prompt)).reception.undone


def test_the_same_error_again_is_a_repetition() -> None:
    ask = "it fails with\nTypeError: x is not a function at line 3"
    later = "now I see\nTypeError: x is not a function at line 9"
    assert read_signals(episode(ask, ANSWER, later)).reception.repeated
    assert not read_signals(episode(ask, ANSWER, "next: the footer of the page")).reception.repeated


def test_an_empty_prompt_says_nothing_about_the_answer() -> None:
    assert read_signals(episode(ASK, ANSWER, " ", "it still fails")).reception.corrected
    assert not read_signals(episode(ASK, ANSWER, "", "\n")).reception.followed


def test_without_following_prompts_nothing_is_claimed() -> None:
    reception = read_signals(episode(ASK, ANSWER)).reception
    assert not any((reception.followed, reception.accepted, reception.corrected, reception.undone, reception.repeated))


def test_identifiers() -> None:
    text = "Set `max_conn` in src/db/pool.ts or pass --max-connections to startServer(), see DB_POOL_SIZE."
    assert set(identifiers(text)) >= {"max_conn", "src/db/pool.ts", "--max-connections", "startServer", "DB_POOL_SIZE"}
    assert identifiers("There is nothing special in here.") == ()
