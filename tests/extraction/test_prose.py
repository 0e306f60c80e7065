from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.extraction.prose import HEAD_CHARACTERS, TAIL_CHARACTERS, cleaned, read_prose


def texts(text: str) -> list[str]:
    return [sentence.text for sentence in read_prose(text).sentences]


def test_sentences_of_a_paragraph_are_separate_and_know_their_place() -> None:
    text = "The cache was stale. It is cleared now, e.g. after a deploy.\n"
    sentences = read_prose(text).sentences
    assert [s.text for s in sentences] == ["The cache was stale.", "It is cleared now, e.g. after a deploy."]
    assert [text[s.start : s.end] for s in sentences] == [s.text for s in sentences]


def test_code_is_no_prose_but_its_place_and_language_are_kept() -> None:
    text = "Use the new call here:\n```python\nfetch(url, timeout=3)\n```\nThat is all there is."
    prose = read_prose(text)
    assert [s.text for s in prose.sentences] == ["Use the new call here:", "That is all there is."]
    (block,) = prose.code
    assert block.language == "python"
    assert text[block.start : block.end].strip() == "fetch(url, timeout=3)"


def test_an_unclosed_fence_does_not_hide_the_rest() -> None:
    assert "The rest is still read here." in texts("Before it all.\n```\nThe rest is still read here.\n")


def test_a_fence_that_opens_inside_a_fence_closes_the_first() -> None:
    prose = read_prose("```\none line here\n```python\nx = 1\n```\nWhat follows is prose again.")
    assert [block.language for block in prose.code] == ["python"]
    assert "What follows is prose again." in [s.text for s in prose.sentences]


@pytest.mark.parametrize(
    "block",
    [
        "<<<<<<< SEARCH\nold code that looks like prose.\n=======\nnew code in its place.\n>>>>>>> REPLACE",
        "<details><summary>Read the file</summary>\nmany lines of a tool's output here\n</details>",
        '<tool-use data-tool-type="shell">\nmany lines of a tool here\n</tool-use>',
        "| name of column | other column |\n|---|---|\n| some cell here | other cell here |",
        "> the console printed this line",
        '  File "app.py", line 3, in start\n    at main (index.js:3:1)',
        "Read file: src/main.py",
    ],
)
def test_edits_tool_echoes_tables_and_traces_are_left_out(block: str) -> None:
    assert texts(f"Something is said before.\n\n{block}\n\nSomething is said after.") == [
        "Something is said before.",
        "Something is said after.",
    ]


def test_bullets_and_headings_are_told_apart() -> None:
    sentences = read_prose(
        "## What changed\n\n- Moved the parser into its own module\n1. Removed the old flag\n"
    ).sentences
    assert [(s.kind, s.section) for s in sentences] == [
        ("heading", "What changed"),
        ("bullet", "What changed"),
        ("bullet", "What changed"),
    ]
    assert sentences[1].text == "Moved the parser into its own module"


def test_a_wrapped_line_is_one_sentence() -> None:
    assert texts("The queue is drained before\nthe process stops.") == [
        "The queue is drained before the process stops."
    ]


def test_short_scraps_are_no_sentences() -> None:
    assert texts("Done.\n\nOK!\n\nYes.") == []


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("**Fixed** the `a*b` case", "Fixed the `a*b` case"),
        ("See [the guide](https://example.org/x) for more", "See the guide for more"),
        ("All tests pass \u2705 \U0001f389", "All tests pass"),
        ("the `__init__` file of snake_case_name", "the `init` file of snake_case_name"),
        ("  two   spaces\tand a tab ", "two spaces and a tab"),
    ],
)
def test_cleaned(raw: str, shown: str) -> None:
    assert cleaned(raw) == shown


def test_of_a_long_text_the_beginning_and_the_end_are_read() -> None:
    middle = "This stands in the middle of it. " * 2_000
    text = f"This is the first sentence.\n\n{middle}\n\nThis is the very last sentence."
    found = read_prose(text).sentences
    assert found[0].text == "This is the first sentence."
    assert found[-1].text == "This is the very last sentence."
    assert sum(s.end - s.start for s in found) <= HEAD_CHARACTERS + TAIL_CHARACTERS


@given(st.text(alphabet=st.sampled_from("ab. \n`*-#|<>?!:é一\U0001f389\r\t"), max_size=300))
def test_every_span_is_the_sentence_whatever_the_text(text: str) -> None:
    for sentence in read_prose(text).sentences:
        assert 0 <= sentence.start < sentence.end <= len(text)
        if sentence.kind != "heading":
            assert cleaned(text[sentence.start : sentence.end]) == sentence.text
