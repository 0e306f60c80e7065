from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.extraction.wording import marks, words_of


@pytest.mark.parametrize(
    ("sentence", "mark"),
    [
        ("The root cause is a stale lock file.", "cause"),
        ("It fails because the pool is empty.", "cause"),
        ("We retry once so that a restart is not noticed.", "reason"),
        ("I would use a table instead of a queue.", "choice"),
        ("By default the flag is off.", "fact"),
        ("Moved the parser into its own module", "done"),
        ("I've replaced the loop by a single query.", "done"),
        ("Set the timeout to 30 seconds", "advice"),
        ("All 12 tests pass.", "result"),
        ("It might be the proxy.", "hedge"),
        ("Let me read the file first.", "narration"),
        ("Now I'll run the linter.", "narration"),
        ("Here is the roadmap for next month.", "plan"),
        ("Committed and pushed to the branch.", "status"),
        ("I don't have access to that machine.", "refusal"),
        ("Let me know if you need anything else.", "offer"),
        ("Would you like me to apply it?", "offer"),
        ("Which database do you use?", "question"),
        ("You\u2019re right about the order.", "assent"),
        ("Die Ursache ist die falsche Kodierung, weil die Datei älter ist.", "cause"),
        ("Причина в том, что индекс не обновлялся.", "cause"),
        ("\u539f\u56e0\u662f\u7f13\u5b58\u6ca1\u6709\u5931\u6548\u3002", "cause"),
    ],
)
def test_what_a_sentence_does(sentence: str, mark: str) -> None:
    assert mark in marks(sentence)


@pytest.mark.parametrize(
    ("sentence", "mark"),
    [
        ("The proxy can't access them because they are private.", "refusal"),
        ("Users will be asked to add a key.", "advice"),
        ("The table holds one row per order.", "cause"),
    ],
)
def test_what_a_sentence_does_not(sentence: str, mark: str) -> None:
    assert mark not in marks(sentence)


def test_an_opening_counts_only_at_the_beginning() -> None:
    assert "narration" in marks("Great, now let me run it.")
    assert "narration" not in marks("The wizard tells what we need to know.")


def test_words_keep_their_apostrophes() -> None:
    assert words_of("It doesn\u2019t re-read") == ["it", "doesn't", "re-read"]


@given(st.text(max_size=200))
def test_any_text_has_marks(text: str) -> None:
    assert isinstance(marks(text), frozenset)
