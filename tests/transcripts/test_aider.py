"""aider's chat history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.transcripts.samples import Result

BANNER = """
# aider chat started at {when}

> /home/dana/.local/bin/aider  
> Aider v0.86.1  
> Main model: sonnet with diff edit format  
> Git repo: .git with 84 files  

"""  # noqa: W291 -- aider ends lines with two spaces
COST = "> Tokens: 4.1k sent, 312 received. Cost: $0.02 message.  \n"


def _history(body: str, when: str = "2026-02-26 08:30:12") -> str:
    return BANNER.format(when=when) + body


def test_prompts_answers_and_session(read: Callable[..., Result]) -> None:
    body = "#### make it\n#### stream  \n\nI will.\n\n" + COST + "\n#### thanks  \n\nSure.\n\n"
    result = read(_history(body.replace("make it\n", "make it  \n")), "ledger/.aider.chat.history.md")
    assert (result.prompts, result.answers) == (["make it\nstream", "thanks"], ["I will.", "Sure."])
    first = result.exchanges[0]
    assert first.timestamp == datetime(2026, 2, 26, 8, 30, 12, tzinfo=UTC)
    assert (first.session.agent, first.session.project, first.facts.model) == ("aider", "ledger", "sonnet")
    assert first.session.id.startswith("aider-")


def test_each_start_is_a_session_but_the_index_goes_on(read: Callable[..., Result]) -> None:
    text = _history("#### hello  \n\nHi.\n") + _history("#### hello  \n\nHi.\n", "2026-02-27 09:00:00")
    first, second = read(text).exchanges
    assert first.session.id != second.session.id
    assert [(one.index, one.occurrence) for one in (first, second)] == [(0, 0), (1, 0)]


def test_headings_in_answers_are_no_prompts(read: Callable[..., Result]) -> None:
    body = "#### explain  \n\nSteps:\n\n#### First step\n\nDo it.\n\n#### Second step\n\nDone.\n\n" + COST
    result = read(_history(body))
    assert result.prompts == ["explain"]
    assert "#### Second step" in result.answers[0]


def test_a_history_stripped_of_trailing_spaces(read: Callable[..., Result]) -> None:
    body = "#### explain\n\nSteps:\n\n#### First step\n\nDo it.\n\n" + COST + "\n#### thanks\n\nSure.\n"
    stripped = "\n".join(line.rstrip() for line in _history(body).split("\n"))
    assert read(stripped).prompts == ["explain", "thanks"]


def test_windows_line_ends_in_the_middle(read: Callable[..., Result]) -> None:
    body = "#### one  \r\n#### two  \r\n\r\nAnswer.\r\n\r\n#### three  \n\nOk.\n"
    assert read(_history(body)).prompts == ["one\ntwo", "three"]


def test_commands_and_dialogs_keep_their_slot(read: Callable[..., Result]) -> None:
    body = "#### /add a.py  \n> Added a.py to the chat  \n\n#### Add file to the chat? (Y)es/(N)o [Yes]: skip  \n\n"
    result = read(_history(body))
    assert result.prompts == ["/add a.py", "Add file to the chat? (Y)es/(N)o [Yes]: skip"]
    assert not any(exchange.tools for exchange in result.exchanges)


def test_architect_mode_feeds_its_plan_back(read: Callable[..., Result]) -> None:
    plan = "Change `a.py`:\n\n- stream it\n- test it\n"
    echo = "".join(f"#### {line}  \n" for line in plan.strip().split("\n"))
    body = (
        f"#### make it stream  \n\n{plan}\n{COST}> Edit the files? (Y)es/(N)o [Yes]: y  \n\n{echo}\nEdited.\n\n{COST}"
    )
    result = read(_history(body + "\n#### next  \n\nOk.\n"))
    assert result.prompts == ["make it stream", "next"]
    assert result.answers[0].endswith("Edited.")


def test_console_output_tells_of_edits_commands_and_trouble(read: Callable[..., Result]) -> None:
    body = (
        "#### fix it  \n\nI fix it.\n\n" + COST + "> Applied edit to src/a.py  \n> Commit 5c0d1aa fix: it  \n"
        "> Running pytest -q  \n> 1 failed, 3 passed  \n"
        "> Add 0.3k tokens of command output to the chat? (Y)es/(N)o [Yes]: y  \n"
        "\n#### again  \n> litellm.RateLimitError: slow down  \n> Retrying in 0.2 seconds...  \n"
    )
    first, second = read(_history(body)).exchanges
    assert [(tool.name, tool.input, tool.is_error) for tool in first.tools] == [
        ("edit", "src/a.py", False),
        ("shell", "pytest -q", True),
    ]
    assert (first.facts.files, first.facts.commands) == (("src/a.py",), ("pytest -q",))
    assert first.tools[1].output == "1 failed, 3 passed"
    assert [(tool.name, tool.is_error) for tool in second.tools] == [("aider", True)]
    assert second.tools[0].output.startswith("litellm.RateLimitError")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("#### go  \n\nI will st\n\n> ^C KeyboardInterrupt  \n", "interrupted"),
        ("#### go  \n> ^C again to exit  \n> ^C KeyboardInterrupt  \n", "interrupted"),
        ("#### go  \n\nDone.\n\n" + COST + "> ^C again to exit  \n> ^C KeyboardInterrupt  \n", "finished"),
        ("#### go  \n\nDone.\n\n" + COST, "finished"),
    ],
)
def test_leaving_after_an_answer_interrupts_nothing(read: Callable[..., Result], body: str, expected: str) -> None:
    assert read(_history(body)).exchanges[0].facts.interrupted is (expected == "interrupted")


def test_a_file_of_banners_only(read: Callable[..., Result]) -> None:
    result = read(_history(""))
    assert (result.exchanges, result.skipped, result.warnings) == ([], [], [])


def test_a_prompt_still_being_written_waits(read: Callable[..., Result]) -> None:
    result = read(_history("#### done  \n\nYes.\n\n#### half a pro"))
    assert result.prompts == ["done"]
    assert "not complete yet" in result.reasons
