"""The part of a text to show: the place where the question's words stand closest together."""

from __future__ import annotations

import re
from typing import Final

from knowledge_system.retrieval.terms import root

EXCERPT_CHARACTERS: Final = 1_200
TITLE_CHARACTERS: Final = 120
STEPS: Final = 4
"""Places looked at per excerpt length."""
SEARCHED_CHARACTERS: Final = 120_000
"""A longer text is searched for the place only so far from its beginning and its end."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def title(*texts: str) -> str:
    """Return the first line that says something, at most 120 characters, or `(no text)`."""
    for text in texts:
        for line in text.splitlines():
            words = " ".join(_CONTROL.sub(" ", line).split())
            if any(sign.isalnum() for sign in words):
                return words if len(words) <= TITLE_CHARACTERS else words[: TITLE_CHARACTERS - 1].rstrip() + "…"
    return "(no text)"


def excerpt(text: str, wanted: list[str], *, late: bool = False) -> str:
    """Return at most 1200 characters of `text` around the words of the question.

    Where none of them occurs: the end of the text when `late`, else its beginning. Cut ends are marked with `…`.
    """
    text = text.strip()
    if len(text) <= EXCERPT_CHARACTERS:
        return text
    start = _best_start(text, wanted, late=late)
    end = min(len(text), start + EXCERPT_CHARACTERS - 2)
    start, end = _at_breaks(text, start, end)
    return f"{'…' if start else ''}{text[start:end].strip()}{'…' if end < len(text) else ''}"


def _best_start(text: str, wanted: list[str], *, late: bool) -> int:
    last = len(text) - EXCERPT_CHARACTERS + 2
    searched = _searched(text).lower()
    roots = [one for one in map(root, wanted) if one in searched]
    if not roots:
        return last if late else 0
    best, best_count = (last, 0) if late else (0, 0)
    for start in _starts(len(text), last):
        part = text[start : start + EXCERPT_CHARACTERS].lower()
        count = sum(one in part for one in roots)
        if count > best_count or (late and count == best_count):
            best, best_count = start, count
    return best


def _starts(length: int, last: int) -> list[int]:
    step = EXCERPT_CHARACTERS // STEPS
    half = SEARCHED_CHARACTERS // 2
    starts = [start for start in range(0, last, step) if start < half or start > length - half]
    return [*starts, last]


def _searched(text: str) -> str:
    half = SEARCHED_CHARACTERS // 2
    return text if len(text) <= SEARCHED_CHARACTERS else f"{text[:half]}\n{text[-half:]}"


def _at_breaks(text: str, start: int, end: int) -> tuple[int, int]:
    """Move both cuts to the nearest white space inside the excerpt, if there is one near."""
    if start:
        space = re.compile(r"\s").search(text, start, min(end, start + 80))
        start = space.end() if space else start
    if end < len(text):
        space_before = text.rfind(" ", max(start, end - 80), end)
        end = space_before if space_before > start else end
    return start, end
