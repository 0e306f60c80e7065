from __future__ import annotations

import pytest
from tests.extraction.episodes import BUG, episode, run

from knowledge_system.extraction.course import course
from knowledge_system.extraction.signals import read_signals

PATCH = "The list is sorted twice. Replace the call:\n\n```python\nitems.sort()\n```\n\nThen it is sorted once."


def test_proposed_code_that_nothing_proves_is_told_from_proven() -> None:
    assert course(read_signals(episode("it sorts twice", PATCH)))["unproven"] == 1.0
    assert course(read_signals(episode("it sorts twice", PATCH, "still wrong")))["unproven"] == 1.0
    assert course(read_signals(episode("it sorts twice", PATCH, "works now, thanks")))["unproven"] == 0.0
    assert course(read_signals(episode("it sorts twice", PATCH, tools=[run("pytest")])))["unproven"] == 0.0
    assert course(read_signals(BUG))["unproven"] == 0.0


def test_a_proposed_edit_block_is_code_too() -> None:
    block = "I will sort once.\n\nitems.py\n<<<<<<< SEARCH\nsort()\nsort()\n=======\nsort()\n>>>>>>> REPLACE"
    assert course(read_signals(episode("it sorts twice", block)))["unproven"] == 1.0


@pytest.mark.parametrize(
    ("prompt", "survey", "general"),
    [
        ("is there a function for rounding in @totals.py?", 1.0, 0.0),
        ("can you check if we log the address?", 1.0, 0.0),
        ("summarise what you did", 1.0, 0.0),
        ("how do I rename a branch in git?", 0.0, 1.0),
        ("why does our build fail?", 0.0, 0.0),
        ("add a button", 0.0, 0.0),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_questions_about_this_code_base_are_told_from_general_ones(prompt: str, survey: float, general: float) -> None:
    found = course(
        read_signals(episode(prompt, "The file `totals.py` has what you are looking for in its first part."))
    )
    assert (found["survey"], found["general_question"]) == (survey, general)


def test_guessing_counts_where_the_answer_ends() -> None:
    sure = "The cache was stale because the key had no version. " * 8
    guess = "Maybe it is also the proxy that might be wrong."
    ends = course(read_signals(episode("why?", f"{sure}\n\n{guess}")))["final_hedge"]
    begins = course(read_signals(episode("why?", f"{guess}\n\n{sure}")))["final_hedge"]
    assert begins == 0.0 < ends <= 1.0
