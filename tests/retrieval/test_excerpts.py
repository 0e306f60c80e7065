from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.retrieval.excerpts import EXCERPT_CHARACTERS, TITLE_CHARACTERS, excerpt, title
from knowledge_system.retrieval.terms import found_terms, root, terms

FILLER = "Nothing of interest stands here at all. " * 200


def test_a_short_text_is_shown_as_it_is() -> None:
    assert excerpt("  short text\n", ["text"]) == "short text"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_excerpt_stands_around_the_words_of_the_question(place: int) -> None:
    parts = [FILLER, FILLER, FILLER]
    parts[place] = f"{FILLER[:3000]} The migration deadlocks when two workers start. {FILLER[3000:]}"
    shown = excerpt("".join(parts), terms("why do migrations deadlock?"))
    assert "migration deadlocks" in shown
    assert len(shown) <= EXCERPT_CHARACTERS
    assert shown.startswith("…")
    assert shown.endswith("…")


def test_the_place_with_most_words_wins() -> None:
    text = f"{FILLER} migration {FILLER} migration deadlock workers {FILLER}"
    assert "deadlock workers" in excerpt(text, ["migration", "deadlock", "workers"])


def test_without_any_word_of_the_question_the_matching_end_is_shown() -> None:
    text = f"FIRST {FILLER} LAST"
    assert excerpt(text, ["absent"]).startswith("FIRST")
    assert excerpt(text, ["absent"], late=True).endswith("LAST")


@given(st.text(max_size=6_000), st.lists(st.text(min_size=1, max_size=8), max_size=4), st.booleans())
def test_excerpts_are_bounded_parts_of_the_text(text: str, wanted: list[str], late: bool) -> None:  # noqa: FBT001 -- drawn
    shown = excerpt(text, wanted, late=late)
    assert len(shown) <= EXCERPT_CHARACTERS
    assert shown.strip("…").strip() in text


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("Fix the build\nplease",), "Fix the build"),
        (("\n  ---\n  Fix\tit  ",), "Fix it"),
        (("", "The answer says more.\nLine"), "The answer says more."),
        (("", ""), "(no text)"),
        (("\x00\x1bok",), "ok"),
    ],
)
def test_titles(texts: tuple[str, ...], expected: str) -> None:
    assert title(*texts) == expected


def test_a_long_title_is_trimmed() -> None:
    assert len(title("word " * 100)) <= TITLE_CHARACTERS
    assert title("word " * 100).endswith("…")


def test_terms_are_the_words_that_carry_meaning() -> None:
    assert terms("Why does the build of the API fail, fail?") == ["build", "api", "fail"]
    assert terms("what is it") == ["what", "is", "it"]
    assert terms("?!") == []


def test_forms_of_a_word_are_found() -> None:
    assert found_terms(["caches", "deadlock", "api"], "Caching and DEADLOCKS in the API") == [
        "caches",
        "deadlock",
        "api",
    ]
    assert found_terms(["timeout"], "no such thing") == []
    assert root("api") == "api"
